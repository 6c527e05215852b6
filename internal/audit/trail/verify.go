package trail

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// VerifyOptions say what the log is compared with.
type VerifyOptions struct {
	// Keys are the public keys of the trail. Without any, those are taken that
	// the log itself names: then whoever wrote it anew is not found out.
	Keys []string
	// Checkpoints are signed notes that were kept elsewhere. The log must have
	// the entries that they are about.
	Checkpoints []string
}

// Verify reads a whole trail. It tells in the report what is wrong with it; the
// error is for what could not be read. It may be called while a process writes
// to the trail.
func Verify(dir fs.FS, o VerifyOptions) (*Report, error) {
	v := &verification{dir: dir, wanted: make(map[uint64][]wanted), Report: Report{Findings: []Finding{}, Notices: []Finding{}}}
	published, err := fs.ReadFile(dir, checkpointFile) // first: what it is about has been written before
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if v.names, err = segmentNames(dir); err != nil {
		return nil, err
	}
	if len(v.names) == 0 {
		return nil, errors.New("there is no audit trail in the directory")
	}
	if err := v.readHeads(); err != nil {
		return nil, err
	}
	if err := v.takeKeys(o.Keys); err != nil {
		return nil, err
	}
	if len(published) > 0 {
		v.want(string(published), "the file checkpoint")
	} else {
		v.notice(Finding{Kind: Unpublished, Detail: "there is no file checkpoint: that entries were cut from the end of the log is not found out without a checkpoint that was kept elsewhere"})
	}
	for _, signed := range o.Checkpoints {
		v.want(signed, "a checkpoint that was kept elsewhere")
	}
	for i := range v.names {
		if err := v.segment(i); err != nil {
			return nil, err
		}
	}
	v.conclude()
	return &v.Report, nil
}

// verification is the state of Verify between two lines.
type verification struct {
	Report
	dir    fs.FS
	names  []string
	heads  []*segmentEntry   // by index; nil where there is none
	unread map[string]unread // by segment: what a later head says of its end
	keys   note.Verifiers
	wanted map[uint64][]wanted // checkpoints by sequence number

	chain      chain  // where the chain has led to
	begun      bool   // there was an entry
	since      int    // records since the last checkpoint
	every      int    // after how many there should be one
	signed     bool   // the last entry is a checkpoint
	over       bool   // and ends the segment
	key        string // of the segment
	anchor     uint64 // the last entry in front of the oldest segment; zero: that is the first one
	anchorHash digest // of that entry
	removed    bool   // the last entry says that what was in front was removed
	anchored   bool   // and a checkpoint follows
	last       string // the segment of the last entry
}

// wanted is a checkpoint that the log is compared with.
type wanted struct {
	hash digest
	what string
}

func (v *verification) readHeads() error {
	v.heads, v.unread = make([]*segmentEntry, len(v.names)), make(map[string]unread)
	for i, name := range v.names {
		f, err := v.dir.Open(name)
		if err != nil {
			return err
		}
		head, err := readHead(f)
		_ = f.Close()
		if errors.Is(err, errEntry) {
			continue
		}
		if err != nil {
			return err
		}
		v.heads[i] = &head
		for _, u := range head.Segment.Unread {
			v.unread[u.Segment] = u
		}
		if v.Trail == "" {
			v.Trail = head.Segment.Trail
		}
	}
	return nil
}

