package azml

import "github.com/ebb-compute/ebb/client"

// Instance is the schema of a compute instance: computeInstance.schema.json.
type Instance struct {
	ComputeBase
	Size        string   `yaml:"size"`
	Idle        *Seconds `yaml:"idle_time_before_shutdown"`
	IdleMinutes *int     `yaml:"idle_time_before_shutdown_minutes"`
	SSHPublic   *bool    `yaml:"ssh_public_access_enabled"`
	SSH         struct {
		Key string `yaml:"ssh_key_value"`
	} `yaml:"ssh_settings"`
	Network      Network `yaml:"network_settings"`
	NodeIP       *bool   `yaml:"enable_node_public_ip"`
	SSO          *bool   `yaml:"enable_sso"`
	Root         *bool   `yaml:"enable_root_access"`
	ReleaseQuota *bool   `yaml:"release_quota_on_stop"`
	Patching     *bool   `yaml:"enable_os_patching"`
	OnBehalf     *struct {
		Tenant string `yaml:"user_tenant_id"`
		Object string `yaml:"user_object_id"`
	} `yaml:"create_on_behalf_of"`
	Schedules *struct{} `yaml:"schedules" no:"schedules are not built"`
	Apps      *struct{} `yaml:"custom_applications" no:"applications on compute instances are not built"`
	Scripts   *struct{} `yaml:"setup_scripts" no:"setup scripts are not built"`
}

// Document makes the document.
func (s *Instance) Document(f client.File) (any, error) {
	if s.Size == "" {
		s.Size = "Standard_DS3_v2"
	}
	p := map[string]any{"vmSize": s.Size}
	switch {
	case s.IdleMinutes != nil:
		p["idleTimeBeforeShutdown"] = ToISO(int64(*s.IdleMinutes) * 60)
	case s.Idle != nil:
		p["idleTimeBeforeShutdown"] = ToISO(s.Idle.Value)
	}
	subnet, err := s.Network.subnet(f)
	if err != nil {
		return nil, err
	}
	if subnet != nil {
		p["subnet"] = subnet
	}
	for key, is := range map[string]*bool{"enableNodePublicIp": s.NodeIP, "enableSSO": s.SSO, "enableRootAccess": s.Root, "releaseQuotaOnStop": s.ReleaseQuota, "enableOSPatching": s.Patching} {
		if is != nil {
			p[key] = *is
		}
	}
	if s.SSH.Key != "" || s.SSHPublic != nil && *s.SSHPublic {
		key, err := PublicKey(s.SSH.Key, s.Dir)
		if err != nil {
			return nil, err
		}
		p["sshSettings"] = map[string]any{"sshPublicAccess": "Enabled", "adminPublicKey": key}
	}
	if s.OnBehalf != nil {
		p["personalComputeInstanceSettings"] = map[string]any{"assignedUser": map[string]any{"objectId": s.OnBehalf.Object, "tenantId": s.OnBehalf.Tenant}}
	}
	return s.document(map[string]any{"computeType": "ComputeInstance", "properties": p})
}

// Attached is the schema of a compute that is somewhere already.
type Attached struct {
	ComputeBase
	ResourceID string `yaml:"resource_id"`
	Namespace  string `yaml:"namespace"`
	SSH        struct {
		User     string `yaml:"admin_username"`
		Password string `yaml:"admin_password"`
		Port     int    `yaml:"ssh_port"`
		KeyFile  string `yaml:"ssh_private_key_file"`
	} `yaml:"ssh_settings"`
}

// Document makes the document.
func (s *Attached) Document(client.File) (any, error) {
	p := map[string]any{}
	kind := "SynapseSpark"
	switch s.Type {
	case "virtualmachine":
		kind = "VirtualMachine"
		if s.SSH.Port == 0 {
			s.SSH.Port = 22
		}
		p["sshPort"] = s.SSH.Port
		p["administratorAccount"] = map[string]any{"username": s.SSH.User, "password": s.SSH.Password}
	case "kubernetes":
		kind = "Kubernetes"
		p["namespace"] = s.Namespace
	}
	return s.document(map[string]any{"computeType": kind, "resourceId": s.ResourceID, "properties": p})
}

// document puts what all kinds have around a kind's own part.
func (s *ComputeBase) document(properties map[string]any) (any, error) {
	if s.Description != "" {
		properties["description"] = s.Description
	}
	body := map[string]any{"location": s.Location, "properties": properties}
	if len(s.Tags) > 0 {
		body["tags"] = s.Tags
	}
	id, err := s.Identity.ARM()
	if err == nil && id != nil {
		body["identity"] = id
	}
	return body, err
}
