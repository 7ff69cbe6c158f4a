package cli

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"github.com/ebb-compute/ebb/client"
)

// computeSpec is az ml's amlcompute schema.
type computeSpec struct {
	Schema           string            `yaml:"$schema"`
	Type             string            `yaml:"type"`
	Name             string            `yaml:"name"`
	Description      string            `yaml:"description"`
	Location         string            `yaml:"location"`
	Size             string            `yaml:"size"`
	Tier             string            `yaml:"tier"`
	Min              int               `yaml:"min_instances"`
	Max              int               `yaml:"max_instances"`
	Idle             int64             `yaml:"idle_time_before_scale_down"`
	Tags             map[string]string `yaml:"tags"`
	SSHPublic        *bool             `yaml:"ssh_public_access_enabled"` // nil: not said
	EnableNodePublic *bool             `yaml:"enable_node_public_ip"`
	SSH              struct {
		User     string `yaml:"admin_username"`
		Key      string `yaml:"ssh_key_value"`
		Password string `yaml:"admin_password"`
	} `yaml:"ssh_settings"`
	Network struct {
		VNet   string `yaml:"vnet_name"`
		Subnet string `yaml:"subnet"`
	} `yaml:"network_settings"`
	Identity struct {
		Type         string         `yaml:"type"`
		UserAssigned []userIdentity `yaml:"user_assigned_identities"`
	} `yaml:"identity"`
}

// userIdentity is an ARM id, alone or as {resource_id: …}.
type userIdentity string

// UnmarshalYAML takes both forms.
func (u *userIdentity) UnmarshalYAML(n *yaml.Node) error {
	var object struct {
		ID string `yaml:"resource_id"`
	}
	if n.Kind == yaml.MappingNode {
		if err := n.Decode(&object); err != nil {
			return err
		}
		*u = userIdentity(object.ID)
		return nil
	}
	return n.Decode((*string)(u))
}

// spec joins the file and the flags; flags win.
func (f *computeFlags) spec(flags *pflag.FlagSet, args []string) (computeSpec, error) {
	s := computeSpec{Min: f.min, Max: f.max, Idle: 120}
	if f.file != "" {
		s.Max = 1 // the schema's default, where the flag's is the SDK's
		if err := readYAML(f.file, &s); err != nil {
			return s, err
		}
	}
	if len(args) > 0 {
		if f.name != "" && f.name != args[0] {
			return s, usagef("two names: %q and %q", f.name, args[0])
		}
		f.name = args[0]
	}
	for _, over := range []struct {
		flag  string
		field *string
	}{
		{f.name, &s.Name}, {f.size, &s.Size}, {f.tier, &s.Tier}, {f.location, &s.Location}, {f.description, &s.Description},
		{f.vnet, &s.Network.VNet}, {f.subnet, &s.Network.Subnet},
		{f.adminUser, &s.SSH.User}, {f.sshKey, &s.SSH.Key}, {f.adminSecret, &s.SSH.Password},
	} {
		if over.flag != "" {
			*over.field = over.flag
		}
	}
	if flags.Changed("min-instances") {
		s.Min = f.min
	}
	if flags.Changed("max-instances") {
		s.Max = f.max
	}
	if f.idle.set {
		s.Idle = f.idle.value
	}
	if flags.Changed("ssh-public-access-enabled") {
		s.SSHPublic = &f.sshPublic
	}
	if flags.Changed("type") || s.Type == "" {
		s.Type = f.kind
	}
	if flags.Changed("identity-type") || flags.Changed("user-assigned-identities") {
		s.Identity.Type, s.Identity.UserAssigned = f.identity, nil
		for _, id := range f.userIdentities {
			s.Identity.UserAssigned = append(s.Identity.UserAssigned, userIdentity(id))
		}
	}
	if err := f.mergeTags(&s); err != nil {
		return s, err
	}
	return s, s.check()
}

func (f *computeFlags) mergeTags(s *computeSpec) error {
	tags, err := pairs("--tags", f.tags)
	if err != nil {
		return err
	}
	for k, v := range tags {
		if s.Tags == nil {
			s.Tags = map[string]string{}
		}
		s.Tags[k] = v
	}
	return nil
}

func (s *computeSpec) check() error {
	if s.Name == "" {
		return usagef("the cluster needs a name: --name NAME")
	}
	if !strings.EqualFold(s.Type, "amlcompute") {
		return usagef("%s: this kind of compute is not built; amlcompute is", s.Type)
	}
	if s.Size == "" {
		s.Size = "Standard_DS3_v2"
	}
	if s.Tier == "" {
		s.Tier = "dedicated"
	}
	return nil
}

// priorities maps az ml's tiers to ARM's words.
var priorities = map[string]string{
	"dedicated": "Dedicated", "low_priority": "LowPriority", "lowpriority": "LowPriority",
}

