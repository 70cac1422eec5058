package fs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"envfs/blockcrypt"
	"envfs/fs/journal"
	"envfs/keystore"
	"envfs/remote"
)

// Clock tells the time; tests inject their own.
type Clock interface {
	Now() time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// Options says what to open and how.
type Options struct {
	Store       remote.Store // a remote.Local or remote.Shared to write
	Keys        *keystore.Vault
	ReadOnly    bool
	AcceptOlder bool   // go on from a copy that is older than what was seen here
	Takeover    bool   // write although another machine may still be at work
	Follow      bool   // read-only, and only what root names; Follow keeps it up to date
	lost        bool   // as OpenLost opens it
	RootName    string // open this root instead of the newest; read-only

	// SyncPublishes has a sync return when what was written is published, not only durable here; it fails after
	// PublishWait (0: never) if the store is away, and what was written stays to be published.
	SyncPublishes bool
	PublishWait   time.Duration

	StateDir   string // where pins lie; "" for none
	StateID    blockcrypt.ID
	Host, User string
	Log        *slog.Logger
	ShowNames  bool // the log may show names of files
	Clock      Clock
	Rand       io.Reader
	Progress   func(stage string, done, total int64)

	// Manual leaves out all that happens by itself (flushing after a second, syncing after five, folding): for tests
	// that decide on every step.
	Manual bool
	Limits Limits // zero fields get their defaults
}

// Limits bounds memory and time. docs/DESIGN.md has the table.
type Limits struct {
	Cache  int64         // bytes of decoded objects of the tree
	Deltas int64         // bytes of deltas that start a fold; over twice that operations wait
	Inline int64         // the same for content in the journal
	Dirty  int64         // bytes written that wait in memory
	Grace  time.Duration // how long superseded objects are kept
	Extent int           // blocks of an extent
	Renew  int           // files that one fold of Rewrap writes anew
}

func (l *Limits) setDefaults() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.Cache, 96<<20)
	def(&l.Deltas, 48<<20)
	def(&l.Inline, 48<<20)
	def(&l.Dirty, 8<<20)
	if l.Grace == 0 {
		l.Grace = 24 * time.Hour
	}
	if l.Extent == 0 {
		l.Extent = 4096
	}
	if l.Renew == 0 {
		l.Renew = 32_768
	}
}

// limits are the bounds as the hot paths use them.
type limits struct {
	dirty       int64
	smallFile   uint64
	extentSlots uint32
	recordLines int // of a fold record
}

