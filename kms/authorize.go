package kms

import (
	"strings"

	"envfs/kms/blob"
	"envfs/kms/policy"
)

// denied is the error of who may not do something, worded as AWS does. resource is what the caller named: it does not tell
// whether there is such a thing.
func denied(c *Call, action, resource string) *Error {
	who := c.Caller.ARN
	return NewError(codeDenied, "User: %s is not authorized to perform: kms:%s on resource: %s because no resource-based policy allows the kms:%s action", who, action, clip(resource), action)
}

// cryptographic are the actions that use keys, which a local administrator does not.
var cryptographic = map[string]bool{
	"Encrypt": true, "Decrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true, "ReEncryptFrom": true, "ReEncryptTo": true,
}

// allows reports whether the caller may do an action with a key.
func (k *key) allows(c *Call, action string, context map[string]string) bool {
	if c.Caller.Local {
		return !cryptographic[action]
	}
	return k.policy.Allows(&policy.Request{User: c.Caller.ARN, Admin: c.Caller.Admin, Action: "kms:" + action, Key: k.arn, Context: context})
}

// administer refuses who is no administrator: of what concerns no one key, no key policy decides.
func administer(c *Call) error {
	if c.Caller.Admin || c.Caller.Local {
		return nil
	}
	return denied(c, c.Action, "*")
}

// target returns the key that a call names, by id, ARN or alias, if its caller may do the action with it. Who may not
// is told the same whether or not there is such a key. The caller holds s.mu.
func (s *Service) target(c *Call, action, name string, context map[string]string) (*key, error) {
	c.key = name
	if name == "" || len(name) > 2048 {
		return nil, NewError(codeInvalid, "1 validation error detected: Value at 'keyId' failed to satisfy constraint: Member must have length between 1 and 2048")
	}
	k := s.find(name)
	if k == nil {
		if administer(c) == nil {
			return nil, NewError(codeNotFound, "Key '%s' does not exist", clip(name))
		}
		return nil, denied(c, action, name)
	}
	c.key = k.arn
	if !k.allows(c, action, context) {
		return nil, denied(c, action, name)
	}
	return k, nil
}

// find returns the key of a name, or nil.
func (s *Service) find(name string) *key {
	rest, isARN := strings.CutPrefix(name, s.config.arn(""))
	if strings.HasPrefix(rest, "alias/") {
		a, ok := s.aliases[rest]
		if !ok {
			return nil
		}
		return s.keys[blob.ID(a.Key)]
	}
	if isARN {
		var isKey bool
		if rest, isKey = strings.CutPrefix(rest, "key/"); !isKey {
			return nil
		}
	}
	id, ok := parseKeyID(rest)
	if !ok {
		return nil
	}
	return s.keys[id]
}

// targetByID is target for actions that AWS does not take aliases for.
func (s *Service) targetByID(c *Call, action, name string) (*key, error) {
	if rest, _ := strings.CutPrefix(name, s.config.arn("")); strings.HasPrefix(rest, "alias/") {
		c.key = name
		return nil, NewError(codeNotFound, "Invalid keyId '%s'", clip(name))
	}
	return s.target(c, action, name, nil)
}
