package kms

import (
	"crypto/rand"
)

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