// FS is an open vault. All methods may be called concurrently.
type FS struct {
	store    remote.Store
	local    remote.Local  // nil if read-only
	shared   remote.Shared // store, if others see what was published only; nil if read-only
	vault    blockcrypt.Vault
	keys     atomic.Pointer[keystore.Vault]
	logger   *slog.Logger
	clock    Clock
	rand     io.Reader
	opts     Options
	limits   limits
	readOnly bool
	since    time.Time
	older    string          // why what was opened is not the newest; empty if it is
	term     blockcrypt.Term // of this mount, as it began; root has it as it is
	pinned   uint64          // last batch that was pinned as durable; guarded by rootMu

	relief     singleflight.Group // what is done for operations that cannot go on without
	rootKept   atomic.Bool        // here is the root that was written last, for Rescue
	oldestWait atomic.Int64       // when the first of what waits to be published was committed; 0: nothing waits

	replayed *journal.Result // of opening: what of the journal is shown

	journalDamage string // what of the journal is damaged, if it was opened all the same

	cache    *cache
	walks    walks
	contents *journal.Reader
	buffers  sync.Pool // of *[]byte
	blocks   sync.Pool // of *block

	// mu guards the state: layers, inodes, the batch that is being gathered. No I/O happens under it.
	mu       sync.Mutex
	active   *layer
	frozen   *layer // being folded, or nil
	layerBuf [2]*layer
	layerNo  uint64 // changes when the active layer is frozen
	nextFold uint64 // number of the first fold that can name what is made now
	root     *blockcrypt.Root
	dirs     map[blockcrypt.ID]*dir
	inodes   map[blockcrypt.ID]*Inode
	super    *dir
	links    *dir
	nameless *dir
	top      *Inode
	pending  *builder
	queue    []*builder // gathered before pending, not yet appended

	// commitMu is held by whoever appends to the journal.
	commitMu  sync.Mutex
	journal   *journal.Writer
	inherited []blockcrypt.SegmentRef // live segments that this writer has not written
	committed atomic.Uint64

	syncMu  sync.Mutex
	durable atomic.Uint64

	growing       growing
	unsyncedMu    sync.Mutex
	unsynced      map[*extent]bool // true: to be closed after the sync
	syncing       map[*extent]bool
	unsyncedBytes atomic.Int64

	dirtyMu    sync.Mutex
	dirtySet   map[*content]struct{}
	dirtyBytes atomic.Int64

	readersMu sync.Mutex
	readers   map[[16]byte]*extentReader

	foldMu  sync.Mutex        // one fold or change of keys at a time; comes before rootMu
	changed []*keystore.Vault // by changes of keys, closed with the vault; guarded by foldMu
	runs    []blockcrypt.ObjRef
	folded  []string // segments that the last fold made superfluous
	bornFor uint64   // highest birth of an extent that a flush has begun; guarded by FS.mu

	// rootMu is held by whoever replaces root, from what the new one will name to what follows from its being there: one
	// at a time. It comes before commitMu.
	rootMu   turn
	rootData []byte   // root as it lies on the store; guarded by rootMu
	flights  []flight // guarded by rootMu
	bare     bool     // root has no copy in roots/, as it only publishes; guarded by rootMu
	mine     unpublished
	follower *follower                // nil: nobody else changes what is read here
	left     atomic.Pointer[leftHere] // set when the mount has ended
	grave    graveyard
	swept    bool // orphans of earlier terms are gone
	foreign  atomic.Int64

	sparse  sparse
	space   spaceGauge
	room    journalRoom
	ballast bool // held back; guarded by foldMu

	stopped   atomic.Pointer[error]
	faults    faultLog
	errs      atomic.Uint64
	lastFault atomic.Pointer[string]
	folds     atomic.Uint64
	lastFold  atomic.Int64 // unix nanoseconds

	stopLoop context.CancelFunc
	loopDone sync.WaitGroup
	wakeFold chan struct{}

	wakePublish chan struct{}

	works     works
	closeOnce sync.Once
}

func newFS(o Options) *FS {
	o.Limits.setDefaults()
	f := &FS{
		store: o.Store, logger: o.Log, clock: o.Clock, rand: o.Rand, opts: o, readOnly: o.ReadOnly,
		cache:    newCache(o.Limits.Cache),
		dirs:     make(map[blockcrypt.ID]*dir),
		inodes:   make(map[blockcrypt.ID]*Inode),
		readers:  make(map[[16]byte]*extentReader),
		unsynced: make(map[*extent]bool),
		pending:  &builder{},
		wakeFold: make(chan struct{}, 1),

		wakePublish: make(chan struct{}, 1),
		rootMu:      newTurn(),
	}
	f.buffers.New = func() any { return new([]byte) }
	f.blocks.New = func() any { return new(block) }
	f.limits = limits{dirty: o.Limits.Dirty, smallFile: defaultSmallFile, extentSlots: uint32(o.Limits.Extent),
		recordLines: maxRecord}
	f.room.changed.L = &f.room.mu
	f.setLayers(newLayer(), nil)
	return f
}

// defaultSmallFile is the size in bytes up to which a file's blocks lie in its header.
const defaultSmallFile = 16 << 10

func (f *FS) keyring() *keystore.Vault { return f.keys.Load() }

// now is the time for attributes.
func (f *FS) now() blockcrypt.Time { return timeOf(f.clock.Now()) }

