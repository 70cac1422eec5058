package dir

import (
	"path"
	"strings"

	"envfs/blockcrypt"
)

// tempPrefix begins the names of the files that are to become the replaced object name.
func tempPrefix(name string) string { return "." + name + ".tmp-" }

func isTemp(name string) bool {
	return name == ballastName || strings.HasPrefix(name, tempPrefix(blockcrypt.RootName)) ||
		strings.HasPrefix(name, tempPrefix(blockcrypt.KeyCopyName))
}

// parentOf returns the directory that holds name; "" is the store's own.
func parentOf(name string) string {
	parent, _ := path.Split(name)
	return strings.TrimSuffix(parent, "/")
}
