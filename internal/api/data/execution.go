package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"

	"github.com/google/uuid"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

// Limits of a project sent as a zip archive (AML_FORCE_EXECUTE_WITH_ZIP), in bytes.
const (
	maxZip      = 1 << 30
	maxUnzipped = 8 << 30
)

func (h *server) execution(reg arm.Registrar) {
	const root = "/execution/v1.0" + workspace
	for _, exp := range []string{"/experiments/{exp}", "/experimentids/{expid}"} {
		reg.Handle("POST "+root+exp+"/snapshotrun", h.in(h.postSnapshotRun))
		reg.Handle("POST "+root+exp+"/startrun", h.in(h.postStartRun))
		reg.Handle("POST "+root+exp+"/runId/{run}/cancel", h.in(h.postCancel))
	}
}

// definition is what the client submits.
type definition struct {
	Configuration json.RawMessage
	SnapshotID    string `json:"SnapshotId"`
	ParentRunID   string `json:"ParentRunId"`
	enclosed      bool   // the code came in the request
}

func (h *server) postSnapshotRun(_ http.ResponseWriter, r *request) (int, any, error) {
	var d definition
	if err := arm.ReadJSON(r.Request, &d); err != nil {
		return 0, nil, err
	}
	if d.SnapshotID == assets.NoSnapshot {
		d.SnapshotID = ""
	}
	return h.submit(r, d)
}

// submit starts a run; its id is the client's, so that asking twice is asking once.
func (h *server) submit(r *request, d definition) (int, any, error) {
	if len(d.Configuration) == 0 || string(d.Configuration) == "null" {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidRunConfiguration", "Configuration", "The run configuration is missing.")
	}
	experiment := r.PathValue("exp")
	if experiment == "" {
		e, err := h.experiment(r)
		if err != nil {
			return 0, nil, err
		}
		experiment = e.Name
	}
	config, env, err := h.inline(r, d.Configuration)
	if err != nil {
		return 0, nil, err
	}
	in, err := jobs.FromRunConfiguration(config)
	if err != nil {
		return 0, nil, err
	}
	if err := h.Assets.FindContext(r.Context(), r.place(), in.Environment.Build); err != nil {
		return 0, nil, err
	}
	in.Name, in.Experiment, in.Code, in.Parent = arm.Query(r.Request, "runId"), experiment, d.SnapshotID, d.ParentRunID
	in.Enclosed = d.enclosed
	p := arm.Caller(r.Context())
	j, _, err := h.Jobs.Submit(r.Context(), p, r.w, in)
	if err != nil {
		return 0, nil, err
	}
	if err := h.Assets.Autosave(r.Context(), p, r.place(), env.name, env.version, env.definition); err != nil {
		return 0, nil, err // the client asks again, and finds its run
	}
	return http.StatusOK, object{"runId": j.Name}, nil
}

// environment is a run's environment.
type environment struct {
	name, version string
	definition    map[string]any
}

// inline puts the definition of a registered environment where a run
// configuration only names one, and the version where it only defines one.
func (h *server) inline(r *request, config json.RawMessage) (json.RawMessage, environment, error) {
	var env environment
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(config, &parts); err != nil {
		return nil, env, fault.Coded(fault.Invalid, "InvalidRunConfiguration", "Configuration", "The run configuration is not a JSON object.")
	}
	name, version, yes := jobs.IsReference(parts["environment"])
	if yes {
		found, err := h.Assets.Environment(r.Context(), r.place(), name, version)
		if err != nil {
			return nil, env, err
		}
		env.definition = found
	} else {
		numbers := json.NewDecoder(bytes.NewReader(parts["environment"]))
		numbers.UseNumber()
		if err := numbers.Decode(&env.definition); err != nil || env.definition == nil {
			return config, env, nil // it is refused where it is read
		}
		if err := h.Assets.Conceal(r.place(), env.definition); err != nil {
			return config, env, err
		}
		env.name, _ = env.definition["name"].(string)
		version, _ = env.definition["version"].(string)
		var err error
		if env.version, err = h.Assets.VersionOf(r.Context(), r.place(), env.name, version, env.definition); err != nil {
			return config, env, err
		}
		if env.version != "" {
			env.definition["version"] = env.version
		}
	}
	var err error
	if parts["environment"], err = json.Marshal(env.definition); err != nil {
		return nil, env, fmt.Errorf("write environment %s: %w", name, err)
	}
	config, err = json.Marshal(parts)
	return config, env, err
}