// body makes ARM's document.
func (s *computeSpec) body(f client.File) (client.Compute, error) {
	priority, ok := priorities[strings.ToLower(s.Tier)]
	if !ok {
		return client.Compute{}, usagef("no tier %q; there are: dedicated, low_priority", s.Tier)
	}
	aml := client.AmlCompute{
		VMSize: s.Size, VMPriority: priority, RemoteLogin: "Disabled", EnableNodePublicIP: s.EnableNodePublic,
		Scale: client.ScaleSettings{Min: s.Min, Max: s.Max, IdleAfter: toISO(s.Idle)},
	}
	if s.SSHPublic != nil && *s.SSHPublic {
		aml.RemoteLogin = "Enabled"
	}
	var err error
	if aml.Subnet, err = s.subnet(f); err != nil {
		return client.Compute{}, err
	}
	if aml.User, err = s.user(); err != nil {
		return client.Compute{}, err
	}
	c := client.Compute{Location: s.Location, Tags: s.Tags, Properties: client.ComputeProperties{
		ComputeType: "AmlCompute", ComputeLocation: s.Location, Description: s.Description, Properties: aml,
	}}
	if s.Identity.Type != "" || len(s.Identity.UserAssigned) > 0 {
		ids := make([]string, len(s.Identity.UserAssigned))
		for i, id := range s.Identity.UserAssigned {
			ids[i] = string(id)
		}
		if c.Identity, err = identityOf(s.Identity.Type, ids); err != nil {
			return client.Compute{}, err
		}
	}
	return c, nil
}

func (s *computeSpec) subnet(f client.File) (*client.Ref, error) {
	n := s.Network
	switch {
	case n.Subnet == "" && n.VNet == "":
		return nil, nil
	case strings.HasPrefix(n.Subnet, "/"):
		if n.VNet != "" {
			return nil, usagef("--subnet is an ARM id, which names its network already: leave --vnet-name out")
		}
		return &client.Ref{ID: n.Subnet}, nil
	case n.Subnet == "" || n.VNet == "":
		return nil, usagef("a network needs both --vnet-name and --subnet, or a subnet's ARM id")
	}
	return &client.Ref{ID: "/subscriptions/" + f.SubscriptionID + "/resourceGroups/" + f.ResourceGroup +
		"/providers/Microsoft.Network/virtualNetworks/" + n.VNet + "/subnets/" + n.Subnet}, nil
}

func (s *computeSpec) user() (*client.UserAccount, error) {
	if s.SSH.User == "" && s.SSH.Key == "" && s.SSH.Password == "" {
		return nil, nil
	}
	if s.SSH.User == "" || s.SSH.Key == "" && s.SSH.Password == "" {
		return nil, usagef("SSH needs --admin-username, and --ssh-key-value or --admin-password")
	}
	key := s.SSH.Key
	// az takes a path here too; a key itself has a space in it.
	if key != "" && !strings.Contains(key, " ") {
		b, err := os.ReadFile(key)
		if err != nil {
			return nil, usagef("--ssh-key-value is neither a public key nor a file that can be read: %w", err)
		}
		key = strings.TrimSpace(string(b))
	}
	return &client.UserAccount{Name: s.SSH.User, Key: key, Password: s.SSH.Password}, nil
}

// identityOf makes ARM's identity from az ml's words.
func identityOf(kind string, ids []string) (*client.Identity, error) {
	switch plain := strings.ToLower(strings.ReplaceAll(kind, "_", "")); {
	case plain == "systemassigned" && len(ids) == 0:
		return &client.Identity{Type: "SystemAssigned"}, nil
	case plain == "none" && len(ids) == 0:
		return &client.Identity{Type: "None"}, nil
	case (plain == "userassigned" || plain == "") && len(ids) > 0:
		users := map[string]*client.UserIdentity{}
		for _, id := range ids {
			if !strings.HasPrefix(id, "/subscriptions/") {
				return nil, usagef("identity %q is not an ARM id (/subscriptions/…)", id)
			}
			users[id] = &client.UserIdentity{}
		}
		return &client.Identity{Type: "UserAssigned", UserAssigned: users}, nil
	case plain == "userassigned":
		return nil, usagef("--identity-type user_assigned needs --user-assigned-identities")
	case slices.Contains([]string{"systemassigned", "none"}, plain):
		return nil, usagef("a cluster has one system-assigned identity or user-assigned ones, not both")
	}
	return nil, usagef("no identity type %q; there are: system_assigned, user_assigned", kind)
}

// pairs reads KEY=VALUE flags. az also takes several in one, with spaces.
func pairs(flag string, given []string) (map[string]string, error) {
	m := map[string]string{}
	for _, kv := range given {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, usagef("%s %q is not KEY=VALUE", flag, kv)
		}
		m[k] = v
	}
	return m, nil
}

// readYAML reads a file strictly: a misspelt key is an error with its line.
func readYAML(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return usageError{err}
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return usageError{fmt.Errorf("%s: %s", path, unknownKey.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  "), `there is no key "$1"`))}
	}
	return nil
}

// unknownKey is how the YAML package speaks of a key that the schema lacks.
var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)