func timeOf(t time.Time) blockcrypt.Time {
	return blockcrypt.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func goTime(t blockcrypt.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// Root returns the top directory. It is never forgotten.
func (f *FS) Root() *Inode { return f.top }

// ReadOnly reports whether nothing can be written.
func (f *FS) ReadOnly() bool { return f.readOnly }

// afterFold returns the number of the next fold behind the given one: that of the first fold of the newest key epoch at
// least, as root says that what is older was sealed under older ones.
func afterFold(root *blockcrypt.Root, last uint64) uint64 {
	return max(last+1, root.Epochs[len(root.Epochs)-1].Fold)
}

// adopt makes root the base of the state.
func (f *FS) adopt(root *blockcrypt.Root) {
	f.root = root
	f.nextFold = afterFold(root, root.LastFold)
	f.super = &dir{refs: 1}
	f.dirs[f.super.id] = f.super
	var hidden [3]*dir
	for i := range root.Dirs {
		hidden[i] = f.refDir(f.super, uint64(i), &root.Dirs[i])
	}
	f.links, f.nameless = hidden[1], hidden[2]
	f.top = f.inodeFor(f.super, 0, &root.Dirs[0])
}

// loop does what happens by itself.
func (f *FS) loop(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	sinceSync := 0
	waits := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
		}
		err := f.flushAll(ctx)
		switch {
		case err == nil && waits:
			f.logger.Info("what was written and waited in memory is in the journal")
		case err != nil && !waits:
			f.logger.Warn("what was written waits in memory", "cause", err)
		}
		waits = err != nil
		if sinceSync++; sinceSync >= syncEvery || f.unsyncedBytes.Load() > syncBytes {
			sinceSync = 0
			if f.committed.Load() > f.durable.Load() {
				f.syncNow(ctx) // an error stops writing and says so
			}
			f.pinDurable()
		}
	}
}

// Un-synced work is synced after so many seconds or bytes, unasked.
const (
	syncEvery = 5
	syncBytes = 64 << 20
)

// sweepOnce deletes what a mount that did not end properly has left behind.
func (f *FS) sweepOnce(ctx context.Context) {
	if f.swept {
		return
	}
	n, left, err := f.Sweep(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.logger.Warn("what a crash has left on the store is not removed; the next fold tries again", "cause", err)
		}
		return
	}
	f.swept = true
	f.foreign.Store(int64(left))
	if n > 0 || left > 0 {
		f.logger.Info("looked for what a crash has left on the store", "deleted", n, "left", left)
	}
}

// foldLoop folds when there is enough to fold, when nothing happens, or after a while.
func (f *FS) foldLoop(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var seen uint64
	last := f.clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wakeFold:
		case <-tick.C:
		}
		f.mu.Lock()
		size, inline := f.active.fresh()
		empty := f.active.empty() || size == 0 && f.active.carried > 0
		f.mu.Unlock()
		commit := f.committed.Load()
		idle := commit == seen
		seen = commit
		full := size > f.opts.Limits.Deltas || inline > f.opts.Limits.Inline
		old := f.clock.Now().Sub(last) > foldAfter
		if f.shared != nil {
			full, old, idle = f.muchPublished(size+inline), false, false
		}
		if empty || !(full || old || idle && f.clock.Now().Sub(last) > foldIdle) {
			continue
		}
		if err := f.Fold(ctx); err != nil && ctx.Err() == nil {
			f.logger.Warn("fold failed; the journal holds all, it will be tried again", "cause", err)
		}
		f.sweepOnce(ctx)
		f.foldMu.Lock()
		f.holdBack(ctx)
		f.foldMu.Unlock()
		if _, err := f.Rewrite(ctx); err != nil && ctx.Err() == nil && !isFull(err) {
			f.logger.Warn("extents that are mostly dead were not written anew", "cause", err)
		}
		last = f.clock.Now()
	}
}

const (
	foldAfter = 5 * time.Minute
	foldIdle  = 30 * time.Second
)
