package server_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"envfs/kms/server"
)

func TestKeysAndCiphertexts(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	made := must(c.CreateKey(ctx, &awskms.CreateKeyInput{Description: aws.String("of the test")}))(t).KeyMetadata
	if *made.Description != "of the test" || !made.Enabled || made.KeyState != types.KeyStateEnabled || made.KeySpec != types.KeySpecSymmetricDefault ||
		made.Origin != types.OriginTypeAwsKms || made.KeyManager != types.KeyManagerTypeCustomer || time.Since(*made.CreationDate).Abs() > time.Hour {
		t.Errorf("CreateKey: %+v", made)
	}
	must(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/a/b"), TargetKeyId: made.KeyId}))(t)
	context := map[string]string{"app": "demo", "stage": "test"}
	aliasARN := "arn:aws:kms:us-east-1:000000000000:alias/a/b"
	for _, name := range []string{*made.KeyId, *made.Arn, "alias/a/b", aliasARN} {
		if got := must(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &name}))(t); *got.KeyMetadata.Arn != *made.Arn {
			t.Errorf("DescribeKey %s: %s", name, *got.KeyMetadata.Arn)
		}
		enc := must(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &name, Plaintext: []byte("secret"), EncryptionContext: context}))(t)
		dec := must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: map[string]string{"stage": "test", "app": "demo"}}))(t)
		if string(dec.Plaintext) != "secret" || *dec.KeyId != *made.Arn {
			t.Errorf("Decrypt: %q by %s", dec.Plaintext, *dec.KeyId)
		}
		_, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: map[string]string{"app": "demo"}})
		code(t, err, "InvalidCiphertextException")
		_, err = c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob[:len(enc.CiphertextBlob)-1], EncryptionContext: context})
		code(t, err, "InvalidCiphertextException")
		_, err = c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: enc.CiphertextBlob[:20], EncryptionContext: context})
		code(t, err, "InvalidCiphertextException")
	}
	data := must(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: made.KeyId, KeySpec: types.DataKeySpecAes256}))(t)
	dec := must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: data.CiphertextBlob, KeyId: aws.String("alias/a/b")}))(t)
	if len(data.Plaintext) != 32 || !bytes.Equal(dec.Plaintext, data.Plaintext) {
		t.Errorf("GenerateDataKey: %d bytes", len(data.Plaintext))
	}
	bare := must(c.GenerateDataKeyWithoutPlaintext(ctx, &awskms.GenerateDataKeyWithoutPlaintextInput{KeyId: made.KeyId, NumberOfBytes: aws.Int32(64)}))(t)
	if dec := must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: bare.CiphertextBlob}))(t); len(dec.Plaintext) != 64 {
		t.Errorf("GenerateDataKeyWithoutPlaintext: %d bytes", len(dec.Plaintext))
	}
	other := w.key(c)
	re := must(c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: data.CiphertextBlob, DestinationKeyId: &other, DestinationEncryptionContext: context}))(t)
	dec = must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: re.CiphertextBlob, EncryptionContext: context}))(t)
	if !bytes.Equal(dec.Plaintext, data.Plaintext) || *re.KeyId != other || *re.SourceKeyId != *made.Arn {
		t.Errorf("ReEncrypt: %+v", re)
	}
	_, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: re.CiphertextBlob, EncryptionContext: context, KeyId: made.KeyId})
	code(t, err, "IncorrectKeyException")
}

func TestBounds(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	key := w.key(c)
	enc := must(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 4096)}))(t)
	if len(enc.CiphertextBlob) > 6144 {
		t.Errorf("a ciphertext of %d bytes", len(enc.CiphertextBlob))
	}
	for _, c := range []struct {
		want string
		err  error
	}{
		{"ValidationException", second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 4097)}))},
		{"ValidationException", second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte{}}))},
		{"ValidationException", second(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: make([]byte, 6145)}))},
		{"ValidationException", second(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, NumberOfBytes: aws.Int32(1025)}))},
		{"ValidationException", second(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, NumberOfBytes: aws.Int32(0)}))},
		{"ValidationException", second(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key}))},
		{"ValidationException", second(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_512"}))},
		{"ValidationException", second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: map[string]string{"a": string(make([]byte, 8192))}}))},
		{"ValidationException", second(c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(6)}))},
		{"ValidationException", second(c.ListKeys(ctx, &awskms.ListKeysInput{Limit: aws.Int32(1001)}))},
		{"ValidationException", second(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("noalias"), TargetKeyId: &key}))},
		{"ValidationException", second(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(89)}))},

		{"NotFoundException", second(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String("alias/none")}))},
		{"NotFoundException", second(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String("6f1c0f0e-3a5b-4c7d-8e9f-a0b1c2d3e4f5")}))},
		{"NotFoundException", second(c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &key, PolicyName: aws.String("other")}))},
		{"InvalidMarkerException", second(c.ListKeys(ctx, &awskms.ListKeysInput{Marker: aws.String("x")}))},
		{"UnsupportedOperationException", second(c.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt}))},
		{"InvalidKeyUsageException", second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256}))},
		{"DryRunOperationException", second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), DryRun: aws.Bool(true)}))},
		{"UnknownOperationException", second(c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(3)}))},
	} {
		code(t, c.err, c.want)
	}
}

