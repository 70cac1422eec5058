package fusefs

import "envfs/fs"

// dropPages has the kernel drop the pages that it keeps of files which somebody else has changed. It may wait until reads
// of them have been answered.
func (r *rawFS) dropPages(files []*fs.Inode) {
	for _, ino := range files {
		if node := ino.Tag.Load(); node != 0 {
			r.kernel.InodeNotify(node, 0, 0) // ENOENT: the kernel has forgotten it
		}
	}
}
