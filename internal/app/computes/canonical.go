package computes

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ebb-compute/ebb/internal/app/workspaces"
	"github.com/ebb-compute/ebb/internal/core/armid"
	"github.com/ebb-compute/ebb/internal/core/quota"
	"github.com/ebb-compute/ebb/internal/fault"
)

const (
	defaultSize = "STANDARD_DS3_V2" // the portal's and CLI v2's
	defaultIdle = "PT120S"          // v2 and the documentation; SDK v1 always sends PT1800S
	// mostNodes is the highest limit that Azure configures for a cluster.
	mostNodes = 65_000
	// longestIdle keeps durations far from overflow, in seconds: ten years.
	longestIdle = 10 * 365 * 24 * 3600
	mostTags    = 50
)

// wanted is a request made canonical: the document to keep, and what follows from it.
type wanted struct {
	resource map[string]any // top level of the resource, without id, name, type
	inner    map[string]any // its properties.properties
	machine  quota.Machine
	region   string
	low      bool
	min, max int
	idle     time.Duration
	warnings []string
	instance bool // a compute instance, not a cluster
}

// Read-only properties: sent back by clients that change what they read, and ignored.
var (
	readOnlyTop   = []string{"id", "name", "type", "systemData", "etag", "identity"} // identity: see identify
	readOnlyProps = []string{"provisioningState", "provisioningErrors", "createdOn", "modifiedOn", "isAttachedCompute", "resourceId"}
	// immutable properties of what exists (terraform ForceNew): a PUT may leave them out
	// or repeat them.
	immutableProps = []string{"computeLocation", "description", "disableLocalAuth"}
)

// rules are what the properties.properties of one type of compute may do.
type rules struct {
	readOnly, immutable, mutable []string
}

var (
	clusterRules = rules{
		readOnly:  []string{"allocationState", "allocationStateTransitionTime", "currentNodeCount", "targetNodeCount", "nodeStateCounts", "errors"},
		immutable: []string{"osType", "vmSize", "vmPriority", "virtualMachineImage", "isolatedNetwork", "userAccountCredentials", "subnet", "remoteLoginPortPublicAccess", "enableNodePublicIp"},
		mutable:   []string{"scaleSettings"},
	}
	instanceRules = rules{
		readOnly:  []string{"osImageMetadata", "connectivityEndpoints", "applications", "createdBy", "errors", "state", "lastOperation", "containers", "dataDisks", "dataMounts", "versions"},
		immutable: []string{"vmSize", "subnet", "sshSettings", "computeInstanceAuthorizationType", "personalComputeInstanceSettings", "setupScripts", "enableNodePublicIp"},
		mutable:   []string{"idleTimeBeforeShutdown", "schedules", "applicationSharingPolicy", "customServices"},
	}
)

func (w *wanted) rules() rules {
	if w.instance {
		return instanceRules
	}
	return clusterRules
}

