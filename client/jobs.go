package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// StdLog is the log that holds what a job prints.
const StdLog = "user_logs/std_log.txt"

// Job is a job as ARM shows it. What is not set is not sent.
type Job struct {
	ID         string        `json:"id,omitempty"`
	Name       string        `json:"name,omitempty"`
	Properties JobProperties `json:"properties"`
	System     *SystemData   `json:"systemData,omitempty"`
}

// JobProperties are those of a command job.
type JobProperties struct {
	JobType       string             `json:"jobType"` // Command
	Status        string             `json:"status,omitempty"`
	Command       string             `json:"command,omitempty"`
	ComputeID     string             `json:"computeId,omitempty"`
	EnvironmentID string             `json:"environmentId,omitempty"`
	Experiment    string             `json:"experimentName,omitempty"`
	DisplayName   string             `json:"displayName,omitempty"`
	Description   string             `json:"description,omitempty"`
	Environment   map[string]string  `json:"environmentVariables,omitempty"`
	Inputs        map[string]Input   `json:"inputs,omitempty"`
	Tags          map[string]string  `json:"tags,omitempty"`
	Properties    map[string]string  `json:"properties,omitempty"`
	Limits        *JobLimits         `json:"limits,omitempty"`
	Resources     *JobResources      `json:"resources,omitempty"`
	Services      map[string]Service `json:"services,omitempty"`

	// Read only; Ebb's own additions to Azure's shape.
	Why       string   `json:"statusReason,omitempty"` // why it waits, in one sentence
	CancelWhy string   `json:"cancelReason,omitempty"`
	Error     *Problem `json:"error,omitempty"` // why it failed
	ExitCode  int      `json:"exitCode,omitempty"`
	Start     string   `json:"startTimeUtc,omitempty"`
	End       string   `json:"endTimeUtc,omitempty"`
}

// Input is a value that the command refers to as ${{inputs.NAME}}.
type Input struct {
	Type  string `json:"jobInputType"` // literal
	Value string `json:"value"`
}

// JobLimits bound a job.
type JobLimits struct {
	Type    string `json:"jobLimitsType"`     // Command
	Timeout string `json:"timeout,omitempty"` // ISO 8601, as PT1H
}

// JobResources say how many nodes a job takes.
type JobResources struct {
	InstanceCount int `json:"instanceCount,omitempty"`
}

// Service is where something about a job can be looked at.
type Service struct {
	Type     string `json:"jobServiceType"`
	Endpoint string `json:"endpoint"`
}

// SystemData says who made a resource, and when.
type SystemData struct {
	CreatedBy     string `json:"createdBy"`
	CreatedByType string `json:"createdByType"`
	CreatedAt     string `json:"createdAt"`
}

// Notes are sentences on what the job's nodes do without, as a GPU or isolation.
func (j Job) Notes() []string {
	text := j.Properties.Properties["ebb.notes"]
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// Final reports whether the job is over.
func (j Job) Final() bool {
	switch j.Properties.Status {
	case "Completed", "Failed", "Canceled":
		return true
	}
	return false
}

// Details is what run history knows of a job that ARM does not say.
type Details struct {
	Status string `json:"status"`
	Start  string `json:"startTimeUtc"`
	End    string `json:"endTimeUtc"`
	Error  *struct {
		Error Problem `json:"error"`
	} `json:"error"`
	Warnings []struct {
		Message string `json:"message"`
	} `json:"warnings"`
}

// Jobs are the calls about jobs.
type Jobs struct{ c *Client }

// Jobs returns the calls about the workspace's jobs.
func (c *Client) Jobs() Jobs { return Jobs{c} }

func (s Jobs) path(name string) string { return s.c.file.Workspace() + "/jobs/" + url.PathEscape(name) }

// All yields every job of the workspace, newest first.
func (s Jobs) All(ctx context.Context) iter.Seq2[Job, error] {
	return all[Job](ctx, s.c, s.c.file.Workspace()+"/jobs")
}

// Get returns one job.
func (s Jobs) Get(ctx context.Context, name string) (Job, error) {
	var got Job
	_, err := s.c.Do(ctx, http.MethodGet, s.path(name), nil, &got)
	return got, err
}

// Create submits a job; it is on the server's disk when this returns. The same
// name and body again is the same job; another body is refused.
func (s Jobs) Create(ctx context.Context, name string, want Job) (Job, error) {
	got, _, err := s.Submit(ctx, name, want)
	return got, err
}

// Submit is [Jobs.Create], and tells whether the job was there already.
func (s Jobs) Submit(ctx context.Context, name string, want Job) (got Job, existed bool, err error) {
	a, err := s.c.Do(ctx, http.MethodPut, s.path(name), want, &got)
	return got, a.Status == http.StatusOK, err
}

// Cancel asks for a job's end. The operation ends when the job has.
func (s Jobs) Cancel(ctx context.Context, name string) (*Operation, error) {
	a, err := s.c.Do(ctx, http.MethodPost, s.path(name)+"/cancel", nil, nil)
	if err != nil {
		return nil, err
	}
	return s.c.operationOf(a)
}

// Details returns what run history knows of a job: its error, its times.
func (s Jobs) Details(ctx context.Context, name string) (Details, error) {
	var got Details
	_, err := s.c.Do(ctx, http.MethodGet, "/history/v1.0"+s.c.file.Workspace()+"/runs/"+url.PathEscape(name)+"/details", nil, &got)
	return got, err
}

// pollSeconds is how long one request waits for more of a log.
const pollSeconds = 20

// Stream copies a job's log from offset to w as it grows, over all attempts,
// until the job is over and the log complete. It returns the offset it came to,
// from which it can go on. A restart of the server is ridden out.
func (s Jobs) Stream(ctx context.Context, name, log string, offset int64, w io.Writer) (int64, error) {
	for {
		began := time.Now()
		from := offset
		final := false
		err := s.c.rideOut(ctx, func() (err error) {
			offset, final, err = s.chunk(ctx, name, log, offset, w)
			return err
		})
		if failed, ok := errors.AsType[*writeError](err); ok {
			return offset, failed.error
		}
		if final || err != nil {
			return offset, err
		}
		// A server that answers at once, with nothing, is not asked in a tight loop.
		if offset == from && time.Since(began) < 200*time.Millisecond {
			if err := sleep(ctx, 200*time.Millisecond); err != nil {
				return offset, err
			}
		}
	}
}

// writeError keeps a failure of the reader's own side (a closed pipe) apart
// from the network's, which is ridden out.
type writeError struct{ error }

// chunk asks once. The offset counts what reached w, also when the answer broke off.
func (s Jobs) chunk(ctx context.Context, name, log string, offset int64, w io.Writer) (next int64, final bool, err error) {
	q := url.Values{"name": {log}, "offset": {strconv.FormatInt(offset, 10)}, "wait": {strconv.Itoa(pollSeconds)}}
	resp, err := s.c.send(ctx, request{method: http.MethodGet, path: "/ebb/v1" + s.path(name) + "/log?" + q.Encode()})
	if err != nil {
		return offset, false, err
	}
	defer resp.Body.Close()
	s.c.warn(resp.Header)
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return offset, false, err
		}
		return offset, false, errorOf(resp, body)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			wrote, werr := w.Write(buf[:n])
			offset += int64(wrote)
			if werr != nil {
				return offset, false, &writeError{werr}
			}
		}
		if errors.Is(err, io.EOF) {
			// Only now is the answer known to be whole.
			return offset, resp.Header.Get("X-Ebb-Final") == "true", nil
		}
		if err != nil {
			return offset, false, err
		}
	}
}
