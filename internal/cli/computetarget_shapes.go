package cli

import "github.com/ebb-compute/ebb/client"

// v1Shape is a compute as SDK v1 writes it out: ARM's, with what changes by
// itself in a part of its own.
func v1Shape(c client.Compute) object {
	p, aml := c.Properties, c.Properties.Properties
	scale := object{{"minNodeCount", aml.Scale.Min}, {"maxNodeCount", aml.Scale.Max}, {"nodeIdleTimeBeforeScaleDown", aml.Scale.IdleAfter}}
	inner := object{{"vmSize", aml.VMSize}, {"vmPriority", aml.VMPriority}, {"scaleSettings", scale}}
	user := object{{"adminUserName", nil}, {"adminUserPassword", nil}, {"adminUserSshPublicKey", nil}}
	if aml.User != nil {
		user[0].Value, user[2].Value = orNil(aml.User.Name), orNil(aml.User.Key)
	}
	subnet := object{{"id", nil}}
	if aml.Subnet != nil {
		subnet[0].Value = orNil(aml.Subnet.ID)
	}
	inner = append(inner, field{"userAccountCredentials", user}, field{"subnet", subnet}, field{"remoteLoginPortPublicAccess", orNil(aml.RemoteLogin)})
	status := object{{"currentNodeCount", aml.CurrentNodes}, {"targetNodeCount", aml.TargetNodes}, {"nodeStateCounts", nil},
		{"allocationState", orNil(aml.AllocationState)}, {"allocationStateTransitionTime", orNil(aml.AllocationStateTransition)},
		{"errors", nil}, {"creationTime", orNil(p.CreatedOn)}, {"modifiedTime", orNil(p.ModifiedOn)}, {"provisioningState", p.ProvisioningState},
		{"scaleSettings", scale}, {"vmPriority", aml.VMPriority}, {"vmSize", aml.VMSize}}
	if n := aml.NodeStates; n != nil {
		status[2].Value = object{{"idleNodeCount", n.Idle}, {"runningNodeCount", n.Running}, {"preparingNodeCount", n.Preparing},
			{"unusableNodeCount", n.Unusable}, {"leavingNodeCount", n.Leaving}, {"preemptedNodeCount", n.Preempted}}
	}
	if len(aml.Errors) > 0 {
		status[5].Value = problemShapes(aml.Errors)
	}
	properties := object{{"description", orNil(p.Description)}, {"computeType", p.ComputeType}, {"computeLocation", orNil(p.ComputeLocation)},
		{"provisioningState", p.ProvisioningState}, {"provisioningErrors", nil}, {"properties", inner}, {"status", status}}
	if len(p.ProvisioningErrors) > 0 {
		properties[4].Value = problemShapes(p.ProvisioningErrors)
	}
	o := object{{"id", c.ID}, {"name", c.Name}, {"location", c.Location}, {"tags", c.Tags}, {"identity", nil}, {"properties", properties}}
	if c.Identity != nil {
		o[4].Value = v1IdentityShape(c)
	}
	return o
}

func v1IdentityShape(c client.Compute) object {
	id := c.Identity
	if id == nil {
		return object{{"type", "None"}}
	}
	o := object{{"type", id.Type}}
	o.add("principalId", id.PrincipalID)
	o.add("tenantId", id.TenantID)
	users := object{}
	for _, arm := range sortedKeys(id.UserAssigned) {
		u := object{}
		if user := id.UserAssigned[arm]; user != nil {
			u.add("principalId", user.PrincipalID)
			u.add("clientId", user.ClientID)
		}
		users = append(users, field{arm, u})
	}
	o.add("userAssignedIdentities", users)
	return o
}