// canonical checks a body and brings it into the form that is kept: read-only parts and
// secrets dropped, enumerations in Azure's spelling, defaults filled in, everything else
// as it came. have is what exists; nil: nothing. The body is not changed.
func canonical(body map[string]any, info workspaces.Info, name string, have *stored) (wanted, error) {
	w := wanted{resource: maps.Clone(body)}
	if w.resource == nil {
		w.resource = map[string]any{}
	}
	if n, ok := w.resource["name"].(string); ok && !strings.EqualFold(n, name) {
		return w, invalid("name", "The name in the body is '%.64s' but the name in the address is '%s'.", n, name)
	}
	drop(w.resource, readOnlyTop)
	props, err := object(body, "properties")
	if err != nil {
		return w, err
	}
	if props == nil {
		return w, invalid("properties", "The property 'properties' is required.")
	}
	drop(props, readOnlyProps)
	if w.inner, err = object(props, "properties"); err != nil {
		return w, err
	}
	if w.inner == nil {
		w.inner = map[string]any{}
	}
	if subnet, ok := w.inner["subnet"].(map[string]any); ok && (subnet["id"] == nil || subnet["id"] == "") {
		delete(w.inner, "subnet") // as templates send it for none, and SDK v2's update for "as it is"
	}
	if err := w.kindOf(props, have); err != nil {
		return w, err
	}
	drop(w.inner, w.rules().readOnly)
	w.resource["properties"], props["properties"] = props, w.inner

	var was map[string]any // the canonical properties.properties of what exists
	if have != nil {
		old, _ := have.Resource["properties"].(map[string]any)
		was, _ = old["properties"].(map[string]any)
		if w.noLogin(was) && props["disableLocalAuth"] != nil && old["disableLocalAuth"] != nil {
			if err := w.words(props); err != nil {
				return w, err
			}
			delete(props, "disableLocalAuth") // says nothing where nobody can log in
		}
		keep(props, old, immutableProps)
		keep(w.inner, was, w.rules().immutable)
	}
	dropNulls(props, immutableProps)
	dropNulls(w.inner, w.rules().immutable)
	checks := []func() error{
		func() error { return w.place(props, info, have) }, func() error { return w.words(props) }, w.size, w.subnet, w.tags,
	}
	if w.instance {
		checks = append(checks, func() error { return w.beside(info) }, w.ssh, w.person, w.rest)
	} else {
		checks = append(checks, w.priority, w.scale, func() error { return w.network(was) }, func() error { return w.login(was) })
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return w, err
		}
	}
	if have != nil {
		return w, unchanged(have, props, w.inner, w.rules())
	}
	return w, nil
}

// The types of compute there are here.
const (
	clusterType  = "AmlCompute"
	instanceType = "ComputeInstance"
)

// kindOf accepts clusters and instances, and names what else Azure has. have is what exists.
func (w *wanted) kindOf(props map[string]any, have *stored) error {
	t, err := text(props, "computeType", "properties.computeType")
	if err != nil {
		return err
	}
	if t == "" && have != nil {
		t = have.computeType()
	}
	if t == "" {
		return invalid("properties.computeType", "The property 'computeType' is required. For a cluster it is 'AmlCompute'.")
	}
	for _, ours := range []string{clusterType, instanceType} {
		if !strings.EqualFold(t, ours) {
			continue
		}
		if have != nil && have.computeType() != ours {
			return fault.Coded(fault.Invalid, "PropertyChangeNotAllowed", "properties.computeType",
				"The compute '%s' is of type %s and cannot become one of type %s. Delete it first, or choose another name.", have.Name, have.computeType(), ours)
		}
		props["computeType"], w.instance = ours, ours == instanceType
		return nil
	}
	for _, other := range []string{"AKS", "Kubernetes", "VirtualMachine", "HDInsight", "Databricks", "DataFactory", "DataLakeAnalytics", "SynapseSpark"} {
		if strings.EqualFold(t, other) {
			return fault.Coded(fault.Unsupported, "NotImplemented", "properties.computeType", "Computes of type %s are not part of Ebb yet; AmlCompute clusters and compute instances are.", other)
		}
	}
	return invalid("properties.computeType", "'%.64s' is not a type of compute. For a cluster it is 'AmlCompute'.", t)
}

// place finds the region: computeLocation, else location, else the workspace's.
func (w *wanted) place(props map[string]any, info workspaces.Info, have *stored) error {
	location, err := text(w.resource, "location", "location")
	if err != nil {
		return err
	}
	if have != nil {
		old, _ := have.Resource["location"].(string)
		if location != "" && armid.Region(location) != old {
			return fault.Coded(fault.Conflict, "InvalidResourceLocation", have.ID,
				"The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%.64s'. Please select a new resource name.", have.Name, old, location)
		}
		location = old
	}
	if location == "" {
		location = info.Region
	}
	if err := CheckRegion(location); err != nil {
		return err
	}
	at, err := text(props, "computeLocation", "properties.computeLocation")
	if err != nil {
		return err
	}
	if at == "" {
		at = location
	}
	if err := CheckRegion(at); err != nil {
		return err
	}
	w.region = armid.Region(at)
	w.resource["location"], props["computeLocation"] = armid.Region(location), w.region
	return nil
}

