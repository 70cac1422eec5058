package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"envfs/tests/command"
)

// shown is what of `envfs status --json` is about the bucket.
type shown struct {
	ToPublish int64     `json:"to_publish_bytes"`
	Objects   int       `json:"to_publish_objects"`
	Since     time.Time `json:"to_publish_since"`
	RootTime  time.Time `json:"root_time"`
	Bucket    struct {
		Away     bool   `json:"away"`
		Cause    string `json:"cause"`
		Requests int64  `json:"requests"`
		Retries  int64  `json:"retries"`
		Sent     int64  `json:"sent_bytes"`
		Writers  int    `json:"writers_waiting"`
		State    int64  `json:"state_bytes"`
		Cache    int64  `json:"cache_bytes"`
		Refused  int64  `json:"refused_deletes"`
	} `json:"bucket"`
}

// until asks for the status until it is as wanted.
func until(t *testing.T, v *command.Vault, what string, wanted func(*shown) bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		st := status[shown](t, v)
		if wanted(&st) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after two minutes: %+v", what, st)
		}
	}
}

// While the bucket is away what is cached can be read, and work goes on up to the bound of the state; then writes wait,
// which status shows, and are refused. When it is back all is published.
func TestAwayAtTheBound(t *testing.T) {
	start := time.Now()
	r := newRig(t)
	must(t, r.Mount("--state-size", "32", "--wait", "1s"))
	files := fill(t, filepath.Join(r.Point, "d"), 4)
	big := make([]byte, 1<<20)
	_, _ = rand.Read(big)
	for _, name := range []string{"near", "far"} {
		must(t, os.WriteFile(filepath.Join(r.Point, name), big, 0o644))
	}
	r.sync()
	must(t, r.Remount("--state-size", "32", "--wait", "1s"))
	if got, err := os.ReadFile(filepath.Join(r.Point, "near")); err != nil || !bytes.Equal(got, big) {
		t.Fatal("near cannot be read", err)
	}
	compare(t, filepath.Join(r.Point, "d"), files)
	if st := status[shown](t, r.Vault); st.ToPublish != 0 || !st.Since.IsZero() || st.Bucket.Away || st.Bucket.Requests == 0 ||
		st.Bucket.Cache < 1<<20 || st.RootTime.Before(start) {
		t.Errorf("status when nothing waits: %+v", st)
	}

	r.server.Kill()
	must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	if got, err := os.ReadFile(filepath.Join(r.Point, "near")); err != nil || !bytes.Equal(got, big) {
		t.Error("what is cached cannot be read", err)
	}
	began := time.Now()
	if _, err := os.ReadFile(filepath.Join(r.Point, "far")); !errors.Is(err, syscall.EIO) || time.Since(began) < time.Second {
		t.Errorf("what is not cached: %v after %v", err, time.Since(began))
	}
	written, failed := make(chan int, 1), make(chan error, 1)
	var over atomic.Bool
	var trying sync.WaitGroup
	defer over.Store(true)
	trying.Go(func() {
		var err error
		n := 0
		for ; err == nil; n++ {
			data := bytes.Clone(big)
			data[0] = byte(n)
			err = os.WriteFile(filepath.Join(r.Point, "more"+string(rune('a'+n))), data, 0o644)
		}
		written <- n - 1
		failed <- err
		for !over.Load() {
			_ = os.WriteFile(filepath.Join(r.Point, "again"), big, 0o644) // it is refused, and waits before
		}
	})
	until(t, r.Vault, "writes wait", func(st *shown) bool { return st.Bucket.Writers > 0 })
	st := status[shown](t, r.Vault)
	if !st.Bucket.Away || st.Bucket.Cause != "connection refused" || st.ToPublish < 20<<20 || st.Objects == 0 || st.Since.IsZero() {
		t.Errorf("status at the bound: %+v", st)
	}
	n := heard(t, "writes are refused", written)
	if err := heard(t, "the error", failed); !errors.Is(err, syscall.ENOSPC) || n < 20 || n > 32 {
		t.Errorf("after %d MiB: %v", n, err)
	}
	for text := ""; !strings.Contains(text, "WAIT since") || !strings.Contains(text, "(connection refused)"); {
		res, err := r.Run("status")
		must(t, err)
		if text = res.Out; time.Since(began) > 5*time.Minute {
			t.Fatalf("status does not tell that writes wait: %s", text)
		}
	}
	over.Store(true)
	trying.Wait()
	must(t, os.Remove(filepath.Join(r.Point, "d", "file3"))) // what frees space is not refused
	delete(files, "file3")

	r.restart()
	r.sync()
	until(t, r.Vault, "back", func(st *shown) bool { return !st.Bucket.Away && st.ToPublish == 0 })
	must(t, os.WriteFile(filepath.Join(r.Point, "again"), big, 0o644))
	log, err := r.Log()
	must(t, err)
	if strings.Count(log, "the bucket is away") != 1 || strings.Count(log, "the bucket is back") != 1 {
		t.Errorf("away and back are not told once each: %s", log)
	}
	must(t, r.Unmount())
	must(t, r.Check())
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	compare(t, filepath.Join(other.Point, "d"), files)
	for i := range n {
		got, err := os.ReadFile(filepath.Join(other.Point, "more"+string(rune('a'+i))))
		if err != nil || got[0] != byte(i) || !bytes.Equal(got[1:], big[1:]) {
			t.Errorf("file %d: %v", i, err)
		}
	}
	must(t, other.Unmount())
}

// An unmount waits for the bucket, and says so. Ctrl-C leaves the rest where it says, and the next mount publishes it.
func TestUnmountWhileAway(t *testing.T) {
	r := newRig(t)
	must(t, r.Mount())
	r.sync()
	r.server.Kill()
	files := fill(t, filepath.Join(r.Point, "d"), 20)
	for _, verb := range []string{"sync", "unmount"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, r.Binary, verb, r.Point)
		var talk told
		talk.word, talk.said = "has been away since", make(chan struct{})
		cmd.Env, cmd.Stderr = r.Env(), &talk
		must(t, cmd.Start())
		select {
		case <-talk.said:
		case <-ctx.Done():
			t.Fatalf("%s does not say that the bucket is away", verb)
		}
		must(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait() // the code tells
		text := talk.text()
		if cmd.ProcessState.ExitCode() != 130 || !strings.Contains(text, filepath.Join(r.Home, "state")) {
			t.Errorf("%s, broken off: %d: %s", verb, cmd.ProcessState.ExitCode(), text)
		}
		if verb == "unmount" && !strings.Contains(text, "Not all is published") {
			t.Errorf("unmount, broken off: %s", text)
		}
	}
	if bytes.Contains([]byte(system(t, "cat", "/proc/self/mounts")), []byte(r.Point)) {
		t.Fatal("it is mounted still")
	}
	start := time.Now()
	r.restart()
	must(t, r.Mount())
	done := answer[struct {
		RootSeq  uint64    `json:"root_seq"`
		RootTime time.Time `json:"root_time"`
	}](t, r.Vault, "sync", "--json", r.Point)
	if done.RootSeq == 0 || done.RootTime.Before(start) {
		t.Errorf("sync --json: %+v", done)
	}
	other := r.elsewhere()
	must(t, other.Mount("--read-only"))
	compare(t, filepath.Join(other.Point, "d"), files)
	must(t, other.Unmount())
	must(t, r.Unmount())
}
