package trail

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// past is what a directory holds when a process begins to write to it.
type past struct {
	trail  string
	number uint64 // of the newest segment
	end    end
	ended  []endedSegment
	unread []unread
	lost   string // a checkpoint of an entry behind the end
}

// end is the last entry that can be read.
type end struct {
	segment string // empty: there is none
	position
}

func (e end) previous() *previous {
	if e.segment == "" {
		return nil
	}
	return &previous{Segment: e.segment, position: e.position}
}

// endedSegment is one that is not written to any more.
type endedSegment struct {
	end   previous
	bytes int64
	at    time.Time
}

// readPast finds the end of the trail, which it takes from the newest segment
// that has a head. The older ones are taken as they say they are: Verify is
// for them.
func readPast(dir string, key *Key) (*past, error) {
	names, err := segmentNames(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	p := &past{}
	if len(names) == 0 {
		p.trail = newTrailID()
		return p, nil
	}
	p.number, _ = segmentNumber(names[len(names)-1])
	for i := len(names) - 1; i >= 0 && p.end.segment == ""; i-- {
		if err := p.readEnd(dir, names[i], key); err != nil {
			return nil, err
		}
	}
	if p.trail == "" {
		p.trail = newTrailID()
	}
	if err := p.findLoss(dir, key); err != nil {
		return nil, err
	}
	return p, p.listEnded(dir, names)
}

// readEnd reads one segment. What of it cannot be read is noted.
func (p *past) readEnd(dir, name string, key *Key) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := readHead(f)
	if err != nil && !errors.Is(err, errEntry) {
		return err
	}
	if err == nil && head.Segment.Format != format {
		return fmt.Errorf("%s has the format %d, which this version does not know", name, head.Segment.Format)
	}
	offset := int64(0)
	if err == nil {
		p.trail, p.end.segment = head.Segment.Trail, name
		if p.end.position, offset, err = lastEntry(f, head, key); err != nil {
			return err
		}
	}
	rest, err := readUnread(f, name, offset)
	if rest.Bytes > 0 || offset == 0 {
		p.unread = append(p.unread, rest)
	}
	return err
}

// lastEntry gives the last entry of a segment that the chain leads to, and
// where it ends. A checkpoint of ours at the very end says so by itself.
func lastEntry(f *os.File, head segmentEntry, key *Key) (position, int64, error) {
	if at, size, ok := endsWithCheckpoint(f, head.Segment.Trail, key); ok {
		return at, size, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return position{}, 0, err
	}
	c, offset := head.before(), int64(0)
	lines := newLineReader(f)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errLongLine) {
			return c.position, offset, nil
		}
		if err != nil {
			return position{}, 0, err
		}
		e, err := parseEntry(line)
		if err != nil || e.Sequence != c.Sequence+1 || c.follow(e.hashed) != e.Hash {
			return c.position, offset, nil
		}
		c.position, offset = e.position, offset+int64(len(line))+1
		if ended, ok := e.checkpoint(); ok && ended.End {
			return c.position, offset, nil // what follows was written by somebody else
		}
	}
}

// before is the chain in front of the segment's head.
func (s segmentEntry) before() chain {
	if s.Segment.Previous == nil {
		return chain{}
	}
	return chain{position: s.Segment.Previous.position}
}

// maxCheckpoint is more than the line of any checkpoint has, in bytes.
const maxCheckpoint = 2048

func endsWithCheckpoint(f *os.File, trail string, key *Key) (at position, size int64, ok bool) {
	info, err := f.Stat()
	if err != nil {
		return at, 0, false
	}
	tail := make([]byte, min(info.Size(), maxCheckpoint))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil || !bytes.HasSuffix(tail, []byte("\n")) {
		return at, 0, false
	}
	tail = tail[:len(tail)-1]
	e, err := parseEntry(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if err != nil {
		return at, 0, false
	}
	held, ok := e.checkpoint()
	if !ok {
		return at, 0, false
	}
	keys, err := verifiers(key.Public())
	if err != nil {
		return at, 0, false
	}
	c, err := openCheckpoint(held.Checkpoint, keys)
	before := chain{position: c.position}
	if err != nil || c.trail != trail || e.Sequence != c.Sequence+1 || before.follow(e.hashed) != e.Hash {
		return at, 0, false
	}
	return e.position, info.Size(), true
}

// readUnread describes what is in a segment from an offset on.
func readUnread(f *os.File, name string, offset int64) (unread, error) {
	u := unread{Segment: name, Offset: offset}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return u, err
	}
	return u, u.take(f)
}

// take reads all there is.
func (u *unread) take(r io.Reader) error {
	sum, counter := sha256.New(), new(lineCounter)
	n, err := io.Copy(io.MultiWriter(sum, counter), r)
	u.Bytes, u.Lines = n, counter.lines
	sum.Sum(u.SHA256[:0])
	return err
}

type lineCounter struct{ lines int }

// Write implements io.Writer.
func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte{'\n'})
	return len(p), nil
}

// findLoss compares the end with the published checkpoint: one of ours about a
// later entry shows that entries are gone.
func (p *past) findLoss(dir string, key *Key) error {
	signed, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := verifiers(key.Public())
	if err != nil {
		return err
	}
	if c, err := openCheckpoint(string(signed), keys); err == nil && c.trail == p.trail && c.Sequence > p.end.Sequence {
		p.lost = string(signed)
	}
	return nil
}

// listEnded notes the segments that are there, for their retention.
func (p *past) listEnded(dir string, names []string) error {
	for i, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		s := endedSegment{end: previous{Segment: name, position: p.end.position}, bytes: info.Size(), at: info.ModTime()}
		if i+1 < len(names) {
			if s.end.position, err = endBefore(dir, names[i+1]); err != nil {
				return err
			}
		}
		if s.end.Sequence == 0 {
			continue // before it, or in place of it, something cannot be read: it stays
		}
		p.ended = append(p.ended, s)
	}
	return nil
}

// endBefore gives the last entry before a segment, as its head says.
func endBefore(dir, name string) (position, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return position{}, err
	}
	defer f.Close()
	head, err := readHead(f)
	if errors.Is(err, errEntry) || err == nil && head.Segment.Previous == nil {
		return position{}, nil
	}
	if err != nil {
		return position{}, err
	}
	return head.Segment.Previous.position, nil
}
