package kms

import "envfs/kms/policy"

type keyPolicyInput struct {
	KeyID      string `json:"KeyId"`
	PolicyName string
}

func checkPolicyName(name string) error {
	if name != "" && name != policyName {
		return NewError(codeNotFound, "No such policy exists: a key has one, of the name %s.", policyName)
	}
	return nil
}

type keyPolicyOutput struct {
	Policy     string
	PolicyName string
}

func (s *Service) getKeyPolicy(c *Call, in *keyPolicyInput) (*keyPolicyOutput, error) {
	k, done, err := s.readKey(c, in.KeyID)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	return &keyPolicyOutput{k.Policy, policyName}, nil
}

type putKeyPolicyInput struct {
	KeyID                          string `json:"KeyId"`
	PolicyName                     string
	Policy                         string
	BypassPolicyLockoutSafetyCheck bool
}

func (s *Service) putKeyPolicy(c *Call, in *putKeyPolicyInput) (*none, error) {
	_, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if err := checkPolicyName(in.PolicyName); err != nil {
			return err
		}
		k.Policy = in.Policy
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.usePolicy(c, k, in.BypassPolicyLockoutSafetyCheck)
	})
	return &none{}, err
}

// usePolicy makes k keep to the text of its policy. It refuses one that names users whom there are not, and, if locking
// oneself out was not asked for, one under which the caller could not change it again. The caller holds s.mu.
func (s *Service) usePolicy(c *Call, k *key, lockout bool) error {
	p, err := policy.Parse(k.Policy, s.config.Account)
	if err != nil {
		return NewError(codePolicy, "The policy is not taken: %v", err)
	}
	known := map[string]bool{}
	for _, u := range s.users {
		known[s.config.userARN(u.Name)] = !u.Removed
	}
	for _, arn := range p.Users() {
		if !known[arn] {
			return NewError(codePolicy, "Policy contains a statement with one or more invalid principals: %s", arn)
		}
	}
	k.policy = p
	if !lockout && !k.allows(c, "PutKeyPolicy", nil) {
		return NewError(codePolicy, "The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

type listKeyPoliciesInput struct {
	KeyID string `json:"KeyId"`
	page
}

type listKeyPoliciesOutput struct {
	PolicyNames []string
	pageEnd
}

func (s *Service) listKeyPolicies(c *Call, in *listKeyPoliciesInput) (*listKeyPoliciesOutput, error) {
	_, done, err := s.readKey(c, in.KeyID)
	if err != nil {
		return nil, err
	}
	defer done()
	out := &listKeyPoliciesOutput{}
	out.PolicyNames, out.pageEnd, err = cut([]string{policyName}, in.page, 100, 1000)
	return out, err
}
