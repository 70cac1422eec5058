package kms

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/sys/unix"
)

// TestSyncedBeforeReply looks over the service's shoulder (strace): of calls that come one after the other, the n-th
// reply must not leave before the log was synced n times, each time after it was written to.
func TestSyncedBeforeReply(t *testing.T) {
	k := newKMS(t)
	k.start()
	c := k.client(k.access)
	if _, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil { // the connection stands
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	strace := exec.Command("strace", "-f", "-yy", "-e", "trace=write,fdatasync", "-e", "signal=none", "-o", trace, "-p", fmt.Sprint(k.cmd.Process.Pid))
	var said bytes.Buffer
	strace.Stderr = &said
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		strace.Process.Signal(unix.SIGINT)
		strace.Wait()
	}()
	attached(t, c, trace)
	for range 20 {
		if _, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
			t.Fatal(err)
		}
	}
	strace.Process.Signal(unix.SIGINT)
	strace.Wait()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatalf("%v: %s", err, said.Bytes())
	}
	replies, seen, written, synced := 0, false, false, false
	for line := range strings.Lines(string(text)) {
		log := strings.Contains(line, "/audit/")
		switch {
		case log && strings.Contains(line, "write("):
			seen, written, synced = true, true, false
		case !seen: // the end of a call that was under way when strace came
		case log && strings.Contains(line, "fdatasync("), strings.Contains(line, "fdatasync resumed"):
			// A call that takes long stands on two lines; the second one tells of its end.
			synced = written && !strings.Contains(line, "unfinished")
		case strings.Contains(line, "<TCP:") && strings.Contains(line, "write(") && isReply(line):
			replies++
			if !written || !synced {
				t.Fatalf("reply %d leaves before its line is on the disk:\n%s", replies, text)
			}
			written, synced = false, false
		}
	}
	if replies < 20 {
		t.Fatalf("%d replies seen:\n%s", replies, text)
	}
}

// What strace shows of records of TLS that begin at a write (RFC 8446, 5.1): type 23, version, length, with numbers in octal.
var (
	record = regexp.MustCompile(`"\\27\\3\\3`)
	alert  = regexp.MustCompile(`"\\27\\3\\3\\0\\(23([^0-7]|$)|023)`) // of 19 bytes
)

// isReply reports whether what is written to a connection is a reply. On a busy machine the client may end a connection and
// begin another: then the service also writes what the handshake needs, and an alert that a connection ends.
func isReply(line string) bool { return record.MatchString(line) && !alert.MatchString(line) }

// attached returns when strace sees what the service does.
func attached(t *testing.T, c *awskms.Client, trace string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if _, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(trace)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("/audit/")) && bytes.Contains(text, []byte("<TCP:")) {
			return
		}
	}
	t.Fatal("strace sees nothing")
}