// CheckRegion refuses what is no region of Azure, and names those that are.
func CheckRegion(name string) error {
	_, err := workspaces.CheckRegion(name, armid.ComputeType)
	return err
}

// words checks the outer properties that are only kept.
func (w *wanted) words(props map[string]any) error {
	if _, err := text(props, "description", "properties.description"); err != nil {
		return err
	}
	return flag(props, "disableLocalAuth", "properties.disableLocalAuth", false)
}

// noLogin reports whether a cluster is without a user for SSH, and stays so: local
// authentication is then off, whatever disableLocalAuth says. SDK v2 always sends
// true for such a cluster, which other clients leave false.
func (w *wanted) noLogin(was map[string]any) bool {
	return !w.instance && was["userAccountCredentials"] == nil
}

// size checks vmSize.
func (w *wanted) size() error {
	typed, err := text(w.inner, "vmSize", "properties.properties.vmSize")
	if err != nil {
		return err
	}
	if typed == "" {
		typed = defaultSize
	}
	m, ok := quota.Lookup(typed)
	if !ok {
		return unknownSize(typed)
	}
	w.machine = m
	w.inner["vmSize"] = m.Canonical()
	if m.Retired != "" {
		w.warnings = append(w.warnings, m.Warning())
	}
	return nil
}

// priority checks vmPriority and osType.
func (w *wanted) priority() error {
	priority, err := choice(w.inner, "vmPriority", "Dedicated", "Dedicated", "LowPriority")
	if err != nil {
		return err
	}
	w.low = priority == "LowPriority"
	if m := w.machine; w.low && !m.LowPriority {
		return fault.Coded(fault.Invalid, "UnsupportedVMSizeForLowPriority", "properties.properties.vmPriority",
			"The VM size %s is not allowed for LowPriority. Please convert to Dedicated or use a different VM size.", m.Canonical())
	}
	system, err := choice(w.inner, "osType", "Linux", "Linux", "Windows")
	if err != nil {
		return err
	}
	if system == "Windows" {
		w.warnings = append(w.warnings, "The cluster asks for Windows; the nodes of this server run what the server's machine runs.")
	}
	return nil
}

// unknownSize names the sizes that may be meant; all of them, as Azure does, in the
// details, which some clients print and some do not.
func unknownSize(typed string) error {
	hint := ""
	meant, names := quota.Near(typed, 5)
	if meant != "" {
		hint = " Did you mean " + meant + "?"
	}
	e := fault.Coded(fault.Invalid, "InvalidPropertyValue", "properties.properties.vmSize",
		"The specified value %.64s for property Cluster.Properties.VMSize is not a supported VM size.%s The nearest are %s. See additional details for supported VM sizes.", typed, hint, strings.Join(names, ", "))
	e.Details = []fault.Detail{{Code: "SupportedVMSizes", Msg: quota.SupportedList()}}
	return e
}

// scale checks scaleSettings.
func (w *wanted) scale() error {
	const at = "properties.properties.scaleSettings"
	s, err := object(w.inner, "scaleSettings")
	if err != nil {
		return err
	}
	if s == nil || s["maxNodeCount"] == nil {
		return invalid(at+".maxNodeCount", "The maximum number of nodes is required: scaleSettings.maxNodeCount.")
	}
	if w.max, err = count(s, "maxNodeCount", at); err != nil {
		return err
	}
	if w.min, err = count(s, "minNodeCount", at); err != nil {
		return err
	}
	if w.min > w.max {
		return invalid(at, "The maximum number of nodes (%d) must be greater than or equal to the minimum (%d).", w.max, w.min)
	}
	idle, err := idleTime(s["nodeIdleTimeBeforeScaleDown"])
	if err != nil {
		return invalid(at+".nodeIdleTimeBeforeScaleDown", "%s.", sentence(err))
	}
	if w.idle, err = Duration(idle); err != nil {
		return invalid(at+".nodeIdleTimeBeforeScaleDown", "%s.", sentence(err))
	}
	s["minNodeCount"], s["maxNodeCount"], s["nodeIdleTimeBeforeScaleDown"] = w.min, w.max, idle
	w.inner["scaleSettings"] = s
	if w.min > 0 {
		w.warnings = append(w.warnings, MinNodesNote)
	}
	return nil
}

