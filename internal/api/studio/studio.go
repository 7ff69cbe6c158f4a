// Package studio answers the links to Azure's Studio, and to MLflow's pages, that
// clients print. There is no Studio yet: a page says what a link is of, as the link
// itself has it, and which commands show more. It knows nothing of what there is, and
// needs no credential.
//
// Start at [Register].
package studio

import (
	_ "embed" // page.html
	"html/template"
	"net/http"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/fault"
)

//go:embed page.html
var text string

var page = template.Must(template.New("page").Parse(text))

// link is what a link is of.
type link struct {
	What, Name, Workspace, Group string
	Fragment                     bool // it goes on behind a #, which browsers keep to themselves
	Commands                     []string
}

// Title is what a link is of in short; empty: it is the server's address alone.
func (l link) Title() string {
	switch {
	case l.Name != "":
		return l.What + " " + l.Name
	case l.Workspace != "":
		return l.What + " " + l.Workspace
	}
	return ""
}

// Register adds the pages.
func Register(reg arm.Registrar) {
	reg.Public("GET /runs/{name}", show("job", "job show NAME", "job stream NAME", "job download --name NAME --all"))
	reg.Public("GET /experiments/{name}", show("experiment", "job list"))
	reg.Public("GET /experiments/id/{name}", show("experiment", "job list"))
	for _, version := range []string{"v1.0", "v2.0"} { // MLflow's "View run … at": the tracking URI, a # and the run
		reg.Public("GET /mlflow/"+version+"/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}",
			show("workspace", "job list", "job show RUN"))
	}
	reg.Public("GET /", show("workspace", "status", "job list", "compute list"))
}

func show(what string, commands ...string) arm.Handler {
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		l := link{What: what, Name: r.PathValue("name")}
		if l.Name != "" && !plain(l.Name) {
			return 0, nil, fault.New(fault.NotFound, "", "There is nothing at this address: %.100q is not the name of a %s.", l.Name, what)
		}
		flags := ""
		wsid := arm.Query(r, "wsid")
		if ws := r.PathValue("ws"); ws != "" {
			wsid, l.Fragment = "/resourcegroups/"+r.PathValue("rg")+"/workspaces/"+ws, true
		}
		l.Workspace, l.Group = place(wsid)
		if l.Workspace != "" {
			flags = " -w " + l.Workspace + " -g " + l.Group
		}
		for _, c := range commands {
			l.Commands = append(l.Commands, "ebb "+strings.ReplaceAll(c, "NAME", l.Name)+flags)
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		w.WriteHeader(http.StatusOK)
		_ = page.Execute(w, l) // what cannot be written any more is the client's loss
		return 0, nil, nil
	}
}

// place reads a workspace's id, which SDK v1 writes without its provider. What could
// not stand in a command is left out.
func place(wsid string) (workspace, group string) {
	words := strings.Split(wsid, "/")
	for i := 0; i+1 < len(words); i++ {
		switch strings.ToLower(words[i]) {
		case "resourcegroups":
			group = words[i+1]
		case "workspaces":
			workspace = words[i+1]
		}
	}
	if !plain(workspace) || !plain(group) {
		return "", ""
	}
	return workspace, group
}

// plain reports whether a name means the same to every shell.
func plain(name string) bool {
	return name != "" && len(name) <= 255 && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}
