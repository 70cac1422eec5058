package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
)

var benchClients = flag.Int("kms.clients", 64, "how many clients the benchmark has, each with one connection and one call at a time")

// BenchmarkDecrypt measures calls of Decrypt over HTTPS against the command in a process of its own, each signed,
// verified, decided by a policy, and in the audit log, on the disk, before its reply. The clients run on the same
// cores. b.N is the number of calls.
func BenchmarkDecrypt(b *testing.B) {
	k := newKMS(b)
	k.start()
	c := k.client(k.access)
	key, err := c.CreateKey(b.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	enc, err := c.Encrypt(b.Context(), &awskms.EncryptInput{KeyId: key.KeyMetadata.Arn, Plaintext: make([]byte, 32), EncryptionContext: map[string]string{"app": "bench"}})
	if err != nil {
		b.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"CiphertextBlob": enc.CiphertextBlob, "EncryptionContext": map[string]string{"app": "bench"}})
	if err != nil {
		b.Fatal(err)
	}
	caller := newCaller(b, k, "Decrypt", body)
	var left atomic.Int64
	left.Store(int64(b.N))
	latencies := make([][]time.Duration, *benchClients)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range *benchClients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if err := caller.call(b.Context()); err != nil {
					b.Error(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "calls/s")
	if len(all) > 0 {
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms-p50")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "ms-p99")
	}
}

// caller makes one call again and again, without what an SDK does besides: it should not take the cores from the service.
type caller struct {
	url, target, digest string
	body                []byte
	who                 aws.Credentials
	signer              *v4.Signer
	client              *http.Client
}

func newCaller(tb testing.TB, k *kms, action string, body []byte) *caller {
	tb.Helper()
	hash := sha256.Sum256(body)
	return &caller{
		url: k.url, target: "TrentService." + action, digest: hex.EncodeToString(hash[:]), body: body,
		who: aws.Credentials{AccessKeyID: k.access.id, SecretAccessKey: k.access.secret}, signer: v4.NewSigner(), client: k.http(),
	}
}

func (c *caller) call(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/", bytes.NewReader(c.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", c.target)
	if err := c.signer.SignHTTP(ctx, c.who, r, c.digest, "kms", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, reply)
	}
	return nil
}
