package bucket

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"envfs/tests/command"
)

// named has the command run on a machine of another name.
func named(t *testing.T, v *command.Vault, host string) {
	t.Helper()
	path := filepath.Join(v.Home, "envfs")
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --uts sh -c 'echo %s >/proc/sys/kernel/hostname; exec \"$0\" \"$@\"' '%s' \"$@\"\n", host, v.Binary)
	must(t, os.WriteFile(path, []byte(script), 0o755))
	v.Binary = path
}

// Who is refused because another machine writes learns which one, since when, and when it wrote last; but only with a key,
// as neither name lies in the bucket in clear.
func TestOtherWriter(t *testing.T) {
	r := newRig(t)
	host := "oslo.machines.example"
	named(t, r.Vault, host)
	must(t, r.Mount())
	fill(t, filepath.Join(r.Point, "d"), 5)
	r.sync()
	must(t, r.Kill()) // so that no socket tells; what is in the bucket is that of a machine at work
	must(t, r.Discard())
	other := r.elsewhere()
	other.Binary = binary
	named(t, other, "bergen.machines.example")
	res, err := other.TryMount()
	must(t, err)
	// With a date if it is another day by now.
	want := `team/vault is being written by \w+@` + regexp.QuoteMeta(host) + ` since (\d{4}-\d\d-\d\d )?\d\d:\d\d, last commit \d+ (s|min) ago; --follow reads along, --takeover cuts that writer off`
	if res.Code != 11 || !regexp.MustCompile(want).MatchString(res.Talk) {
		t.Errorf("mount beside a writer: %d: %s", res.Code, res.Talk)
	}
	key := filepath.Join(other.Home, "another key")
	res, err = other.Run("key", "generate", key)
	must(t, err)
	res, err = other.Run("mount", other.Store, other.Point, "--keyfile", key)
	must(t, err)
	if res.Code != 12 || regexp.MustCompile("oslo").MatchString(res.Talk) {
		t.Errorf("mount with a wrong key: %d: %s", res.Code, res.Talk)
	}
	r.each(func(name string, data []byte) {
		if bytes.Contains(data, []byte(host)) {
			t.Errorf("%s tells the name of the machine", name)
		}
	})
	must(t, other.Mount("--read-only"))
	must(t, other.Unmount())
	must(t, r.Mount())
	must(t, r.Unmount())
	must(t, other.Mount())
	must(t, other.Unmount())
}