func (v *verification) takeKeys(keys []string) (err error) {
	if len(keys) == 0 {
		v.KeysFromLog = true
		for _, head := range v.heads {
			if head == nil {
				continue
			}
			if _, err := verifiers(head.Segment.Key); err == nil {
				keys = appendNew(keys, head.Segment.Key)
			}
		}
	}
	v.Keys = appendNew([]string{}, keys...)
	v.keys, err = verifiers(v.Keys...)
	return err
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// want notes that the log must agree with a checkpoint.
func (v *verification) want(signed, what string) {
	c, err := openCheckpoint(signed, v.keys)
	switch {
	case err != nil:
		v.find(Finding{Kind: ForgedCheckpoint, Detail: what + " is not signed with a key of the trail"})
	case c.trail != v.Trail:
		v.find(Finding{Kind: WrongCheckpoint, Detail: fmt.Sprintf("%s is about another trail, %q", what, c.trail)})
	default:
		v.wanted[c.Sequence] = append(v.wanted[c.Sequence], wanted{c.Hash, what})
	}
}

// segment verifies one segment, from its head to its end.
func (v *verification) segment(i int) error {
	f, err := v.dir.Open(v.names[i])
	if err != nil {
		return err
	}
	defer f.Close()
	v.Segments++
	v.follows(i)
	s := &segmentReader{v: v, name: v.names[i], lines: newLineReader(f), newest: i == len(v.names)-1}
	if _, told := v.unread[s.name]; v.heads[i] == nil && !told {
		v.find(Finding{Kind: NotAnEntry, Segment: s.name, Line: 1, Detail: "the segment does not begin with the head of one"})
		return nil
	}
	return s.read()
}

// follows compares the head of a segment with what came before.
func (v *verification) follows(i int) {
	name, head := v.names[i], v.heads[i]
	number, _ := segmentNumber(name)
	if i > 0 {
		if before, _ := segmentNumber(v.names[i-1]); number != before+1 {
			v.find(Finding{Kind: MissingSegment, Segment: name, Detail: fmt.Sprintf("the %d segments between %s and it are missing", number-before-1, v.names[i-1])})
		}
	}
	if head == nil {
		return
	}
	s := head.Segment
	switch {
	case s.Number != number:
		v.find(Finding{Kind: Unlinked, Segment: name, Line: 1, Detail: fmt.Sprintf("its head is that of the segment %d", s.Number)})
	case s.Trail != v.Trail:
		v.find(Finding{Kind: Unlinked, Segment: name, Line: 1, Detail: "it belongs to another trail"})
	case s.Format != format:
		v.find(Finding{Kind: NotAnEntry, Segment: name, Line: 1, Detail: fmt.Sprintf("it has the format %d, which this version does not know", s.Format)})
	}
	v.link(name, s)
	if v.key != "" && v.key != s.Key {
		v.notice(Finding{Kind: NewKey, Segment: name, Detail: "from here on another key signs: " + s.Key})
	}
	v.key, v.every, v.since, v.over = s.Key, s.CheckpointRecords, 0, false
	if s.LostCheckpoint != "" {
		v.find(Finding{Kind: Truncated, Segment: name, Line: 1, Detail: "when it was begun, the log did not hold all entries of which there was a checkpoint"})
	}
}

// link compares what a head says of the past with the past.
func (v *verification) link(name string, s segment) {
	switch {
	case !v.begun:
		v.chain = segmentEntry{Segment: s}.before()
		v.anchor, v.anchorHash = v.chain.Sequence, v.chain.Hash
	case s.Previous == nil || s.Previous.Segment != v.last:
		v.find(Finding{Kind: Unlinked, Segment: name, Line: 1, Detail: "its head does not name " + v.last + " as the segment before"})
	case s.Previous.position != v.chain.position:
		v.find(Finding{Kind: Unlinked, Segment: name, Line: 1, Sequence: s.Previous.Sequence,
			Detail: fmt.Sprintf("its head names the entry %d as the last one before it, and %s ends with the entry %d, or with another one", s.Previous.Sequence, v.last, v.chain.Sequence)})
	case !v.signed:
		v.notice(Finding{Kind: Killed, Segment: v.last, Sequence: v.chain.Sequence, Detail: "the process that wrote it ended without a last checkpoint"})
	}
	if v.begun {
		v.chain.position = segmentEntry{Segment: s}.before().position
	}
}

// conclude says what can be said at the end.
func (v *verification) conclude() {
	v.Last = v.chain.Sequence
	for _, sequence := range slices.Sorted(maps.Keys(v.wanted)) {
		for _, w := range v.wanted[sequence] {
			switch {
			case sequence > v.Last:
				v.find(Finding{Kind: Truncated, Segment: v.last, Sequence: v.Last,
					Detail: fmt.Sprintf("the log ends here, and %s is about the entry %d", w.what, sequence)})
			case sequence == v.anchor && w.hash != v.anchorHash:
				v.find(Finding{Kind: WrongCheckpoint, Segment: v.names[0], Line: 1, Sequence: sequence,
					Detail: w.what + " is about another entry of this number than the one that the head names: the log was rewritten"})
			case sequence < v.anchor:
				v.notice(Finding{Kind: NotTold, Sequence: sequence, Detail: w.what + " is about an entry that has been removed since"})
			}
		}
	}
	if v.anchor > 0 && !v.anchored {
		v.find(Finding{Kind: MissingSegment, Segment: v.names[0], Sequence: v.anchor,
			Detail: fmt.Sprintf("the log does not go back before the entry %d, and nothing signed says that older ones were removed", v.anchor+1)})
	}
	if v.since > 0 {
		v.notice(Finding{Kind: Unsigned, Segment: v.last, Sequence: v.Last, Detail: fmt.Sprintf("%d records behind the last checkpoint are not signed yet", v.since)})
	}
}
