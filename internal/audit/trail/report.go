package trail

import (
	"fmt"
	"time"
)

// Report is what Verify found.
type Report struct {
	Trail    string `json:"trail"`
	Segments int    `json:"segments"`
	Records  uint64 `json:"records"` // those that are there
	First    uint64 `json:"first"`   // the sequence number of the first entry that is there
	Last     uint64 `json:"last"`    // and of the last one

	// SignedThrough is the sequence number up to which the log is signed,
	// SignedAt when that was done. What comes behind is chained and no more.
	SignedThrough uint64    `json:"signedThrough"`
	SignedAt      time.Time `json:"signedAt,omitzero"`
	// Keys are those that checkpoints were verified with, KeysFromLog tells
	// that nobody but the log itself vouches for them.
	Keys        []string `json:"keys"`
	KeysFromLog bool     `json:"keysFromLog"`

	Findings []Finding `json:"findings"` // what must not be: none if the log is as it was written
	Notices  []Finding `json:"notices"`  // what may be, and somebody may want to know
	// More tells that there are more findings than are told.
	More bool `json:"more,omitempty"`
}

// OK tells that there are no findings.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// Kind is what is wrong.
type Kind string

// The kinds of findings, and of notices.
const (
	Changed           Kind = "changed"            // an entry does not hash to what it says
	Gap               Kind = "gap"                // entries are missing
	OutOfOrder        Kind = "out-of-order"       // an entry was moved, or inserted
	NotAnEntry        Kind = "not-an-entry"       // a line is something else
	Unlinked          Kind = "unlinked"           // a segment does not follow from the one before
	MissingSegment    Kind = "missing-segment"    // and nothing says that it was removed because of its age
	ForgedCheckpoint  Kind = "forged-checkpoint"  // a checkpoint that the key did not sign
	WrongCheckpoint   Kind = "wrong-checkpoint"   // a checkpoint that says something else than the chain: it was rewritten
	MissingCheckpoint Kind = "missing-checkpoint" // there should be one
	Truncated         Kind = "truncated"          // there is a checkpoint of entries that are not there
	Damaged           Kind = "damaged"            // when a process began, the end of the log was not as it was written

	Torn     Kind = "torn"     // a process was killed while it wrote an entry
	Killed   Kind = "killed"   // a process ended without a last checkpoint
	NewKey   Kind = "new-key"  // from here on another key signs
	Removed  Kind = "removed"  // older segments have been removed because of their age or size
	NotTold  Kind = "not-told" // a checkpoint of an entry that has been removed since
	Unsigned Kind = "unsigned" // entries behind the last checkpoint
	// Unpublished: the file checkpoint, which would show that the end was cut, is not there.
	Unpublished Kind = "unpublished"
)

// Finding is one thing, and where. Line and Sequence are zero where they have no meaning.
type Finding struct {
	Kind     Kind   `json:"kind"`
	Segment  string `json:"segment,omitempty"`
	Line     int    `json:"line,omitempty"`     // from 1
	Sequence uint64 `json:"sequence,omitempty"` // that an entry has or should have
	Detail   string `json:"detail"`
}

// String is the finding for people: "segment-00000001.jsonl:12: entry 12: changed: …".
func (f Finding) String() string {
	where := f.Segment
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, f.Line)
	}
	if where != "" {
		where += ": "
	}
	if f.Sequence > 0 {
		where += fmt.Sprintf("entry %d: ", f.Sequence)
	}
	return where + string(f.Kind) + ": " + f.Detail
}

// maxFindings is how many findings are told.
const maxFindings = 100

func (r *Report) find(f Finding) {
	if len(r.Findings) == maxFindings {
		r.More = true
		return
	}
	r.Findings = append(r.Findings, f)
}

func (r *Report) notice(f Finding) {
	if len(r.Notices) < maxFindings {
		r.Notices = append(r.Notices, f)
	}
}
