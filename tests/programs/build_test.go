package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program is built within the mount, with the compiler's cache there, too, runs from there, and after mounting again the
// cache still fits.
func TestGoBuild(t *testing.T) {
	const packages = 30
	v := mount(t)
	dir := filepath.Join(v.Point, "src")
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(text), 0o644))
	}
	var imports, sum strings.Builder
	for i := range packages {
		write(fmt.Sprintf("p%d/p.go", i), fmt.Sprintf("package p%d\n\nfunc N() int { return %d }\n", i, i))
		fmt.Fprintf(&imports, "import \"example.org/prog/p%d\"\n", i)
		fmt.Fprintf(&sum, " + p%d.N()", i)
	}
	write("go.mod", "module example.org/prog\n\ngo 1.21\n")
	write("main.go", "package main\n\n"+imports.String()+"\nfunc main() { println(0"+sum.String()+") }\n")
	build := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", append([]string{"build", "-o", "prog"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(append([]string{}, environ...), "GOCACHE="+filepath.Join(v.Point, "cache"), "GOTMPDIR="+v.Point,
			"GOPATH="+filepath.Join(v.Point, "path"), "GOENV=off", "GOFLAGS=", "GOTOOLCHAIN=local", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		return string(out)
	}
	runs := func() {
		t.Helper()
		out, err := exec.Command(filepath.Join(dir, "prog")).CombinedOutput()
		if want := fmt.Sprintln(packages * (packages - 1) / 2); err != nil || string(out) != want {
			t.Fatalf("the program says %q (%v), want %q", out, err, want)
		}
	}
	build()
	runs()
	must(t, v.Remount())
	runs()
	must(t, os.Remove(filepath.Join(dir, "prog")))
	if out := build("-v"); out != "" {
		t.Errorf("after mounting again, built anew:\n%s", tail(out))
	}
	runs()
}
