package kms

import (
	"crypto/rand"
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

// keyOf returns the key of a blob, if the caller may do the action with it. named is the key that the caller believes it to be, if any.
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

type dataKeyInput struct {
	KeyID             string `json:"KeyId"`
	KeySpec           string
	NumberOfBytes     *int
	EncryptionContext map[string]string
	GrantTokens       []string
	DryRun            bool
}

type dataKeyOutput struct {
	CiphertextBlob []byte
	Plaintext      []byte
	KeyID          string `json:"KeyId"`
}

func (o *dataKeyOutput) wipe() { clear(o.Plaintext) }

func (s *Service) generateDataKey(c *Call, in *dataKeyInput) (*dataKeyOutput, error) {
	c.key, c.context = in.KeyID, in.EncryptionContext
	n, err := in.size()
	if err != nil {
		return nil, err
	}
	if err := checkUse(in.EncryptionContext, in.GrantTokens, ""); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, err := s.target(c, c.Action, in.KeyID, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if err := ready(k, in.DryRun); err != nil {
		return nil, err
	}
	plaintext := make([]byte, n)
	rand.Read(plaintext)
	b, err := k.encrypt(plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &dataKeyOutput{b, plaintext, k.arn}, nil
}

// size returns how many bytes the data key is to have.
func (in *dataKeyInput) size() (int, error) {
	switch {
	case (in.KeySpec == "") == (in.NumberOfBytes == nil):
		return 0, NewError(codeInvalid, "Please specify either number of bytes or key spec.")
	case in.KeySpec == "AES_256":
		return 32, nil
	case in.KeySpec == "AES_128":
		return 16, nil
	case in.KeySpec != "":
		return 0, NewError(codeInvalid, "1 validation error detected: Value '%s' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]", clip(in.KeySpec))
	case *in.NumberOfBytes < 1 || *in.NumberOfBytes > maxDataKey:
		return 0, NewError(codeInvalid, "1 validation error detected: Value '%d' at 'numberOfBytes' failed to satisfy constraint: Member must be between 1 and %d", *in.NumberOfBytes, maxDataKey)
	}
	return *in.NumberOfBytes, nil
}

type sealedDataKeyOutput struct {
	CiphertextBlob []byte
	KeyID          string `json:"KeyId"`
}

func (s *Service) generateDataKeyWithoutPlaintext(c *Call, in *dataKeyInput) (*sealedDataKeyOutput, error) {
	out, err := s.generateDataKey(c, in)
	if err != nil {
		return nil, err
	}
	out.wipe()
	return &sealedDataKeyOutput{out.CiphertextBlob, out.KeyID}, nil
}

type reEncryptInput struct {
	CiphertextBlob                 []byte
	SourceEncryptionContext        map[string]string
	SourceKeyID                    string `json:"SourceKeyId"`
	DestinationKeyID               string `json:"DestinationKeyId"`
	DestinationEncryptionContext   map[string]string
	SourceEncryptionAlgorithm      string
	DestinationEncryptionAlgorithm string
	GrantTokens                    []string
	DryRun                         bool
}

type reEncryptOutput struct {
	CiphertextBlob                 []byte
	SourceKeyID                    string `json:"SourceKeyId"`
	KeyID                          string `json:"KeyId"`
	SourceEncryptionAlgorithm      string
	DestinationEncryptionAlgorithm string
}

func (s *Service) reEncrypt(c *Call, in *reEncryptInput) (*reEncryptOutput, error) {
	c.key, c.context, c.subject, c.toContext = in.SourceKeyID, in.SourceEncryptionContext, in.DestinationKeyID, in.DestinationEncryptionContext
	if err := checkUse(in.SourceEncryptionContext, in.GrantTokens, in.SourceEncryptionAlgorithm); err != nil {
		return nil, err
	}
	if err := checkUse(in.DestinationEncryptionContext, nil, in.DestinationEncryptionAlgorithm); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	from, err := s.keyOf(c, "ReEncryptFrom", in.CiphertextBlob, in.SourceKeyID, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	source := c.key
	to, err := s.target(c, "ReEncryptTo", in.DestinationKeyID, in.DestinationEncryptionContext)
	c.key, c.subject = source, c.key
	if err != nil {
		return nil, err
	}
	if err := from.usable(); err != nil {
		return nil, err
	}
	if err := ready(to, in.DryRun); err != nil {
		return nil, err
	}
	plaintext, err := open(from, in.CiphertextBlob, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	b, err := to.encrypt(plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	return &reEncryptOutput{b, from.arn, to.arn, symmetric, symmetric}, nil
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
