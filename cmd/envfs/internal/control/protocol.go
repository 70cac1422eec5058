// Package control is how the verbs of the command reach a mounted vault: a Unix socket for each mount, in a directory
// that only its user can enter.
//
// The daemon greets each connection with one [Hello]. The client sends one [Request]; the daemon answers with any
// number of [Reply] lines, the last of which has Done set. Every message is one line of JSON of at most [MaxLine] bytes.
// Both sides check by SO_PEERCRED who the other is.
package control

import (
	"time"

	"envfs/cmd/envfs/internal/secret"
	"envfs/fs"
)

// MaxLine bounds a message in bytes.
const MaxLine = 1 << 20

// Version is the protocol's version. A client speaks to a daemon of its own version only, except to unmount.
const Version = 1

// Hello is the daemon's greeting: which vault is mounted where, and by whom.
type Hello struct {
	Version    int       `json:"version"`
	Vault      string    `json:"vault"`
	Store      string    `json:"store"`
	Mountpoint string    `json:"mountpoint"`
	Since      time.Time `json:"since"`
	Host       string    `json:"host"`
	User       string    `json:"user"`
	PID        int       `json:"pid"`
	ReadOnly   bool      `json:"read_only"`
	Root       string    `json:"root,omitempty"`      // the root that was asked for, if not the newest
	StateDir   string    `json:"state_dir,omitempty"` // where what is not published waits, of a vault in a bucket
	CacheDir   string    `json:"cache_dir,omitempty"`
}

// Verb is what a client asks for.
type Verb string

// The verbs.
const (
	Status  Verb = "status"
	Fold    Verb = "fold"    // now
	Sync    Verb = "sync"    // replies when all is durable, and published where the store is shared
	Unmount Verb = "unmount" // replies when all is on disk
	Break   Verb = "break"   // sent after Unmount: leave the rest of the fold to the journal
	Check   Verb = "check"   // findings are streamed
	Keys    Verb = "keys"    // change the slots

	Rewrap    Verb = "rewrap"    // all data keys under the newest key epoch
	Reencrypt Verb = "reencrypt" // what lies at Path, under new data keys
	KeyUse    Verb = "key-use"   // which key epochs are in use
)

// Request is what a client sends.
type Request struct {
	Verb Verb       `json:"verb"`
	Lazy bool       `json:"lazy,omitempty"` // Unmount: detach now, end when the last file is closed
	Keys *KeyChange `json:"keys,omitempty"`
	Path string     `json:"path,omitempty"` // Reencrypt: within the vault
}

// KeyChange asks for a change of the slots of a vault.
type KeyChange struct {
	Op        string        `json:"op"` // "add", "remove", "replace", "rotate", "rewrap" or "restore"
	Auth      secret.Bundle `json:"auth"`
	Slot      string        `json:"slot,omitempty"` // the slot to be removed or replaced: an id, its beginning, or a label
	Force     bool          `json:"force,omitempty"`
	New       secret.Bundle `json:"new"`
	Label     string        `json:"label,omitempty"`
	KDFMemory uint32        `json:"kdf_memory,omitempty"` // KiB
	KDFPasses uint32        `json:"kdf_passes,omitempty"`

	Generation uint64 `json:"generation"`        // of the key file that is to be changed
	KeyFile    []byte `json:"keyfile,omitempty"` // "restore": the older key file
}

// Reply is one line of an answer. One of the fields is set, or Done.
type Reply struct {
	Progress *Progress       `json:"progress,omitempty"`
	Notice   string          `json:"notice,omitempty"`
	Status   *MountStatus    `json:"status,omitempty"`
	Finding  *fs.Finding     `json:"finding,omitempty"`
	Checked  *fs.CheckResult `json:"checked,omitempty"`
	Changed  *KeysChanged    `json:"changed,omitempty"`
	Synced   *Synced         `json:"synced,omitempty"`
	KeyUse   *fs.KeyUse      `json:"key_use,omitempty"`

	Rewrapped   *fs.RewrapResult    `json:"rewrapped,omitempty"`
	Reencrypted *fs.ReencryptResult `json:"reencrypted,omitempty"`

	Error *Error `json:"error,omitempty"` // with Done
	Done  bool   `json:"done,omitempty"`
}

