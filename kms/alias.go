package kms

import (
	"maps"
	"slices"
	"strings"
	"time"

	"envfs/kms/blob"
	"envfs/kms/store"
)

const maxAliases = 100_000

// alias is another name of a key.
type alias struct {
	Key     backingID `json:"key"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

type aliasInput struct {
	AliasName   string
	TargetKeyID string `json:"TargetKeyId"`
}

func checkAlias(name string) error {
	if !aliasForm.MatchString(name) {
		return NewError(codeInvalid, "1 validation error detected: Value '%s' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", clip(name), aliasForm)
	}
	if strings.HasPrefix(name, "alias/aws/") {
		return NewError("NotAuthorizedException", "Names that begin with alias/aws/ are kept for AWS.")
	}
	return nil
}

func (s *Service) createAlias(c *Call, in *aliasInput) (*none, error) {
	c.subject = in.AliasName
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	k, err := s.targetByID(c, "CreateAlias", in.TargetKeyID)
	_, exists := s.aliases[in.AliasName]
	n := len(s.aliases)
	s.mu.RUnlock()
	switch {
	case err != nil:
		return nil, err
	case k.State == statePending:
		return nil, pending(k)
	case exists:
		return nil, NewError("AlreadyExistsException", "An alias with the name %s already exists", s.config.aliasARN(in.AliasName))
	case n >= maxAliases:
		return nil, NewError(codeLimit, "There are %d aliases, and may be no more.", maxAliases)
	}
	return &none{}, s.putAlias(c, in.AliasName, alias{Key: backingID(k.id), Created: c.at, Updated: c.at})
}

func (s *Service) putAlias(c *Call, name string, a alias) error {
	return s.commit(c, func(tx *store.Tx) error { return putJSON(tx, tableAliases, name, a) }, func() { s.aliases[name] = a })
}

func (s *Service) updateAlias(c *Call, in *aliasInput) (*none, error) {
	c.subject = in.AliasName
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	k, a, err := s.aliasTarget(c, in)
	if err != nil {
		return nil, err
	}
	a.Key, a.Updated = backingID(k.id), c.at
	return &none{}, s.putAlias(c, in.AliasName, a)
}

// aliasTarget returns the new key of an alias, and the alias, if the caller may for the old key and for the new one.
func (s *Service) aliasTarget(c *Call, in *aliasInput) (k *key, a alias, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.target(c, "UpdateAlias", in.AliasName, nil); err != nil {
		return nil, a, err
	}
	if k, err = s.targetByID(c, "UpdateAlias", in.TargetKeyID); err != nil {
		return nil, a, err
	}
	if k.State == statePending {
		return nil, a, pending(k)
	}
	return k, s.aliases[in.AliasName], nil
}

func (s *Service) deleteAlias(c *Call, in *struct{ AliasName string }) (*none, error) {
	c.subject = in.AliasName
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	_, err := s.target(c, "DeleteAlias", in.AliasName, nil)
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	return &none{}, s.commit(c, func(tx *store.Tx) error { return tx.Delete(tableAliases, in.AliasName) }, func() { delete(s.aliases, in.AliasName) })
}

type listAliasesInput struct {
	KeyID string `json:"KeyId"`
	page
}

type aliasEntry struct {
	AliasName       string
	AliasArn        string
	TargetKeyID     string `json:"TargetKeyId"`
	CreationDate    *seconds
	LastUpdatedDate *seconds
}

type listAliasesOutput struct {
	Aliases []aliasEntry
	pageEnd
}

func (s *Service) listAliases(c *Call, in *listAliasesInput) (*listAliasesOutput, error) {
	if err := administer(c); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var only *key
	if in.KeyID != "" {
		c.key = in.KeyID
		if only = s.find(in.KeyID); only == nil {
			return nil, NewError(codeNotFound, "Key '%s' does not exist", clip(in.KeyID))
		}
	}
	all := []aliasEntry{}
	for _, name := range slices.Sorted(maps.Keys(s.aliases)) {
		a := s.aliases[name]
		if only != nil && a.Key != backingID(only.id) {
			continue
		}
		all = append(all, aliasEntry{name, s.config.aliasARN(name), keyID(blob.ID(a.Key)), at(a.Created), at(a.Updated)})
	}
	var err error
	out := &listAliasesOutput{}
	out.Aliases, out.pageEnd, err = cut(all, in.page, 50, 100)
	return out, err
}
