package server_test

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"envfs/kms"
	"envfs/kms/audit"
	"envfs/kms/server"
)

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
