// Package data is the workspace's data plane in the words of SDK v1: run
// history, content, execution, artifacts, metrics, environments, datastores
// (reference/wire/sdk-v1.md), and the log that the CLI streams.
//
// It turns requests into calls of app/jobs and app/assets, and their answers
// into the client's shapes. It decides nothing but shapes.
//
// Start at [Register].
package data

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/assets"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/fault"
	"github.com/ebb-compute/ebb/internal/token"
)

// Blobs is what the data plane needs of the blob store.
type Blobs = assets.Files

// Keys signs what is handed out. *token.Keys is one.
type Keys interface {
	SAS(account, container, blob, permissions string, expiry time.Time) url.Values
	AccountKey(account string) []byte
	SignRun(g token.RunGrant, now time.Time) (string, error)
}

var _ Keys = (*token.Keys)(nil)

// Services is what answers. All fields without a default are needed.
type Services struct {
	Jobs   *jobs.Service
	Assets *assets.Service
	Blobs  Blobs
	Keys   Keys
	Now    func() time.Time // site clock
	// MaxFile is how large a file of a run may be that comes in one request, in
	// bytes; larger ones go to the blob store in blocks. Default: 1 GiB.
	MaxFile int64
}

// How long what is handed out stays good.
const (
	uploadFor   = 12 * time.Hour // a signed place for one upload
	downloadFor = 24 * time.Hour // a signed address of a file or log
	storeFor    = 24 * time.Hour // the default datastore's credential
	tokenFor    = 24 * time.Hour // a run's token; it is renewed by the client
)

const workspace = "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}"

// server holds the handlers.
type server struct {
	Services
	streams streams
}

// Register adds the data plane's routes.
func Register(reg arm.Registrar, s Services) {
	if s.MaxFile == 0 {
		s.MaxFile = 1 << 30
	}
	h := &server{Services: s}
	h.history(reg)
	h.execution(reg)
	h.content(reg)
	h.artifacts(reg)
	h.metrics(reg)
	h.environments(reg)
	h.datastores(reg)
	h.logs(reg)
	h.mlflow(reg)
	h.rundata(reg)
	notBuilt(reg)
}

// notBuilt names what SDK v1 can ask for and Ebb does not have.
func notBuilt(reg arm.Registrar) {
	for prefix, feature := range map[string]string{
		"/hyperdrive":    "HyperDrive (sweep jobs)",
		"/jasmine":       "AutoML",
		"/pipelines":     "Pipelines",
		"/aether":        "Pipelines",
		"/studioservice": "Pipelines (designer)",
		"/dataset":       "Datasets",
		"/datacache":     "Data caches",
		"/credential":    "Workspace secrets",
		"/schedule":      "Schedules",
	} {
		arm.NotBuilt(reg, prefix, feature)
	}
	for kind, feature := range map[string]string{
		"models": "Models", "images": "Images of models", "profiles": "Profiles of models", "services": "Web services",
	} {
		noModels(reg, "/modelmanagement/{version}"+workspace+"/"+kind, feature)
	}
	noModels(reg, "/modelmanagement", "Model management and web services")
	for action, feature := range map[string]string{
		"localrun": "Runs on the user's own machine (target \"local\")", "localprepare": "Preparing environments on the user's own machine",
		"prepare": "Preparing environments ahead of a run", "snapshotprepare": "Preparing environments ahead of a run",
		"checkprepare": "Preparing environments ahead of a run", "snapshotcheckprepare": "Preparing environments ahead of a run",
		"clean": "Cleaning a compute's caches",
	} {
		arm.NotBuilt(reg, "/execution/v1.0"+workspace+"/experiments/{exp}/"+action, feature)
	}
}

// noModels answers a part of model management. Its clients read an error's words at
// the top of the body, where others of SDK v1 read them in "error": both are there.
func noModels(reg arm.Registrar, pattern, feature string) {
	const code = "NotImplemented"
	message := feature + " are not part of Ebb yet."
	h := func(w http.ResponseWriter, _ *http.Request) (int, any, error) {
		w.Header().Set("x-ms-error-code", code)
		details := []object{{"code": code, "message": message}}
		return http.StatusBadRequest, object{
			"code": code, "statusCode": http.StatusBadRequest, "message": code + ": " + message, "details": details,
			"correlation": object{"RequestId": w.Header().Get("x-ms-request-id")},
			"error":       object{"code": code, "message": message, "details": []object{}},
		}, nil
	}
	reg.Public(pattern, h)
	reg.Public(pattern+"/{below...}", h)
}

// request is a call within a workspace.
type request struct {
	*http.Request
	w     jobs.Workspace
	hosts arm.Hosts
	blobs bool // addresses of files must look like a blob's, also those of logs (azureml-mlflow reads no others)
}

func (r *request) place() assets.Place { return assets.Place{ID: r.w.ID, GUID: r.w.GUID} }

// in wraps a handler of a workspace's address: the workspace is there, and the
// caller may touch it, or the handler is not called.
func (h *server) in(f func(w http.ResponseWriter, r *request) (int, any, error)) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		id := armid.Workspace(r.PathValue("sub"), r.PathValue("rg"), r.PathValue("ws"))
		ws, err := h.Jobs.Workspace(r.Context(), arm.Caller(r.Context()), id)
		if err != nil {
			return 0, nil, err
		}
		return f(w, &request{Request: r, w: ws, hosts: arm.HostsOf(r)})
	}
}

// object is a JSON object in an answer.
type object = map[string]any

// maxList is how large a body may be that lists files or metrics, in bytes.
const maxList = 32 << 20

// readLarge reads a JSON body that may list many files.
func readLarge(r *request, v any) error {
	b, err := arm.ReadBody(r.Request, maxList)
	if err != nil {
		return err
	}
	return arm.Decode(b, v)
}

// readOptional reads a JSON body that may be missing.
func readOptional(r *request, v any) error {
	b, err := arm.ReadBody(r.Request, arm.MaxBody)
	if err != nil || len(strings.TrimSpace(string(b))) == 0 {
		return err
	}
	return arm.Decode(b, v)
}

// page is a list with its continuation token, null on the last page.
func page(value any, next string) object {
	return object{"value": value, "continuationToken": nullable(next)}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// stamp writes a time as the service does; null for none.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// raw is JSON to be passed on, null for none.
func raw(b json.RawMessage) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// none makes an empty object of a nil map: clients index it.
func none(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// blobURL is the signed address of a blob.
func (h *server) blobURL(r *request, container, blob, permissions string, valid time.Duration) string {
	account := armid.Account(r.w.GUID)
	q := h.Keys.SAS(account, container, blob, permissions, h.Now().Add(valid))
	base := r.hosts.Blob(account)
	if own := r.hosts.Own(); own != "" && r.blobs { // by the suffix of the cloud's metadata
		base = "https://" + account + ".blob.core.x@" + own
	}
	return base + (&url.URL{Path: "/" + container + "/" + blob}).EscapedPath() + "?" + q.Encode()
}

// root is the base address of the data plane, as this client knows it.
func (r *request) root() string { return r.hosts.Data(r.w.Location) }

// dcid takes the run id off an artifact container's name.
func dcid(container string) (string, error) {
	if len(container) < 6 || !strings.EqualFold(container[:5], "dcid.") {
		return "", fault.Coded(fault.NotFound, "ContainerNotFound", container, "The artifact container %.80q was not found; a run's is named dcid.<run id>.", container)
	}
	return container[5:], nil
}