func (h *server) postCancel(_ http.ResponseWriter, r *request) (int, any, error) {
	if _, err := h.run(r); err != nil {
		return 0, nil, err
	}
	_, err := h.Jobs.Cancel(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("run"), "")
	return http.StatusOK, object{}, err
}

// postStartRun takes the code in the request itself, as a zip archive.
func (h *server) postStartRun(_ http.ResponseWriter, r *request) (code int, body any, err error) {
	if arm.Caller(r.Context()).Run != "" {
		return 0, nil, fault.Coded(fault.Forbidden, "AuthorizationFailed", "", "A run's token may not submit jobs.")
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return 0, nil, fault.Coded(fault.Invalid, "InvalidRequestContent", "", "The request must be a form (multipart/form-data) with the parts runDefinitionFile and projectZipFile.")
	}
	archive, err := os.CreateTemp("", "ebb-project-*.zip")
	if err != nil {
		return 0, nil, fmt.Errorf("make a place for the project: %w", err)
	}
	defer func() { err = errors.Join(err, archive.Close(), os.Remove(archive.Name())) }()
	d, guid, size, err := readForm(parts, archive)
	if err != nil {
		return 0, nil, err
	}
	// Named by its content, the archive sent again is the same snapshot, and so the same run.
	d.enclosed = true
	d.SnapshotID = uuid.NewSHA1(uuid.NameSpaceOID, append(guid, r.w.GUID...)).String()
	if err := h.Assets.ImportZip(r.Context(), arm.Caller(r.Context()), r.place(), d.SnapshotID, archive, size, maxUnzipped); err != nil {
		return 0, nil, err
	}
	return h.submit(r, d)
}

// readForm reads the two parts of the form, the archive into to.
func readForm(parts *multipart.Reader, to io.Writer) (d definition, sum []byte, size int64, err error) {
	bad := func(format string, args ...any) error {
		return fault.Coded(fault.Invalid, "InvalidRequestContent", "", format, args...)
	}
	defined := false
	hash := sha256.New()
	for n := 0; n < 16; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, nil, 0, bad("The form is broken: %s.", err)
		}
		switch part.FormName() {
		case "runDefinitionFile":
			text, err := io.ReadAll(io.LimitReader(part, arm.MaxBody+1))
			if err != nil || len(text) > arm.MaxBody {
				return d, nil, 0, bad("The run definition cannot be read, or has more than %d bytes.", arm.MaxBody)
			}
			if err := arm.Decode(text, &d); err != nil {
				return d, nil, 0, err
			}
			defined = true
		case "projectZipFile":
			if size > 0 {
				return d, nil, 0, bad("The form has two project archives.")
			}
			src := &clientReader{from: io.LimitReader(part, maxZip+1)}
			size, err = io.Copy(io.MultiWriter(to, hash), src)
			if src.bad != nil {
				return d, nil, 0, bad("The project archive ends too early.")
			}
			if err != nil {
				return d, nil, 0, fmt.Errorf("keep the project: %w", err)
			}
			if size > maxZip {
				return d, nil, 0, fault.Coded(fault.TooLarge, "RequestContentTooLarge", "projectZipFile", "The project archive has more than %d bytes.", int64(maxZip))
			}
		}
	}
	if !defined || size == 0 {
		return d, nil, 0, bad("The form must have the parts runDefinitionFile and projectZipFile.")
	}
	return d, hash.Sum(nil), size, nil
}

// clientReader tells the client's errors from the disk's.
type clientReader struct {
	from io.Reader
	bad  error
}

func (c *clientReader) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if err != nil && err != io.EOF {
		c.bad = err
	}
	return n, err
}
