// Package journal writes and replays the journal of a vault: segments of sealed batches on a store.
//
// A batch is one commit: deltas of the file system's state, and the content of small writes. Batches are numbered
// without gaps and each names the hash of the one before, across all segments, so that they form one chain from the
// position at which a vault was made. A segment begins with a start record, which names the position that it
// continues, and may end with an announcement of its successor; both are batches of their own. The package knows
// nothing of files, directories and folds: to it deltas are values to be carried.
package journal

import "envfs/blockcrypt"

// Pos is a position in the chain of batches: the number and hash of the last batch before it. The zero Pos is where an
// empty journal begins.
type Pos struct {
	Number uint64
	Hash   blockcrypt.Hash
}

// Appended tells where a batch lies.
type Appended struct {
	Pos      Pos                     // after the batch
	Segment  string                  // full name
	Contents []blockcrypt.ContentRef // of Batch.Contents, in order
}
