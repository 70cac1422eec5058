package kms

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sys/unix"

	"envfs/tests/ext4"
	"envfs/tests/seed"
)

var (
	crashSeed   = flag.Uint64("kms.seed", 0, "seed of the crash test; 0: another one each time")
	crashRounds = flag.Int("kms.rounds", 6, "how often the crash test kills the service")
)

// owned is a key that one worker alone changes, as its answered calls have left it.
type owned struct {
	arn         string
	description string   // as it was said to be
	maybe       string   // as a call said that was not answered; "" if there was none
	policies    []string // the last one that was taken, and those of calls that were not answered since
	rotations   int      // at least
	blobs       [][]byte
}

// ledger is what the service has answered.
type ledger struct {
	over atomic.Bool // the power is being cut: what is answered from now on counts for nothing

	mu       sync.Mutex
	keys     []*owned
	requests []string // ids of the requests, all of which must be in the log
	enough   int      // of them, and reached is closed
	reached  chan struct{}
}

// expect returns a channel that is closed when n more requests were answered.
func (l *ledger) expect(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enough, l.reached = len(l.requests)+n, make(chan struct{})
	return l.reached
}

// failed reports whether a call that ended with err has no result that counts.
func (l *ledger) failed(err error) bool { return err != nil || l.over.Load() }

// note takes down the id of a request that was answered, with a result or an error of the service's.
func (l *ledger) note(meta middleware.Metadata, err error) (answered bool) {
	if l.over.Load() {
		return false
	}
	id, ok := awsmiddleware.GetRequestIDMetadata(meta)
	if err != nil {
		e, is := errors.AsType[*awshttp.ResponseError](err)
		told, api := errors.AsType[smithy.APIError](err)
		if !is || !api || told.ErrorCode() == "KMSInternalException" { // it says that it could not, not even log the call
			return false
		}
		id, ok = e.ServiceRequestID(), true
	}
	if ok {
		l.mu.Lock()
		l.requests = append(l.requests, id)
		if len(l.requests) == l.enough {
			close(l.reached)
		}
		l.mu.Unlock()
	}
	return ok
}

// TestKilled kills the service again and again while clients change and use keys. Whatever was answered must be there
// afterwards, and in the log; and what is there must be in the log, answered or not.
func TestKilled(t *testing.T) {
	k := newKMS(t)
	crash(t, k, *crashRounds, func(*ledger) { k.stop(unix.SIGKILL) })
}

// TestPowerCut does the same, and what was not synced is lost, too.
func TestPowerCut(t *testing.T) {
	d := ext4.New(t, 100)
	k := newKMSIn(t, d.Dir)
	ext4.System(t, "sync", "-f", d.Dir)
	cut := func(l *ledger) {
		// While a file system shuts down, ext4 may say that a sync was done which was not; when the power fails nobody is
		// there to hear it.
		l.over.Store(true)
		d.Cut(t)
		k.stop(unix.SIGKILL)
		d.Unmount(t)
		d.Mount(t)
	}
	crash(t, k, *crashRounds, cut)
}

// crash has workers use a service whose end comes at any moment, so many times. cut ends it.
func crash(t *testing.T, k *kms, rounds int, cut func(*ledger)) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed.Of(t, "kms.seed", *crashSeed), 0))
	l := &ledger{}
	for round := range rounds {
		k.start()
		client := k.client(k.access)
		l.over.Store(false)
		l.verify(t, client)
		ctx, cancel := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		reached := l.expect(10 + rnd.IntN(300))
		for range 6 {
			w := &worker{t: t, ledger: l, client: client, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 0))}
			workers.Go(func() { w.run(ctx) })
		}
		none := make(chan struct{})
		go func() {
			defer close(none)
			workers.Wait()
		}()
		select {
		case <-reached:
		case <-none:
			t.Fatalf("round %d: no worker is answered any more", round)
		}
		time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond) // when it ends is up to chance
		cut(l)
		cancel()
		<-none
		t.Logf("round %d: %d keys, %d requests answered", round, len(l.keys), len(l.requests))
	}
	k.start()
	l.verify(t, k.client(k.access))
	k.stop(unix.SIGTERM)
	l.verifyLog(t, k)
}

// worker is a client that changes keys of its own.
type worker struct {
	t      *testing.T
	ledger *ledger
	client *awskms.Client
	rnd    *rand.Rand
}

func (w *worker) run(ctx context.Context) {
	k := w.create(ctx)
	for k != nil && w.step(ctx, k) {
	}
}

