// Package fusefs shows an [fs.FS] to the Linux kernel: it turns FUSE requests into calls of package fs and its errors
// into errno values. It holds no data of its own but the kernel's node numbers and open files.
//
// The mount is the only way to the file system, so the kernel is told to keep what it learns: names (also those that
// do not exist), attributes, link targets, directory listings and pages. Permissions, locks, umask and sticky bits
// are the kernel's business (default_permissions); which owner, group and privilege bits a change leaves behind is
// package fs's.
//
// A request that a signal interrupts runs to its end: a mutation must not be cut in two, and programs do not expect
// EINTR from a file system on a disk. (The scheduler of Go programs sends itself SIGURG all the time, and many
// programs have a timer running.) But one that waits for a store, and has changed nothing yet, is given up when the program
// is dying, which no program can see; else it could not be killed as long as the store is away.
package fusefs
