package trail

import (
	"errors"
	"fmt"
	"io"
)

// segmentReader goes through the lines of one segment.
type segmentReader struct {
	v      *verification
	name   string
	lines  *lineReader
	newest bool
	line   int
	offset int64
}

func (s *segmentReader) read() error {
	u, told := s.v.unread[s.name]
	for {
		if told && s.offset >= u.Offset {
			return s.readUnread(u)
		}
		line, err := s.lines.next()
		s.line++
		switch {
		case errors.Is(err, io.EOF):
			s.ends(told, u)
			return nil
		case errors.Is(err, errLongLine):
			s.find(NotAnEntry, 0, err.Error())
			return nil
		case err != nil:
			return err
		}
		s.offset += int64(len(line)) + 1
		s.entry(line)
	}
}

// ends judges the end of the file.
func (s *segmentReader) ends(told bool, u unread) {
	switch {
	case told:
		s.find(Truncated, 0, fmt.Sprintf("a later segment tells of %d bytes at the offset %d, which are not there", u.Bytes, u.Offset))
	case len(s.lines.rest) > 0 && s.newest:
		s.notice(Torn, 0, "the last line does not end: an entry is being written, or a process was killed while it wrote one")
	case len(s.lines.rest) > 0:
		s.find(NotAnEntry, 0, "the last line does not end, and nothing says that a process was killed there")
	}
}

// readUnread compares the end of the segment with what a later head says of it.
func (s *segmentReader) readUnread(u unread) error {
	found := unread{Segment: s.name, Offset: s.offset}
	if err := found.take(s.lines.r); err != nil {
		return err
	}
	s.line++
	switch {
	case found != u:
		s.find(Changed, 0, fmt.Sprintf("what follows at the offset %d is not what was found there when the next process began", u.Offset))
	case u.Lines > 0:
		s.find(Damaged, 0, fmt.Sprintf("the %d bytes from the offset %d on were no entries when the next process began", u.Bytes, u.Offset))
	default:
		s.notice(Torn, 0, fmt.Sprintf("a process was killed while it wrote an entry: %d bytes of it are there", u.Bytes))
	}
	return nil
}

func (s *segmentReader) find(kind Kind, sequence uint64, detail string) {
	s.v.find(Finding{Kind: kind, Segment: s.name, Line: s.line, Sequence: sequence, Detail: detail})
}

func (s *segmentReader) notice(kind Kind, sequence uint64, detail string) {
	s.v.notice(Finding{Kind: kind, Segment: s.name, Line: s.line, Sequence: sequence, Detail: detail})
}

// entry verifies one line. After what is wrong it goes on from what the line
// says of itself, so that one change is found once.
func (s *segmentReader) entry(line []byte) {
	v := s.v
	e, err := parseEntry(line)
	if err != nil {
		s.find(NotAnEntry, 0, "the line is no entry of an audit trail")
		return
	}
	switch want := v.chain.Sequence + 1; {
	case e.Sequence > want:
		s.find(Gap, e.Sequence, fmt.Sprintf("%d entries are missing before it: from %d to %d", e.Sequence-want, want, e.Sequence-1))
	case e.Sequence < want:
		s.find(OutOfOrder, e.Sequence, fmt.Sprintf("it stands where the entry %d should be", want))
	case v.chain.follow(e.hashed) != e.Hash:
		s.find(Changed, e.Sequence, "its hash does not follow from it and the entry before")
	}
	s.place(e)
	removed := v.removed
	v.removed = false
	switch {
	case e.is(checkpointMember):
		s.checkpoint(e, removed)
	case e.is(retentionMember):
		s.retention(e)
	case e.isRecord():
		s.record(e)
	}
	s.step(e)
}

// place tells what cannot stand where it stands.
func (s *segmentReader) place(e entry) {
	switch {
	case s.v.over:
		s.find(OutOfOrder, e.Sequence, "it stands behind the checkpoint that ends the segment")
	case e.is(segmentMember) != (s.line == 1):
		s.find(OutOfOrder, e.Sequence, "the head of a segment is its first entry, and only that")
	case s.line == 2 && !e.is(checkpointMember):
		s.find(MissingCheckpoint, e.Sequence, "there is no checkpoint behind the head of the segment")
	}
}

// step takes the chain to the entry.
func (s *segmentReader) step(e entry) {
	v := s.v
	if !v.begun {
		v.begun, v.First = true, e.Sequence
	}
	v.chain.position, v.last, v.signed = e.position, s.name, e.is(checkpointMember)
	for _, w := range v.wanted[e.Sequence] {
		if w.hash != e.Hash {
			s.find(WrongCheckpoint, e.Sequence, w.what+" is about another entry of this number: the log was rewritten")
		}
	}
}

func (s *segmentReader) record(e entry) {
	v := s.v
	v.Records++
	v.since++
	if v.every > 0 && v.since == v.every+1 {
		s.find(MissingCheckpoint, e.Sequence, fmt.Sprintf("there is no checkpoint after %d records", v.every))
	}
}

// checkpoint verifies a signed note about the entry in front of it; removed
// tells that this is the one of a retention.
func (s *segmentReader) checkpoint(e entry, removed bool) {
	v := s.v
	v.since = 0
	held, _ := e.checkpoint()
	v.over = held.End
	c, err := openCheckpoint(held.Checkpoint, v.keys)
	switch {
	case err != nil:
		s.find(ForgedCheckpoint, e.Sequence, "it is not signed with a key of the trail")
	case c.trail != v.Trail || c.position != v.chain.position:
		s.find(WrongCheckpoint, e.Sequence, fmt.Sprintf("it was signed for something else than what stands before it: the log was rewritten behind the entry %d, or it was moved", v.SignedThrough))
	default:
		v.SignedThrough, v.SignedAt = c.Sequence, c.time
		v.anchored = v.anchored || removed
	}
}

// retention notes that segments were removed for their age. It counts if a
// checkpoint follows at once, as it does where Log.remove has written it.
func (s *segmentReader) retention(e entry) {
	var r retentionEntry
	if err := e.decode(&r); err != nil {
		s.find(NotAnEntry, e.Sequence, "it does not tell which segments were removed")
		return
	}
	if r.Retention.Through.Sequence == s.v.anchor && s.v.anchor > 0 {
		s.v.removed = true
		s.notice(Removed, e.Sequence, fmt.Sprintf("segments up to the entry %d were removed on %s, as the configuration says", s.v.anchor, r.Retention.Time.Format("2006-01-02")))
	}
}