// Progress tells how far a long piece of work is. Total is 0 where it is not known.
type Progress struct {
	Stage string `json:"stage"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// Error is an error as it travels: what the user is told and the code that the command exits with.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// MountStatus is the state of one mount. Sizes are in bytes.
type MountStatus struct {
	Hello
	PendingBytes int64     `json:"pending_bytes"` // of changes and of content in the journal that wait to be folded
	DirtyBytes   int64     `json:"dirty_bytes"`   // written, not yet committed
	LastFold     time.Time `json:"last_fold,omitzero"`
	Folds        uint64    `json:"folds"`
	Reclaimable  int64     `json:"reclaimable_bytes"`
	OldestWhole  time.Time `json:"oldest_whole,omitzero"` // the oldest moment of which all objects are kept
	Errors       uint64    `json:"errors"`
	LastError    string    `json:"last_error,omitempty"`
	Stopped      string    `json:"stopped,omitempty"`  // why writing has stopped
	Waiting      int64     `json:"to_publish_bytes"`   // here only, of a store that is shared
	WaitingIn    int       `json:"to_publish_objects"` // objects that hold them
	Shared       bool      `json:"shared,omitempty"`
	WaitingSince time.Time `json:"to_publish_since,omitzero"` // when the oldest of them was written
	Term         uint64    `json:"term"`
	RootSeq      uint64    `json:"root_seq"`
	RootTime     time.Time `json:"root_time,omitzero"` // of a bucket: when something was published last
	Commit       uint64    `json:"commit"`             // number of the last batch
	Durable      uint64    `json:"durable"`            // number of the last batch known to survive a power loss
	Inodes       int       `json:"inodes"`             // files that programs or the kernel refer to
	Dead         bool      `json:"dead,omitempty"`     // the daemon is gone, the mount point is not usable
	Detached     bool      `json:"detached,omitempty"` // no longer at its mount point: ends when the last file is closed

	Follows bool      `json:"follows,omitempty"` // shows what another machine publishes
	Looked  time.Time `json:"looked,omitzero"`   // when what is shown was last known to be the newest
	Behind  string    `json:"behind,omitempty"`  // why it may not be

	Bucket *BucketStatus `json:"bucket,omitempty"` // of a vault in a bucket
}

// BucketStatus is how a mount gets on with its bucket. Sizes are in bytes, counts since the mount began.
type BucketStatus struct {
	Away           bool      `json:"away"` // the server does not answer, or cannot serve
	AwaySince      time.Time `json:"away_since,omitzero"`
	Cause          string    `json:"cause,omitempty"`
	Requests       int64     `json:"requests"`
	Retries        int64     `json:"retries"` // of them
	Failed         int64     `json:"failed"`  // given up
	LastFailure    string    `json:"last_failure,omitempty"`
	RefusedDeletes int64     `json:"refused_deletes"` // objects that the bucket keeps: a policy, a lock
	Sent           int64     `json:"sent_bytes"`
	Received       int64     `json:"received_bytes"`
	State          int64     `json:"state_bytes"` // on this machine, to be published or just being so
	StateBound     int64     `json:"state_bound_bytes"`
	Writers        int       `json:"writers_waiting"` // for room in the state
	WritersSince   time.Time `json:"writers_waiting_since,omitzero"`
	Cache          int64     `json:"cache_bytes"`
	CacheBound     int64     `json:"cache_bound_bytes"`
}

// Synced tells what a sync has done.
type Synced struct {
	Bytes    int64     `json:"published_bytes"` // meanwhile
	RootSeq  uint64    `json:"root_seq"`
	RootTime time.Time `json:"root_time"`
	Seconds  float64   `json:"seconds"`
}

// KeysChanged tells what a change of the slots led to.
type KeysChanged struct {
	Generation uint64 `json:"generation"` // of the key file
	Slots      int    `json:"slots"`
	Left       []Slot `json:"left,omitempty"` // the slots that there are now
}

// Slot names one slot.
type Slot struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	Label string `json:"label,omitempty"`
}
