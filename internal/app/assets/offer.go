package assets

import (
	"context"
	"errors"
	"strings"

	"github.com/ebb-compute/ebb/internal/core/near"
	"github.com/ebb-compute/ebb/internal/core/row"
	"github.com/ebb-compute/ebb/internal/fault"
)

// mostOffered is how many names, or versions, are looked through for a refusal.
const mostOffered = 500

// ownEnvironments is the way round what Azure keeps for itself.
const ownEnvironments = "What works is an environment of your own with pip or conda requirements, as a conda file has them (in SDK v2 Environment(name=…, image=…, conda_file=…), in v1 Environment.from_pip_requirements)."

// Registry refuses what lies in a registry, and says what to do instead.
func Registry(ref string) error {
	if strings.Contains(strings.ToLower(ref), "/environments/") {
		return fault.Coded(fault.Unsupported, "NotImplemented", ref, "The environment %.300q lies in a registry. Registries other than azureml, whose curated environments every workspace has, are not part of Ebb. %s", ref, ownEnvironments)
	}
	return fault.Coded(fault.Unsupported, "NotImplemented", ref, "The address %.300q is of a registry. Registries are not part of Ebb yet; register the asset in the workspace.", ref)
}

// noAsset says that an asset is not there, and what is.
func (s *Service) noAsset(ctx context.Context, w Place, c Collection, name, version string) error {
	return s.absent(ctx, w, c, "NotFound", name, version)
}

// missing is noAsset where err says that an environment was not found, in the code
// that SDK v1 knows.
func (s *Service) missing(ctx context.Context, w Place, err error, name, version string) error {
	if !errors.Is(err, fault.NotFound) {
		return err
	}
	return s.absent(ctx, w, Environments, "EnvironmentNotFound", name, version)
}

func (s *Service) absent(ctx context.Context, w Place, c Collection, code, name, version string) error {
	noun := kinds[c].noun
	newest := row.Query{Kind: c.rows(), Parent: nameID(w, c, name), Desc: true}
	list, _, err := s.choose(ctx, newest, Filter{View: "All", Limit: mostOffered}, func(*Asset) bool { return version != "" })
	if err != nil {
		return err
	}
	if len(list) > 0 {
		var versions []string
		for _, a := range list {
			versions = append(versions, a.Version)
		}
		return fault.Coded(fault.NotFound, code, name, "Version %.80q of the %s %.80q was not found in this workspace. It has: %s.", version, noun, name, near.List(version, versions))
	}
	if c == Environments && strings.HasPrefix(strings.ToLower(name), curatedPrefix) {
		return s.noCurated(code, name)
	}
	list, _, err = s.Names(ctx, w, c, Filter{Limit: mostOffered})
	if err != nil {
		return err
	}
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	what := "The workspace has no " + plural(c) + "."
	if len(names) > 0 {
		what = "Its " + plural(c) + ", the nearest first: " + near.List(name, names) + "."
	}
	return fault.Coded(fault.NotFound, code, name, "The %s %.80q was not found in this workspace. %s", noun, name, what)
}

func plural(c Collection) string {
	if c == Data {
		return "data assets"
	}
	if c == Codes {
		return "code assets"
	}
	return string(c)
}
