package fs

import (
	"fmt"
	"testing"
)

// A listing goes on behind the name it has come to, and before all names of an equal hash if it has not had the last.
func TestCookies(t *testing.T) {
	items := []dirent{{h: 5, name: "a"}, {h: 9, name: "b"}, {h: 9, name: "c"}, {h: 10, name: "d"}}
	var got []uint64
	for i := range items {
		got = append(got, cookieOf(items, i))
	}
	if fmt.Sprint(got) != "[5 8 9 10]" {
		t.Errorf("cookies %v", got)
	}
}
