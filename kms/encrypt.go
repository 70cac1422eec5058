package kms

import (
	"errors"

	"envfs/kms/blob"
)

// Bounds of AWS KMS, in bytes.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxContext    = 8192
	maxDataKey    = 1024
)

const symmetric = "SYMMETRIC_DEFAULT"

type encryptInput struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	GrantTokens         []string
	DryRun              bool
}

type encryptOutput struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm string
}

func (s *Service) encrypt(c *Call, in *encryptInput) (*encryptOutput, error) {
	defer clear(in.Plaintext)
	c.key, c.context = in.KeyID, in.EncryptionContext
	if n := len(in.Plaintext); n < 1 || n > maxPlaintext {
		return nil, invalidLength("plaintext", 1, maxPlaintext)
	}
	if err := checkUse(in.EncryptionContext, in.GrantTokens, in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.target(c, "Encrypt", in.KeyID, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if err := ready(k, in.DryRun); err != nil {
		return nil, err
	}
	b, err := k.encrypt(in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &encryptOutput{b, k.arn, symmetric}, nil
}

type decryptInput struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionContext   map[string]string
	EncryptionAlgorithm string
	GrantTokens         []string
	DryRun              bool
}

type decryptOutput struct {
	KeyID               string `json:"KeyId"`
	Plaintext           []byte
	EncryptionAlgorithm string
}

func (o *decryptOutput) wipe() { clear(o.Plaintext) }

func (s *Service) decrypt(c *Call, in *decryptInput) (*decryptOutput, error) {
	c.key, c.context = in.KeyID, in.EncryptionContext
	if err := checkUse(in.EncryptionContext, in.GrantTokens, in.EncryptionAlgorithm); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.keyOf(c, "Decrypt", in.CiphertextBlob, in.KeyID, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if err := ready(k, in.DryRun); err != nil {
		return nil, err
	}
	plaintext, err := open(k, in.CiphertextBlob, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &decryptOutput{k.arn, plaintext, symmetric}, nil
}

// keyOf returns the key of a blob, if the caller may do the action with it. named is the key that the caller believes
// it to be, if any.
func (s *Service) keyOf(c *Call, action string, b []byte, named string, context map[string]string) (*key, error) {
	if n := len(b); n < 1 || n > maxCiphertext {
		return nil, invalidLength("ciphertextBlob", 1, maxCiphertext)
	}
	h, err := blob.Parse(b)
	if err != nil {
		return nil, NewError(codeCipher, "")
	}
	k, err := s.target(c, action, s.config.keyARN(h.Key), context)
	if err != nil {
		return nil, err
	}
	if named != "" && s.find(named) != k {
		return nil, NewError("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	return k, nil
}

func open(k *key, b []byte, context map[string]string) ([]byte, error) {
	plaintext, err := k.decrypt(b, context)
	if errors.Is(err, blob.ErrInvalid) {
		return nil, NewError(codeCipher, "")
	}
	return plaintext, err
}

// checkUse checks what all uses of keys have in common.
func checkUse(context map[string]string, grantTokens []string, algorithm string) error {
	switch n := contextSize(context); {
	case n > maxContext:
		return NewError(codeInvalid, "The encryption context has %d bytes, and may have %d.", n, maxContext)
	case len(grantTokens) > 0:
		return NewError(codeOther, "Grants are not supported.")
	case algorithm != "" && algorithm != symmetric:
		return NewError("InvalidKeyUsageException", "The algorithm %s is not supported by keys of the type %s.", clip(algorithm), symmetric)
	}
	return nil
}

// contextSize returns the size of a context in bytes.
func contextSize(context map[string]string) int {
	n := 0
	for name, value := range context {
		n += len(name) + len(value)
	}
	return n
}

// ready refuses the use of a key that is not enabled, and ends a call that only asks whether it would succeed.
func ready(k *key, dryRun bool) error {
	if err := k.usable(); err != nil {
		return err
	}
	if dryRun {
		return NewError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

func invalidLength(member string, least, most int) error {
	return NewError(codeInvalid, "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between %d and %d", member, least, most)
}
