package login

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/core/access"
	"github.com/ebb-compute/ebb/internal/fault"
)

// The endpoints of managed identities give a token for a client's id and
// secret, joined by a colon, in a header ("ebb env --identity" sets it) or, for
// the form of a machine's metadata service, which knows no secret, in the path.
const imdsPath = "/metadata/identity/oauth2/token"

func registerIdentity(reg arm.Registrar, s Services) {
	reg.Public("GET /msi/token", s.appService)
	reg.Public("GET "+imdsPath, s.machine)
	reg.Public("GET /imds/{key}"+imdsPath, s.machine)
}

// wrong is a refusal in the words of these endpoints.
type wrong struct {
	status     int
	code, text string
}

// grant checks who asks, and returns the token's form in both endpoints.
func (s Services) grant(w http.ResponseWriter, r *http.Request, key string, names ...string) (map[string]any, *wrong, error) {
	w.Header().Set("Cache-Control", "no-store")
	resource := arm.Query(r, "resource")
	switch {
	case r.Header.Get("X-Forwarded-For") != "":
		return nil, &wrong{http.StatusBadRequest, "invalid_request", "The identity endpoint does not answer what was forwarded to it."}, nil
	case key == "":
		return nil, &wrong{http.StatusUnauthorized, "unauthorized_client", "The identity endpoint needs the secret that 'ebb env --identity' prints."}, nil
	case !plausible(resource):
		return nil, &wrong{http.StatusBadRequest, "invalid_resource", "The parameter 'resource' is missing, or names no resource."}, nil
	}
	id, secret, _ := strings.Cut(key, ":")
	who, err := s.Clients.Check(r.Context(), s.Tenant, id, secret)
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Unauthorized:
		return nil, &wrong{http.StatusUnauthorized, "unauthorized_client", "The secret is not the one that 'ebb env --identity' prints."}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("check the client %.100q: %w", id, err)
	}
	if bad := asks(r, who, names); bad != nil {
		return nil, bad, nil
	}
	tok, exp, err := s.sign(r, who, resource)
	if err != nil {
		return nil, nil, err
	}
	return map[string]any{
		"access_token": tok, "client_id": who.App, "expires_in": strconv.FormatInt(int64(s.Life.Seconds()), 10), "expires_on": strconv.FormatInt(exp.Unix(), 10),
		"not_before": strconv.FormatInt(s.Now().Unix(), 10), "resource": resource, "token_type": "Bearer",
	}, nil, nil
}

// asks refuses another identity than the one there is, by any of its names.
func asks(r *http.Request, who access.Principal, names []string) *wrong {
	for _, name := range append(names, "object_id", "principal_id", "mi_res_id", "msi_res_id") {
		v := arm.Query(r, name)
		if v != "" && !strings.EqualFold(v, who.App) && !strings.EqualFold(v, who.ID) {
			return &wrong{http.StatusBadRequest, "invalid_request", fmt.Sprintf("Identity not found: %s is '%.100s', and the one identity here has the client id '%s'.", name, v, who.App)}
		}
	}
	return nil
}

// appService is the endpoint of App Service (2019-08-01, IDENTITY_ENDPOINT) and
// of Azure ML's computes (2017-09-01, MSI_ENDPOINT).
func (s Services) appService(w http.ResponseWriter, r *http.Request) (int, any, error) {
	key := r.Header.Get("X-IDENTITY-HEADER")
	if key == "" {
		key = r.Header.Get("Secret")
	}
	body, bad, err := s.grant(w, r, key, "client_id", "clientid")
	if bad != nil {
		return bad.status, map[string]any{"statusCode": bad.status, "message": bad.text, "error": bad.code, "error_description": bad.text}, nil
	}
	return http.StatusOK, body, err
}

// machine is the endpoint of a machine's metadata service.
func (s Services) machine(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if !strings.EqualFold(r.Header.Get("Metadata"), "true") {
		return http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "Required metadata header not specified"}, nil
	}
	key := r.PathValue("key")
	if key == "" {
		key = r.Header.Get("X-IDENTITY-HEADER")
	}
	body, bad, err := s.grant(w, r, key, "client_id")
	if bad != nil {
		return bad.status, map[string]any{"error": bad.code, "error_description": bad.text}, nil
	}
	return http.StatusOK, body, err
}