func TestStates(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	key := w.key(c)
	blob := must(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("secret")}))(t).CiphertextBlob
	uses := func() []error {
		return []error{
			second(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})),
			second(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob})),
			second(c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes128})),
			second(c.ReEncrypt(ctx, &awskms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: &key})),
			second(c.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &key})),
			second(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &key})),
		}
	}
	must(c.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key}))(t)
	for _, err := range uses() {
		code(t, err, "DisabledException")
	}
	w.stop()
	w.start(server.Options{})
	c = w.client(w.admin)
	code(t, second(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob})), "DisabledException")
	must(c.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key}))(t)
	out := must(c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)}))(t)
	if out.KeyState != types.KeyStatePendingDeletion || time.Until(*out.DeletionDate).Round(time.Hour) != 7*24*time.Hour {
		t.Errorf("ScheduleKeyDeletion: %+v", out)
	}
	for _, err := range uses() {
		code(t, err, "KMSInvalidStateException")
	}
	code(t, second(c.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key})), "KMSInvalidStateException")
	must(c.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &key}))(t)
	code(t, second(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob})), "DisabledException")
	must(c.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: &key}))(t)
	if dec := must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob}))(t); string(dec.Plaintext) != "secret" {
		t.Errorf("Decrypt: %q", dec.Plaintext)
	}
}

func TestRotationAndLists(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	key := w.key(c)
	old := must(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("old")}))(t).CiphertextBlob
	for range 3 {
		must(c.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &key}))(t)
	}
	if dec := must(c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: old}))(t); string(dec.Plaintext) != "old" {
		t.Errorf("Decrypt after rotation: %q", dec.Plaintext)
	}
	fresh := must(c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("new")}))(t).CiphertextBlob
	if bytes.Equal(fresh[:33], old[:33]) {
		t.Error("the same backing key after rotation")
	}
	rot := must(c.ListKeyRotations(ctx, &awskms.ListKeyRotationsInput{KeyId: &key}))(t)
	if len(rot.Rotations) != 3 || rot.Rotations[0].RotationType != types.RotationTypeOnDemand {
		t.Errorf("ListKeyRotations: %+v", rot.Rotations)
	}
	must(c.EnableKeyRotation(ctx, &awskms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(100)}))(t)
	st := must(c.GetKeyRotationStatus(ctx, &awskms.GetKeyRotationStatusInput{KeyId: &key}))(t)
	if !st.KeyRotationEnabled || *st.RotationPeriodInDays != 100 || st.NextRotationDate == nil {
		t.Errorf("GetKeyRotationStatus: %+v", st)
	}
	must(c.DisableKeyRotation(ctx, &awskms.DisableKeyRotationInput{KeyId: &key}))(t)
	for range 4 {
		w.key(c)
	}
	n := 0
	for p := awskms.NewListKeysPaginator(c, &awskms.ListKeysInput{Limit: aws.Int32(2)}); p.HasMorePages(); {
		n += len(must(p.NextPage(ctx))(t).Keys)
	}
	if n != 5 {
		t.Errorf("ListKeys: %d", n)
	}
	alias := aws.String("alias/one")
	must(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: alias, TargetKeyId: &key}))(t)
	code(t, second(c.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: alias, TargetKeyId: &key})), "AlreadyExistsException")
	other := w.key(c)
	must(c.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: alias, TargetKeyId: &other}))(t)
	list := must(c.ListAliases(ctx, &awskms.ListAliasesInput{KeyId: &other}))(t)
	if len(list.Aliases) != 1 || *list.Aliases[0].AliasName != "alias/one" {
		t.Errorf("ListAliases: %+v", list.Aliases)
	}
	must(c.DeleteAlias(ctx, &awskms.DeleteAliasInput{AliasName: alias}))(t)
	code(t, second(c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: alias})), "NotFoundException")
}
