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
	CodeID        string             `json:"codeId,omitempty"`
	ComputeID     string             `json:"computeId,omitempty"`
	EnvironmentID string             `json:"environmentId,omitempty"`
	Experiment    string             `json:"experimentName,omitempty"`
	DisplayName   string             `json:"displayName,omitempty"`
	Description   string             `json:"description,omitempty"`
	Environment   map[string]string  `json:"environmentVariables,omitempty"`
	Inputs        map[string]Input   `json:"inputs,omitempty"`
	Outputs       map[string]Output  `json:"outputs,omitempty"`
	Tags          map[string]string  `json:"tags,omitempty"`
	Properties    map[string]string  `json:"properties,omitempty"`
	Limits        *JobLimits         `json:"limits,omitempty"`
	Resources     *JobResources      `json:"resources,omitempty"`
	Distribution  map[string]any     `json:"distribution,omitempty"`
	Identity      map[string]string  `json:"identity,omitempty"`
	Queue         map[string]any     `json:"queueSettings,omitempty"`
	Services      map[string]Service `json:"services,omitempty"`
	Archived      bool               `json:"isArchived,omitempty"`

	// Read only; Ebb's own additions to Azure's shape.
	Why       string   `json:"statusReason,omitempty"` // why it waits, in one sentence
	CancelWhy string   `json:"cancelReason,omitempty"`
	Error     *Problem `json:"error,omitempty"` // why it failed
	ExitCode  int      `json:"exitCode,omitempty"`
	Start     string   `json:"startTimeUtc,omitempty"`
	End       string   `json:"endTimeUtc,omitempty"`
}

// Input is what the command refers to as ${{inputs.NAME}}: a value, or data.
type Input struct {
	Type  string `json:"jobInputType"` // literal, uri_file, uri_folder, mltable, custom_model …
	Value string `json:"value,omitempty"`
	URI   string `json:"uri,omitempty"`
	Mode  string `json:"mode,omitempty"` // ReadOnlyMount, Download, Direct
}

// Output is data that a job leaves, which the command refers to as
// ${{outputs.NAME}}.
type Output struct {
	Type         string `json:"jobOutputType"`
	URI          string `json:"uri,omitempty"`  // empty: the server chooses
	Mode         string `json:"mode,omitempty"` // ReadWriteMount, Upload
	AssetName    string `json:"assetName,omitempty"`
	AssetVersion string `json:"assetVersion,omitempty"`
}

// JobLimits bound a job.
type JobLimits struct {
	Type    string `json:"jobLimitsType"`     // Command
	Timeout string `json:"timeout,omitempty"` // ISO 8601, as PT1H
}

// JobResources say what a job takes.
type JobResources struct {
	InstanceCount int               `json:"instanceCount,omitempty"`
	InstanceType  string            `json:"instanceType,omitempty"`
	ShmSize       string            `json:"shmSize,omitempty"`
	DockerArgs    string            `json:"dockerArgs,omitempty"`
	Properties    map[string]string `json:"properties,omitempty"`
}

// Service is where something about a job can be looked at, or a way into it.
type Service struct {
	Type       string            `json:"jobServiceType"`
	Endpoint   string            `json:"endpoint,omitempty"`
	Status     string            `json:"status,omitempty"`
	Port       int               `json:"port,omitempty"`
	Nodes      map[string]string `json:"nodes,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// SystemData says who made a resource and changed it last, and when.
type SystemData struct {
	CreatedBy      string `json:"createdBy"`
	CreatedByType  string `json:"createdByType"`
	CreatedAt      string `json:"createdAt"`
	ModifiedBy     string `json:"lastModifiedBy"`
	ModifiedByType string `json:"lastModifiedByType"`
	ModifiedAt     string `json:"lastModifiedAt"`
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

// Listed yields the jobs of a view, newest first.
func (s Jobs) Listed(ctx context.Context, view View) iter.Seq2[Job, error] {
	return all[Job](ctx, s.c, s.c.file.Workspace()+"/jobs?listViewType="+string(view))
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

// Change changes what run history keeps of a job: that it is hidden, its display
// name, description or tags.
func (s Jobs) Change(ctx context.Context, job Job, change map[string]any) error {
	experiment := job.Properties.Experiment
	if experiment == "" {
		experiment = "Default"
	}
	path := "/history/v1.0" + s.c.file.Workspace() + "/experiments/" + url.PathEscape(experiment) + "/runs/" + url.PathEscape(job.Name)
	_, err := s.c.Do(ctx, http.MethodPatch, path, change, nil)
	return err
}

// JobFile is a file that a job left, with a signed address to get it from.
type JobFile struct {
	Path string `json:"path"`
	URI  string `json:"contentUri"`
}

// Files yields the files that a job left: logs, and what it wrote to outputs.
func (s Jobs) Files(ctx context.Context, name string) iter.Seq2[JobFile, error] {
	path := "/artifact/v2.0" + s.c.file.Workspace() + "/artifacts/prefix/contentinfo/ExperimentRun/dcid." + url.PathEscape(name)
	return continued[JobFile](func(token string, page any) error {
		_, err := s.c.Do(ctx, http.MethodGet, path+"?continuationToken="+url.QueryEscape(token), nil, page)
		return err
	})
}

// continued yields every element of lists that go on with a token.
func continued[T any](ask func(token string, page any) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			var page struct {
				Value []T    `json:"value"`
				Token string `json:"continuationToken"`
			}
			if err := ask(token, &page); err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page.Value {
				if !yield(v, nil) {
					return
				}
			}
			if token = page.Token; token == "" {
				return
			}
		}
	}
}

// MetricValue is one point of a metric, by the names of its columns.
type MetricValue struct {
	Data map[string]any `json:"data"`
}

// MetricNames yields the metrics that a job has logged.
func (s Jobs) MetricNames(ctx context.Context, name string) iter.Seq2[string, error] {
	type metric struct {
		Key struct {
			Name string `json:"name"`
		} `json:"metricKey"`
	}
	path := "/metric/v2.0" + s.c.file.Workspace() + "/runs/" + url.PathEscape(name) + "/list"
	return func(yield func(string, error) bool) {
		for m, err := range continued[metric](func(token string, page any) error {
			_, err := s.c.Do(ctx, http.MethodPost, path, map[string]any{"continuationToken": token}, page)
			return err
		}) {
			if !yield(m.Key.Name, err) {
				return
			}
		}
	}
}

// Metric yields the points of a metric, oldest first.
func (s Jobs) Metric(ctx context.Context, name, metric string) iter.Seq2[MetricValue, error] {
	path := "/metric/v2.0" + s.c.file.Workspace() + "/runs/" + url.PathEscape(name) + "/full"
	return continued[MetricValue](func(token string, page any) error {
		_, err := s.c.Do(ctx, http.MethodPost, path, map[string]any{"metricName": metric, "continuationToken": token}, page)
		return err
	})
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
