package journal

import (
	"context"
	"errors"
	"fmt"

	"envfs/blockcrypt"
	"envfs/remote"
)

// Replay finds and reads the journal behind a position.
type Replay struct {
	Store remote.Store
	Vault blockcrypt.Vault
	Keys  blockcrypt.KEKs // an error for an epoch means that there is no such key

	From Pos // what is folded already: root's cut

	// The first and last live segment as far as root vouches for them; zero if it names none. What root names was
	// durable when root was written: if the journal does not get there, that is damage.
	First, Last blockcrypt.SegmentRef

	// Named ends the replay where Last does: what lies behind it on the store, root does not vouch for yet. If the journal
	// gets there, Result tells of no break and of no other segments.
	Named bool

	// MinEpoch is the key epoch that root has. Batches of an older one are accepted only if they lead to the end that
	// Last names, and up to there.
	MinEpoch uint32

	// Ended, if set, tells whether a term has ended, and with which batch: whoever went on after a crash has decided so.
	// Of its segments nothing beyond that counts, though it may look whole by now.
	Ended func(term uint64, tag blockcrypt.Tag) (last uint64, ended bool)

	// Ours, if set, tells whether a term is on the line of root: segments of others are never followed.
	Ours func(term uint64, tag blockcrypt.Tag) bool
}

// ErrEnd is what Replay's fn wraps if the batch it was given is not whole although its own bytes are: the journal ends
// before it.
var ErrEnd = errors.New("journal ends here")

// Result tells what a replay has found.
type Result struct {
	End     Pos    // of the journal: where a new segment continues
	Durable uint64 // highest position that root's cut or an authentic batch calls durable; beyond End only with Break.Damage

	Live   []blockcrypt.SegmentRef // segments with batches after From, in order, up to the last accepted batch
	Folded []string                // segments of our chain with nothing after From: they may be deleted
	Empty  []string                // segments without any content that are not announced by the last live one

	NextSeq map[uint64]uint64 // by term: the first sequence number above all that were seen

	Break   *Break // how the journal ends, unless after a whole batch with nothing behind it
	Foreign []Foreign
}

// Break is an end of the journal that is not clean. What a crash has torn is one; so is damage.
type Break struct {
	Segment  string
	Offset   int64 // of the first byte that is not accepted
	Reason   string
	Tail     int64 // bytes of the segment from Offset on
	TailZero bool  // all of them are zero
	Damage   bool  // something that was durable is missing: damage, or an incomplete copy
}

// Foreign is a segment that is not part of the chain from Replay.From.
type Foreign struct {
	Name   string
	Term   uint64
	Tag    blockcrypt.Tag // of the term, as the name says
	First  uint64         // number of its first batch, as its prefix says
	Reason string

	// Authentic: its first record was sealed under a key that counts; then Continues is the position that it continues,
	// and Batches says whether it holds any batch but that record. Otherwise it is torn, damaged, of another vault or of
	// a retired key epoch, or its name is none.
	Authentic bool
	Continues Pos
	Batches   bool

	// Retired: its prefix names a retired key epoch.
	Retired bool

	// Fork: it continues, with batches, a position of our chain that our chain continues otherwise.
	Fork bool

	// Lost: an earlier segment of the same term and tag is on our chain or torn, and this one continues a position that
	// our chain has not: what a power loss leaves if the earlier one had not been synced, or damage (see Break).
	Lost bool
}

// Run replays the journal: it calls fn with each batch after From, in order, and where it lies. The batch is fn's until
// it returns; what the deltas point to may be kept, not Deltas and Contents themselves. Every content has been
// authenticated. The journal ends at the first batch whose bytes are wrong or short, or which fn refuses with an error
// that wraps ErrEnd. Any other error of the store or of fn is no end: Run returns it and nothing else. Whatever bytes the
// store returns, Run ends with a Result or such an error. fn may be nil.
func (r *Replay) Run(ctx context.Context, fn func(at Appended, b *Batch) error) (*Result, error) {
	w, err := r.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	trusted, err := w.retiredTrusted(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	w.retiredOK, w.fn = trusted, fn
	if err := w.walk(ctx); err != nil {
		if w.fnErr != nil {
			return nil, w.fnErr
		}
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	if r.Named && w.reached(w.Last) {
		return w.res, nil
	}
	if err := w.finish(ctx); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return w.res, nil
}

// retiredTrusted reports whether segments of retired key epochs may be accepted: only if the chain through them arrives
// at the very end that root names. It walks that far without applying anything.
func (w *walker) retiredTrusted(ctx context.Context) (bool, error) {
	retired := false
	for _, s := range w.segs {
		retired = retired || s.authentic && s.prefix.Epoch < w.MinEpoch
	}
	if !retired || w.Last.IsZero() {
		return false, nil
	}
	dry := w.fresh()
	dry.dry, dry.retiredOK = true, true
	if err := dry.walk(ctx); err != nil {
		return false, err
	}
	return dry.reached(w.Last), nil
}
