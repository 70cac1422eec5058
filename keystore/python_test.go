package keystore

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The reader that the format's description prints opens key files with slots of all kinds, by any slot whose W it is given.
func TestPythonInDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/FORMAT-keyfile.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(doc)
	if code == nil {
		t.Fatal("no program there")
	}
	script := filepath.Join(t.TempDir(), "reader.py")
	text := string(code[1]) + `
import sys
for epoch, kek in sorted(open_key_file(open(sys.argv[1], "rb").read(), bytes.fromhex(sys.stdin.read())).items()):
    print(epoch, kek.hex())
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	slots := []NewSlot{{Provider: newBox("box"), Label: "a <label> & more"}, keyFile(t, 1), pass("a")}
	v := create1(t, slots...)
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, v.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("1 %x\n", kek(t, v, 1))
	for _, s := range slots {
		w := opens(t, v, s).w
		python := exec.Command("python3", script, file)
		python.Stdin = strings.NewReader(hex.EncodeToString(w))
		out, err := python.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("slot of kind %s: %v\n%s", s.Provider.Kind(), err, out)
		}
	}
}
