package azml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebb-compute/ebb/client"
	"github.com/ebb-compute/ebb/internal/cli/yamlspec"
)

// ComputeSpec is a compute of any kind, read from its own schema.
type ComputeSpec interface {
	Base() *ComputeBase
	// Document is what ARM is sent.
	Document(f client.File) (any, error)
}

// ComputeBase is what all kinds have.
type ComputeBase struct {
	Type        string            `yaml:"type"`
	Name        string            `yaml:"name"`
	Description string            `yaml:"description"`
	Location    string            `yaml:"location"`
	Tags        map[string]string `yaml:"tags"`
	Identity    IdentitySpec      `yaml:"identity"`

	Dir string // what the path of a key is of
}

// Base returns it.
func (s *ComputeBase) Base() *ComputeBase { return s }

// Network is where a compute stands.
type Network struct {
	VNet   string `yaml:"vnet_name"`
	Subnet string `yaml:"subnet"`
}

// Compute is the schema of a cluster: amlCompute.schema.json.
type Compute struct {
	ComputeBase
	Size      string   `yaml:"size"`
	Tier      string   `yaml:"tier" oneof:"dedicated low_priority lowpriority"`
	Min       int      `yaml:"min_instances"`
	Max       int      `yaml:"max_instances"`
	Idle      *Seconds `yaml:"idle_time_before_scale_down"`
	SSHPublic *bool    `yaml:"ssh_public_access_enabled"` // nil: not said
	NodeIP    *bool    `yaml:"enable_node_public_ip"`
	SSH       struct {
		User     string `yaml:"admin_username"`
		Key      string `yaml:"ssh_key_value"`
		Password string `yaml:"admin_password"`
	} `yaml:"ssh_settings"`
	Network Network `yaml:"network_settings"`
}

// computeTypes are the kinds that az ml knows.
var computeTypes = []string{"amlcompute", "computeinstance", "virtualmachine", "kubernetes", "synapsespark"}

// ReadCompute reads a compute by the schema of its kind.
func ReadCompute(doc *yamlspec.Doc) (ComputeSpec, error) {
	var spec ComputeSpec
	kind := strings.ToLower(doc.Top("type"))
	switch kind {
	case "amlcompute":
		spec = &Compute{Max: 1} // the schema's default
	case "computeinstance":
		spec = &Instance{}
	case "virtualmachine", "kubernetes", "synapsespark":
		spec = &Attached{}
	default:
		return nil, doc.Errorf("type", "%q is not allowed; %s", doc.Top("type"), yamlspec.Choice(kind, computeTypes))
	}
	err := doc.Decode(spec)
	spec.Base().Type, spec.Base().Dir = kind, doc.Dir
	return spec, err
}

// UserIdentity is an ARM id, alone or as {resource_id: …}.
type UserIdentity string

// DecodeSpec takes both forms.
func (u *UserIdentity) DecodeSpec(n yamlspec.Node) error {
	if n.Scalar() {
		*u = UserIdentity(n.Text())
		return nil
	}
	var object struct {
		ID string `yaml:"resource_id"`
	}
	if err := n.Decode(&object); err != nil {
		return err
	}
	*u = UserIdentity(object.ID)
	return nil
}

// priorities maps az ml's tiers to ARM's words.
var priorities = map[string]string{"dedicated": "Dedicated", "low_priority": "LowPriority", "lowpriority": "LowPriority"}

// Document makes the document of a cluster.
func (s *Compute) Document(f client.File) (any, error) { return s.ARM(f) }

// ARM makes the document of a cluster, with the schema's defaults.
func (s *Compute) ARM(f client.File) (client.Compute, error) {
	if s.Size == "" {
		s.Size = "Standard_DS3_v2"
	}
	idle := int64(120)
	if s.Idle != nil {
		idle = s.Idle.Value
	}
	aml := client.AmlCompute{
		VMSize: s.Size, VMPriority: "Dedicated", RemoteLogin: "Disabled", EnableNodePublicIP: s.NodeIP,
		Scale: client.ScaleSettings{Min: s.Min, Max: s.Max, IdleAfter: ToISO(idle)},
	}
	if s.Tier != "" {
		aml.VMPriority = priorities[s.Tier]
	}
	if s.SSHPublic != nil && *s.SSHPublic {
		aml.RemoteLogin = "Enabled"
	}
	var err error
	if aml.Subnet, err = s.Network.subnet(f); err != nil {
		return client.Compute{}, err
	}
	if aml.User, err = s.user(); err != nil {
		return client.Compute{}, err
	}
	c := client.Compute{Location: s.Location, Tags: s.Tags, Properties: client.ComputeProperties{
		ComputeType: "AmlCompute", ComputeLocation: s.Location, Description: s.Description, Properties: aml,
	}}
	c.Identity, err = s.Identity.ARM()
	return c, err
}