// count reads a number of nodes; missing: 0.
func count(s map[string]any, key, at string) (int, error) {
	n := int64(0)
	switch v := s[key].(type) {
	case nil:
	case json.Number:
		f, err := v.Float64()
		if err != nil || f != float64(int64(f)) {
			return 0, invalid(at+"."+key, "'%s' must be a whole number, not %.32s.", key, v)
		}
		n = int64(f)
	case int: // canonical already
		n = int64(v)
	default:
		return 0, invalid(at+"."+key, "'%s' must be a whole number.", key)
	}
	if n < 0 || n > mostNodes {
		return 0, invalid(at+"."+key, "'%s' is %d; it must be from 0 to %d.", key, n, mostNodes)
	}
	return int(n), nil
}

// idleTime returns the idle time in ISO 8601. Seen in the wild besides a duration: "" for 0
// (SDK v1), a number of seconds (a Bicep file), nothing (the quickstart template).
func idleTime(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return defaultIdle, nil
	case string:
		t := strings.TrimSpace(v)
		if t == "" {
			return "PT0S", nil
		}
		return t, nil
	case json.Number:
		if n, err := v.Int64(); err == nil && n >= 0 {
			return fmt.Sprintf("PT%dS", n), nil
		}
		return "", fmt.Errorf("the idle time %.32s is not a whole number of seconds", v)
	}
	return "", fmt.Errorf("the idle time must be an ISO 8601 duration such as PT120S")
}

// tags checks that they are words.
func (w *wanted) tags() error {
	given, err := object(w.resource, "tags")
	if err != nil {
		return err
	}
	if len(given) > mostTags {
		return fault.Coded(fault.Invalid, "InvalidTags", "tags", "There are %d tags; at most %d are allowed.", len(given), mostTags)
	}
	for k, v := range given {
		s, ok := v.(string)
		if !ok || len(k) > 512 || len(s) > 256 {
			return fault.Coded(fault.Invalid, "InvalidTags", "tags", "The tag '%.64s' must have a string of at most 256 characters for a value, and a name of at most 512.", k)
		}
	}
	if given == nil {
		given = map[string]any{}
	}
	w.resource["tags"] = given
	return nil
}

// unchanged refuses other values of what cannot be changed. props and inner are canonical.
func unchanged(have *stored, props, inner map[string]any, of rules) error {
	old, _ := have.Resource["properties"].(map[string]any)
	was, _ := old["properties"].(map[string]any)
	for _, c := range []struct {
		at     string
		keys   []string
		is, be map[string]any
	}{{"properties.", immutableProps, old, props}, {"properties.properties.", of.immutable, was, inner}} {
		for _, k := range c.keys {
			a, err := json.Marshal(c.is[k])
			if err != nil {
				return fmt.Errorf("encode %s: %w", k, err)
			}
			b, err := json.Marshal(c.be[k])
			if err != nil {
				return fmt.Errorf("encode %s: %w", k, err)
			}
			if string(a) != string(b) {
				return fault.Coded(fault.Invalid, "PropertyChangeNotAllowed", c.at+k,
					"The property '%s' of an existing compute cannot be changed: it is %.200s. Only %s, identity and tags can; for anything else delete the compute or create another.", k, a, strings.Join(of.mutable, ", "))
			}
		}
	}
	return nil
}
