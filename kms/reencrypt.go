package kms

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
