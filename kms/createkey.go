package kms

import (
	"time"

	"envfs/keystore/arena"
	"envfs/kms/policy"
	"envfs/kms/store"
)

const (
	maxKeys        = 50_000
	maxDescription = 8192 // bytes
)

// keyMetadata is what AWS tells of a key.
type keyMetadata struct {
	AWSAccountID              string `json:"AWSAccountId"`
	KeyID                     string `json:"KeyId"`
	Arn                       string
	CreationDate              *seconds
	Enabled                   bool
	Description               string
	KeyUsage                  string
	KeyState                  string
	DeletionDate              *seconds `json:",omitempty"`
	Origin                    string
	KeyManager                string
	CustomerMasterKeySpec     string
	KeySpec                   string
	EncryptionAlgorithms      []string
	MultiRegion               bool
	PendingDeletionWindowDays *int `json:"PendingDeletionWindowInDays,omitempty"`
}

func (s *Service) metadata(k *key) keyMetadata {
	return keyMetadata{
		AWSAccountID: s.config.Account, KeyID: keyID(k.id), Arn: k.arn, CreationDate: at(k.Created), Enabled: k.State == stateEnabled,
		Description: k.Description, KeyUsage: "ENCRYPT_DECRYPT", KeyState: k.State, DeletionDate: at(k.DeletionDate), Origin: "AWS_KMS",
		KeyManager: "CUSTOMER", CustomerMasterKeySpec: symmetric, KeySpec: symmetric, EncryptionAlgorithms: []string{symmetric},
	}
}

type createKeyInput struct {
	Policy                         string
	Description                    string
	KeyUsage                       string
	CustomerMasterKeySpec          string
	KeySpec                        string
	Origin                         string
	BypassPolicyLockoutSafetyCheck bool
	MultiRegion                    bool
	Tags                           []any
}

func (in *createKeyInput) check() error {
	switch {
	case in.KeyUsage != "" && in.KeyUsage != "ENCRYPT_DECRYPT":
		return NewError(codeOther, "The key usage %s is not supported.", clip(in.KeyUsage))
	case in.KeySpec != "" && in.KeySpec != symmetric:
		return NewError(codeOther, "The key spec %s is not supported.", clip(in.KeySpec))
	case in.CustomerMasterKeySpec != "" && in.CustomerMasterKeySpec != symmetric:
		return NewError(codeOther, "The key spec %s is not supported.", clip(in.CustomerMasterKeySpec))
	case in.Origin != "" && in.Origin != "AWS_KMS":
		return NewError(codeOther, "The origin %s is not supported.", clip(in.Origin))
	case in.MultiRegion:
		return NewError(codeOther, "Keys of several regions are not supported.")
	case len(in.Tags) > 0:
		return NewError(codeOther, "Tags are not supported.")
	}
	return checkDescription(in.Description)
}

func checkDescription(d string) error {
	if len(d) > maxDescription {
		return invalidLength("description", 0, maxDescription)
	}
	return nil
}

type describeKeyOutput struct{ KeyMetadata keyMetadata }

func (s *Service) createKey(c *Call, in *createKeyInput) (*describeKeyOutput, error) {
	if err := administer(c); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	k, err := s.newKey(c, in)
	if err != nil {
		return nil, err
	}
	made, err := k.addBacking(&s.room, c.at, "")
	if err != nil {
		return nil, err
	}
	c.key = k.arn
	err = s.commit(c, func(tx *store.Tx) error {
		if err := putKey(tx, k); err != nil {
			return err
		}
		return putBacking(tx, k)
	}, func() { s.keys[k.id] = k })
	if err != nil {
		made.Free()
		return nil, err
	}
	return &describeKeyOutput{s.metadata(k)}, nil
}

// newKey returns a key without a backing key. The caller holds s.change.
func (s *Service) newKey(c *Call, in *createKeyInput) (*key, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.keys) >= maxKeys {
		return nil, NewError(codeLimit, "There are %d keys, and may be no more.", maxKeys)
	}
	id := newID()
	k := &key{
		keyRecord: keyRecord{Description: in.Description, Created: c.at.UTC().Truncate(time.Millisecond), State: stateEnabled, Policy: in.Policy},
		id:        id, arn: s.config.keyARN(id), backing: map[backingID]*arena.Key{},
	}
	if k.Policy == "" {
		k.Policy = policy.Default(s.config.Account)
	}
	return k, s.usePolicy(c, k, in.BypassPolicyLockoutSafetyCheck)
}

type describeKeyInput struct {
	KeyID       string `json:"KeyId"`
	GrantTokens []string
}

func (s *Service) describeKey(c *Call, in *describeKeyInput) (*describeKeyOutput, error) {
	if err := checkUse(nil, in.GrantTokens, ""); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.target(c, "DescribeKey", in.KeyID, nil)
	if err != nil {
		return nil, err
	}
	return &describeKeyOutput{s.metadata(k)}, nil
}

type updateKeyDescriptionInput struct {
	KeyID       string `json:"KeyId"`
	Description string
}

func (s *Service) updateKeyDescription(c *Call, in *updateKeyDescriptionInput) (*none, error) {
	if err := checkDescription(in.Description); err != nil {
		return nil, err
	}
	_, err := s.changeKey(c, in.KeyID, func(k *key) error {
		if k.State == statePending {
			return pending(k)
		}
		k.Description = in.Description
		return nil
	})
	return &none{}, err
}
