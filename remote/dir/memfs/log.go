package memfs

import "fmt"

// Kind says what an Op does.
type Kind uint8

// The kinds of operations. OpOpen, OpRead and OpPreallocate are shown to the hook of FS.Fail only; all others are in the log.
const (
	OpCreate      Kind = iota + 1 // make the file Path
	OpMkdir                       // make the directory Path
	OpWrite                       // write Data to the file at Off
	OpTruncate                    // set the file's length to Off
	OpRename                      // move Path to NewPath
	OpLink                        // give the file Path the further name NewPath
	OpRemove                      // remove Path
	OpSync                        // fsync or fdatasync the file
	OpSyncDir                     // fsync the directory Path
	OpSyncFS                      // syncfs
	OpMark                        // nothing: the workload's note Label
	OpOpen                        // open the file Path for reading, or list or stat it
	OpRead                        // read from the file at Off
	OpPreallocate                 // hold space for the file to grow to Off bytes
)

var kindNames = [...]string{
	OpCreate: "create", OpMkdir: "mkdir", OpWrite: "write", OpTruncate: "truncate", OpRename: "rename", OpLink: "link",
	OpRemove: "remove", OpSync: "sync", OpSyncDir: "syncdir", OpSyncFS: "syncfs", OpMark: "mark", OpOpen: "open",
	OpRead: "read", OpPreallocate: "preallocate",
}

// String returns the kind's word.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Op is one operation on an FS.
type Op struct {
	Seq     int // place in the log, from 0
	Kind    Kind
	Path    string // of open files: as they were opened
	NewPath string
	Off     int64
	Data    []byte // not to be changed
	Label   string
	Failed  bool // a sync that returned an error: what it should have made durable may or may not be

	ino  int  // what it is done to
	at   key  // name that it makes, changes or removes
	to   key  // OpRename: the new name
	made node // OpCreate, OpMkdir
}

// key is a name in a directory.
type key struct {
	dir  int
	name string
}

// String describes the operation in one line.
func (op Op) String() string {
	s := fmt.Sprintf("#%d %v", op.Seq, op.Kind)
	switch op.Kind {
	case OpMark:
		return s + " " + op.Label
	case OpWrite:
		s += fmt.Sprintf(" %s [%d:%d]", op.Path, op.Off, op.Off+int64(len(op.Data)))
	case OpTruncate, OpRead, OpPreallocate:
		s += fmt.Sprintf(" %s %d", op.Path, op.Off)
	case OpRename, OpLink:
		s += " " + op.Path + " to " + op.NewPath
	default:
		s += " " + op.Path
	}
	if op.Failed {
		s += " (failed)"
	}
	return s
}

// Log is what was done to an FS up to a moment. It does not change any more.
type Log struct {
	base  image
	ops   []Op
	from  *FS // settings only
	clock int64
}

// Len returns the number of operations.
func (l *Log) Len() int { return len(l.ops) }

// Op returns operation i, counted from 0.
func (l *Log) Op(i int) Op { return l.ops[i] }

// Marks returns the labels of the first upto operations, in order.
func (l *Log) Marks(upto int) []string {
	var labels []string
	for _, op := range l.ops[:upto] {
		if op.Kind == OpMark {
			labels = append(labels, op.Label)
		}
	}
	return labels
}
