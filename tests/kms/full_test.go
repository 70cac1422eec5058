package kms

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"golang.org/x/sys/unix"

	"envfs/tests/ext4"
)

// TestDiskFull: when the log cannot be written nothing is answered, and the service says that it is not well; with
// space again it goes on, and nothing is missing.
func TestDiskFull(t *testing.T) {
	d := ext4.New(t, 16)
	k := newKMSIn(t, d.Dir)
	k.start()
	c := k.client(k.access)
	key, err := c.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	blob, err := c.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key.KeyMetadata.Arn, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(d.Dir, "ballast")
	fill(t, ballast)
	answered, err := 2, nil
	for err == nil {
		if _, err = c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: blob.CiphertextBlob}); err == nil {
			answered++
		}
		if answered > 100_000 {
			t.Fatal("the disk never becomes full")
		}
	}
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "KMSInternalException" {
		t.Errorf("Decrypt on a full disk: %v", err)
	}
	if status := health(t, k); status != http.StatusServiceUnavailable {
		t.Errorf("health on a full disk: %d", status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: blob.CiphertextBlob}); err != nil {
		t.Errorf("Decrypt with space again: %v", err)
	}
	answered++
	if status := health(t, k); status != http.StatusOK {
		t.Errorf("health with space again: %d", status)
	}
	k.stop(unix.SIGTERM)
	if n := len(k.entries()); n != answered {
		t.Errorf("%d lines in the log, and %d calls were answered", n, answered)
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err == nil {
			continue
		} else if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		size /= 2
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func health(t *testing.T, k *kms) int {
	t.Helper()
	resp, err := k.http().Get(k.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
