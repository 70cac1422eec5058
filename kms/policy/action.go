package policy

import (
	"fmt"
	"slices"
	"strings"
)

// actions are those of AWS KMS in lower case, also of operations that do not exist here: a policy may be written for
// both. A word that names none of them is a mistake of who wrote it.
var actions = strings.Fields(strings.ToLower(`
	CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant CreateKey Decrypt DeleteAlias
	DeleteCustomKeyStore DeleteImportedKeyMaterial DeriveSharedSecret DescribeCustomKeyStores DescribeKey DisableKey
	DisableKeyRotation DisconnectCustomKeyStore EnableKey EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyPair
	GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom GetKeyPolicy
	GetKeyRotationStatus GetParametersForImport GetPublicKey ImportKeyMaterial ListAliases ListGrants ListKeyPolicies
	ListKeyRotations ListKeys ListResourceTags ListRetirableGrants PutKeyPolicy ReEncryptFrom ReEncryptTo ReplicateKey
	RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign SynchronizeMultiRegionKey TagResource UntagResource
	UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac`))

func parseActions(v any) ([]string, error) {
	patterns, err := stringList(v)
	if err != nil {
		return nil, err
	}
	for i, p := range patterns {
		p = strings.ToLower(p)
		known := slices.ContainsFunc(actions, func(a string) bool { return match(p, "kms:"+a) })
		if !known {
			return nil, fmt.Errorf("%q is no action of KMS", patterns[i])
		}
		patterns[i] = p
	}
	return patterns, nil
}

func parseResources(v any) ([]string, error) {
	patterns, err := stringList(v)
	if err != nil {
		return nil, err
	}
	for _, p := range patterns {
		if err := noVariables(p); err != nil {
			return nil, err
		}
		if p != "*" && !strings.HasPrefix(p, "arn:aws:kms:") {
			return nil, fmt.Errorf(`%q is neither "*" nor the ARN of a key`, p)
		}
	}
	return patterns, nil
}