func (w *worker) create(ctx context.Context) *owned {
	out, err := w.client.CreateKey(ctx, &awskms.CreateKeyInput{})
	if w.ledger.failed(err) {
		return nil
	}
	w.ledger.note(out.ResultMetadata, nil)
	k := &owned{arn: *out.KeyMetadata.Arn, policies: []string{policyNamed("default")}}
	_, err = w.client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &k.arn, Policy: &k.policies[0]})
	if w.ledger.failed(err) {
		k.policies = nil // the one that keys are made with, or this one
	}
	w.ledger.mu.Lock()
	w.ledger.keys = append(w.ledger.keys, k)
	w.ledger.mu.Unlock()
	return k
}

func policyNamed(id string) string {
	return `{"Version":"2012-10-17","Id":"` + id + `","Statement":[{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"kms:*","Resource":"*"}]}`
}

// step makes one call. It returns false if it was not answered.
func (w *worker) step(ctx context.Context, k *owned) bool {
	text := fmt.Sprint(w.rnd.Uint64())
	switch w.rnd.IntN(5) {
	case 0:
		out, err := w.client.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: &k.arn})
		if w.ledger.failed(err) {
			return w.refused(err)
		}
		k.rotations++
		return w.ledger.note(out.ResultMetadata, nil)
	case 1:
		k.maybe = text
		out, err := w.client.UpdateKeyDescription(ctx, &awskms.UpdateKeyDescriptionInput{KeyId: &k.arn, Description: &text})
		if w.ledger.failed(err) {
			return w.refused(err)
		}
		k.description, k.maybe = text, ""
		return w.ledger.note(out.ResultMetadata, nil)
	case 2:
		policy := policyNamed(text)
		if len(k.policies) > 0 {
			k.policies = append(k.policies, policy)
		}
		out, err := w.client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &k.arn, Policy: &policy})
		if w.ledger.failed(err) {
			return w.refused(err)
		}
		k.policies = []string{policy}
		return w.ledger.note(out.ResultMetadata, nil)
	case 3:
		_, err := w.client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: []byte("no blob")})
		return w.refused(err)
	}
	out, err := w.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &k.arn, Plaintext: []byte(k.arn)})
	if w.ledger.failed(err) {
		return w.refused(err)
	}
	k.blobs = append(k.blobs, out.CiphertextBlob)
	return w.ledger.note(out.ResultMetadata, nil)
}

// refused takes an error down, and reports whether it was the service's.
func (w *worker) refused(err error) bool { return w.ledger.note(middleware.Metadata{}, err) }

// verify compares the keys with what was answered.
func (l *ledger) verify(t *testing.T, c *awskms.Client) {
	t.Helper()
	ctx := t.Context()
	for _, k := range l.keys {
		d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.arn})
		if err != nil {
			t.Errorf("key %s: %v", k.arn, err)
			continue
		}
		if got := aws.ToString(d.KeyMetadata.Description); got != k.description && got != k.maybe {
			t.Errorf("key %s: description %q, want %q or %q", k.arn, got, k.description, k.maybe)
		} else {
			k.description, k.maybe = got, ""
		}
		p, err := c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: &k.arn})
		if err != nil || len(k.policies) > 0 && !slices.Contains(k.policies, *p.Policy) {
			t.Errorf("key %s: its policy is lost: %v", k.arn, err)
		}
		r, err := c.ListKeyRotations(ctx, &awskms.ListKeyRotationsInput{KeyId: &k.arn, Limit: aws.Int32(1000)})
		if err != nil || len(r.Rotations) < k.rotations || len(r.Rotations) > k.rotations+1 {
			t.Errorf("key %s: %d rotations, want %d or one more: %v", k.arn, len(r.Rotations), k.rotations, err)
		} else {
			k.rotations = len(r.Rotations)
		}
		for _, b := range k.blobs {
			out, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: b})
			if err != nil || string(out.Plaintext) != k.arn {
				t.Errorf("key %s: decrypt: %v", k.arn, err)
				break
			}
		}
		k.blobs = k.blobs[:min(len(k.blobs), 5)]
	}
}

// verifyLog looks for every answered request in the log, and for every change that was made.
func (l *ledger) verifyLog(t *testing.T, k *kms) {
	t.Helper()
	seen := map[string]int{}
	made := map[string]int{}
	late := 0
	for _, e := range k.entries() {
		seen[e.ID]++
		if e.Result == "ok" {
			made[e.Action+" "+e.Key]++
		}
		if e.Late {
			late++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("request %s is %d times in the log", id, n)
		}
	}
	for _, id := range l.requests {
		if seen[id] == 0 {
			t.Errorf("request %s was answered, and is not in the log", id)
		}
	}
	for _, key := range l.keys {
		if made["CreateKey "+key.arn] != 1 || made["RotateKeyOnDemand "+key.arn] != key.rotations {
			t.Errorf("key %s: the log tells of %d creations and %d rotations, of which there were 1 and %d", key.arn, made["CreateKey "+key.arn], made["RotateKeyOnDemand "+key.arn], key.rotations)
		}
	}
	t.Logf("%d lines, %d of them late", len(seen), late)
}
