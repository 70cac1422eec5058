// Package kmstest runs a KMS for tests of what uses one.
package kmstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"envfs/kms"
	"envfs/kms/seal"
	"envfs/kms/server"
)

// KMS is a KMS that serves HTTPS in this process until its test ends.
type KMS struct {
	URL   string
	CA    string // file of its authority's certificate
	Admin *kms.Access

	t       testing.TB
	service *kms.Service
	stop    func()
}

// Start makes a KMS and serves it.
func Start(t testing.TB) *KMS {
	t.Helper()
	sealer, err := seal.NewKeyFile(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := &KMS{t: t, CA: kms.CAPath(dir)}
	if k.Admin, err = kms.Init(t.Context(), dir, kms.DefaultConfig, sealer, time.Now()); err != nil {
		t.Fatal(err)
	}
	if k.service, err = kms.Open(t.Context(), dir, sealer, kms.Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan []string, 1), make(chan error, 1)
	go func() {
		done <- server.New(dir, k.service, server.Options{Listen: "127.0.0.1:0"}).Serve(ctx, func(a []string) { ready <- a })
	}()
	select {
	case addresses := <-ready:
		k.URL = addresses[0]
	case err := <-done:
		t.Fatal(err)
	}
	k.stop = func() {
		cancel()
		if err := errors.Join(<-done, k.service.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { k.stop() })
	return k
}

// Do calls the KMS as its administrator on this machine, and decodes the reply into v unless that is nil.
func (k *KMS) Do(action string, request, v any) {
	k.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		k.t.Fatal(err)
	}
	c := &kms.Call{Action: action, ID: kms.NewRequestID(), Caller: kms.Caller{ARN: server.LocalName(0), Local: true}}
	reply, kerr := k.service.Do(c, body)
	if kerr != nil {
		k.t.Fatalf("%s: %v", action, kerr)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(reply, v); err != nil {
		k.t.Fatal(err)
	}
}

// Key makes a key and returns its ARN.
func (k *KMS) Key() string {
	k.t.Helper()
	var out struct{ KeyMetadata struct{ Arn string } }
	k.Do("CreateKey", map[string]string{}, &out)
	return out.KeyMetadata.Arn
}

// User makes a user who may do nothing yet.
func (k *KMS) User(name string) *kms.Access {
	k.t.Helper()
	var a kms.Access
	k.Do("CreateUser", map[string]string{"Name": name}, &a)
	return &a
}

// Env returns the variables that lead AWS's tools to this KMS, as a user.
func (k *KMS) Env(a *kms.Access) map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_KMS": k.URL, "AWS_CA_BUNDLE": k.CA, "AWS_REGION": kms.DefaultConfig.Region,
		"AWS_ACCESS_KEY_ID": a.ID, "AWS_SECRET_ACCESS_KEY": a.Secret,
		"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	}
}