func (n Network) subnet(f client.File) (*client.Ref, error) {
	switch {
	case n.Subnet == "" && n.VNet == "":
		return nil, nil
	case strings.HasPrefix(n.Subnet, "/"):
		if n.VNet != "" {
			return nil, errors.New("--subnet is an ARM id, which names its network already: leave --vnet-name out")
		}
		return &client.Ref{ID: n.Subnet}, nil
	case n.Subnet == "" || n.VNet == "":
		return nil, errors.New("a network needs both --vnet-name and --subnet, or a subnet's ARM id")
	}
	return Subnet(f, f.ResourceGroup, n.VNet, n.Subnet), nil
}

// Subnet is the ARM id of a subnet in a resource group.
func Subnet(f client.File, group, vnet, subnet string) *client.Ref {
	return &client.Ref{ID: "/subscriptions/" + f.SubscriptionID + "/resourceGroups/" + group +
		"/providers/Microsoft.Network/virtualNetworks/" + vnet + "/subnets/" + subnet}
}

func (s *Compute) user() (*client.UserAccount, error) {
	return Administrator(client.UserAccount{Name: s.SSH.User, Key: s.SSH.Key, Password: s.SSH.Password}, s.Dir, "--ssh-key-value", "--admin-password")
}

// Administrator checks whom SSH lets in, and reads the key where it is the path
// of a file; nil where nothing is said. Errors name the flags.
func Administrator(who client.UserAccount, dir, keyFlag, passwordFlag string) (*client.UserAccount, error) {
	if who == (client.UserAccount{}) {
		return nil, nil
	}
	if who.Name == "" || who.Key == "" && who.Password == "" {
		return nil, fmt.Errorf("SSH needs --admin-username, and %s or %s", keyFlag, passwordFlag)
	}
	var err error
	if who.Key, err = PublicKey(who.Key, dir); err != nil {
		return nil, fmt.Errorf("%s is neither a public key nor a file that can be read: %w", keyFlag, err)
	}
	return &who, nil
}

// PublicKey returns a public key that is given as such, or as the path of a
// file: az takes both. A key itself has a space in it.
func PublicKey(key, dir string) (string, error) {
	if key == "" || strings.Contains(key, " ") {
		return key, nil
	}
	if !filepath.IsAbs(key) {
		key = filepath.Join(dir, key)
	}
	b, err := os.ReadFile(key)
	return strings.TrimSpace(string(b)), err
}

// IdentitySpec is who a compute or a workspace is to others.
type IdentitySpec struct {
	Type         string         `yaml:"type"`
	UserAssigned []UserIdentity `yaml:"user_assigned_identities"`
}

// ARM makes ARM's identity; nil where nothing is said of one.
func (s IdentitySpec) ARM() (*client.Identity, error) {
	if s.Type == "" && len(s.UserAssigned) == 0 {
		return nil, nil
	}
	ids := make([]string, len(s.UserAssigned))
	for i, id := range s.UserAssigned {
		ids[i] = string(id)
	}
	return Identity(s.Type, ids)
}

// Identity makes ARM's identity from az ml's words.
func Identity(kind string, ids []string) (*client.Identity, error) {
	switch plain := strings.ToLower(strings.ReplaceAll(kind, "_", "")); {
	case plain == "systemassigned" && len(ids) == 0:
		return &client.Identity{Type: "SystemAssigned"}, nil
	case plain == "none" && len(ids) == 0:
		return &client.Identity{Type: "None"}, nil
	case (plain == "userassigned" || plain == "") && len(ids) > 0:
		users := map[string]*client.UserIdentity{}
		for _, id := range ids {
			if !strings.HasPrefix(strings.ToLower(id), "/subscriptions/") {
				return nil, fmt.Errorf("identity %q is not an ARM id (/subscriptions/…)", id)
			}
			users[id] = &client.UserIdentity{}
		}
		return &client.Identity{Type: "UserAssigned", UserAssigned: users}, nil
	case plain == "userassigned":
		return nil, errors.New("--identity-type user_assigned needs --user-assigned-identities")
	case slices.Contains([]string{"systemassigned", "none"}, plain):
		return nil, errors.New("a cluster has one system-assigned identity or user-assigned ones, not both")
	}
	return nil, fmt.Errorf("no identity type %q; there are: system_assigned, user_assigned", kind)
}
