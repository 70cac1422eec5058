package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"envfs/kms"
	"envfs/kms/audit"
	"envfs/kms/seal"
	"envfs/kms/server"
)

// world is a KMS that is being served, in this process.
type world struct {
	t       testing.TB
	dir     string
	admin   *kms.Access
	service *kms.Service
	url     string
	stop    func()
}

func sealer(t testing.TB) *seal.KeyFile {
	t.Helper()
	k, err := seal.NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newWorld(t testing.TB, o server.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.admin, err = kms.Init(t.Context(), w.dir, kms.DefaultConfig, sealer(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.start(o)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start(o server.Options) {
	w.t.Helper()
	var err error
	if w.service, err = kms.Open(w.t.Context(), w.dir, sealer(w.t), kms.Options{}); err != nil {
		w.t.Fatal(err)
	}
	o.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan []string, 1), make(chan error, 1)
	go func() { done <- server.New(w.dir, w.service, o).Serve(ctx, func(a []string) { ready <- a }) }()
	select {
	case addresses := <-ready:
		w.url = addresses[0]
	case err := <-done:
		w.t.Fatal(err)
	}
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, w.service.Close()); err != nil {
			w.t.Error(err)
		}
	}
}

// transport trusts the KMS's own authority, and nobody else.
func (w *world) transport() *http.Transport {
	w.t.Helper()
	pem, err := os.ReadFile(kms.CAPath(w.dir))
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		w.t.Fatal("no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// client returns AWS's client with an access key.
func (w *world) client(a *kms.Access, change ...func(*awskms.Options)) *awskms.Client {
	return awskms.New(awskms.Options{
		BaseEndpoint: aws.String(w.url), Region: kms.DefaultConfig.Region, HTTPClient: &http.Client{Transport: w.transport()},
		Credentials: credentials.NewStaticCredentialsProvider(a.ID, a.Secret, ""), RetryMaxAttempts: 1,
	}, change...)
}

// local calls the service as its administrator on this machine.
func (w *world) local(action, body string) ([]byte, *kms.Error) {
	c := &kms.Call{Action: action, ID: kms.NewRequestID(), Caller: kms.Caller{ARN: server.LocalName(0), Local: true}}
	return w.service.Do(c, []byte(body))
}

// user makes a user.
func (w *world) user(name string) *kms.Access {
	w.t.Helper()
	reply, err := w.local("CreateUser", `{"Name":"`+name+`"}`)
	if err != nil {
		w.t.Fatal(err)
	}
	var a kms.Access
	unmarshal(w.t, reply, &a)
	return &a
}

func (w *world) key(c *awskms.Client) string {
	w.t.Helper()
	out, err := c.CreateKey(w.t.Context(), &awskms.CreateKeyInput{Description: aws.String("test")})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// code fails the test unless err is AWS's error of a code.
func code(t testing.TB, err error, want string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func must[T any](out T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

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

func second[T any](_ T, err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
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

func TestPolicies(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	alice, bob := w.client(w.user("alice")), w.client(w.user("bob"))
	key, none := w.key(c), "6f1c0f0e-3a5b-4c7d-8e9f-a0b1c2d3e4f5"
	// Who may not is told the same of keys that there are and those that there are not.
	id := key[len(key)-len(none):]
	err1 := second(alice.Encrypt(ctx, &awskms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}))
	err2 := second(alice.Encrypt(ctx, &awskms.EncryptInput{KeyId: &none, Plaintext: []byte("x")}))
	code(t, err1, "AccessDeniedException")
	code(t, err2, "AccessDeniedException")
	if m1, m2 := message(err1), message(err2); strings.ReplaceAll(m1, id, none) != m2 {
		t.Errorf("told apart: %q, %q", m1, m2)
	}
	root := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}`
	policy := `{"Version":"2012-10-17","Statement":[` + root + `,{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},
		"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:app":"demo"}}}]}`
	put := func(c *awskms.Client, policy string) error {
		_, err := c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: &policy})
		return err
	}
	if err := put(c, policy); err != nil {
		t.Fatal(err)
	}
	if got := must(c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &key}))(t); *got.Policy != policy {
		t.Errorf("GetKeyPolicy: %s", *got.Policy)
	}
	demo := map[string]string{"app": "demo"}
	b := must(alice.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: demo}))(t).CiphertextBlob
	must(alice.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: b, EncryptionContext: demo}))(t)
	for _, err := range []error{
		second(alice.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})),
		second(alice.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: b})),
		second(alice.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes128, EncryptionContext: demo})),
		second(alice.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &key})),
		second(alice.CreateKey(ctx, &awskms.CreateKeyInput{})),
		second(alice.ListKeys(ctx, &awskms.ListKeysInput{})),
		second(alice.ListAliases(ctx, &awskms.ListAliasesInput{})),
		second(bob.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: b, EncryptionContext: demo})),
		put(alice, policy),
	} {
		code(t, err, "AccessDeniedException")
	}
	for _, bad := range []string{
		`{`, `{"Statement":[]}`,
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/carol"},"Action":"kms:*","Resource":"*"},` + root + `]}`,
		`{"Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"kms:*","Resource":"*"},` + root + `]}`,
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"kms:*","Resource":"*"}]}`, // locks its author out
	} {
		code(t, put(c, bad), "MalformedPolicyDocumentException")
	}
	if got := must(c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &key}))(t); *got.Policy != policy {
		t.Errorf("GetKeyPolicy after refusals: %s", *got.Policy)
	}
	// Locked out on purpose, the administrator of the machine brings it back.
	lone := `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"kms:Decrypt","Resource":"*"}]}`
	must(c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: &lone, BypassPolicyLockoutSafetyCheck: true}))(t)
	code(t, put(c, policy), "AccessDeniedException")
	must(alice.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: b, EncryptionContext: demo}))(t)
	if _, err := w.local("PutKeyPolicy", `{"KeyId":"`+key+`","Policy":`+quote(policy)+`}`); err != nil {
		t.Fatal(err)
	}
	if err := put(c, policy); err != nil {
		t.Fatal(err)
	}
	if _, err := w.local("Decrypt", `{"CiphertextBlob":`+quoteBytes(b)+`,"EncryptionContext":{"app":"demo"}}`); err == nil || err.Code != "AccessDeniedException" {
		t.Errorf("the administrator of the machine decrypts: %v", err)
	}
}

func message(err error) string {
	e, _ := errors.AsType[smithy.APIError](err)
	return e.ErrorMessage()
}

func TestUsers(t *testing.T) {
	w := newWorld(t, server.Options{})
	ctx := t.Context()
	first := w.user("alice")
	list := func(a *kms.Access) error {
		_, err := w.client(a).ListKeys(ctx, &awskms.ListKeysInput{})
		return err
	}
	code(t, list(first), "AccessDeniedException")
	code(t, list(&kms.Access{ID: first.ID, Secret: w.admin.Secret}), "InvalidSignatureException")
	code(t, list(&kms.Access{ID: "AKIANOBODY", Secret: "x"}), "UnrecognizedClientException")
	rekey := func(body string) *kms.Access {
		reply, err := w.local("RekeyUser", body)
		if err != nil {
			t.Fatal(err)
		}
		var a kms.Access
		unmarshal(t, reply, &a)
		return &a
	}
	next := rekey(`{"Name":"alice","KeepOld":true}`)
	code(t, list(first), "AccessDeniedException")
	code(t, list(next), "AccessDeniedException")
	last := rekey(`{"Name":"alice"}`)
	code(t, list(first), "UnrecognizedClientException")
	code(t, list(next), "UnrecognizedClientException")
	code(t, list(last), "AccessDeniedException")
	if _, err := w.local("RemoveUser", `{"Name":"alice"}`); err != nil {
		t.Fatal(err)
	}
	code(t, list(last), "UnrecognizedClientException")
	if _, err := w.local("CreateUser", `{"Name":"alice"}`); err == nil || err.Code != "AlreadyExistsException" {
		t.Errorf("a name is given twice: %v", err)
	}
	w.stop()
	w.start(server.Options{})
	code(t, list(last), "UnrecognizedClientException")
	if err := list(w.admin); err != nil {
		t.Error(err)
	}
}

// TestEveryCallIsLogged compares the log with what was called.
func TestEveryCallIsLogged(t *testing.T) {
	w := newWorld(t, server.Options{})
	c, ctx := w.client(w.admin), t.Context()
	key := w.key(c)
	c.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("a plaintext"), EncryptionContext: map[string]string{"app": "demo"}})
	c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: []byte("x")})
	w.client(&kms.Access{ID: "AKIANOBODY", Secret: "x"}).ListKeys(ctx, &awskms.ListKeysInput{})
	w.client(&kms.Access{ID: w.admin.ID, Secret: "x"}).ListKeys(ctx, &awskms.ListKeysInput{})
	w.stop()
	var got []audit.Entry
	text := readLog(t, w.dir, &got)
	var all []string
	for _, e := range got {
		all = append(all, e.Action+" "+e.Result)
		if e.ID == "" || e.Time.IsZero() {
			t.Errorf("line %d: %+v", e.Seq, e)
		}
	}
	want := []string{"CreateKey ok", "Encrypt ok", "Decrypt InvalidCiphertextException", "ListKeys UnrecognizedClientException", "ListKeys InvalidSignatureException"}
	if !slices.Equal(all, want) {
		t.Fatalf("log: %q", all)
	}
	e := got[1]
	if e.User != "arn:aws:iam::000000000000:user/admin" || e.Key != key || e.Context["app"] != "demo" || e.AccessKey != w.admin.ID {
		t.Errorf("Encrypt: %+v", e)
	}
	if host, _, err := net.SplitHostPort(e.Source); err != nil || host != "127.0.0.1" {
		t.Errorf("source %s", e.Source)
	}
	if got[3].User != "" || got[4].User != "" || got[4].AccessKey != w.admin.ID {
		t.Errorf("refused: %+v, %+v", got[3], got[4])
	}
	if bytes.Contains(text, []byte("plaintext")) || bytes.Contains(text, []byte(w.admin.Secret)) {
		t.Error("the log tells a secret")
	}
	if r, err := audit.Verify(filepath.Join(w.dir, "audit")); err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
