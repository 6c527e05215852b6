package trail

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
)

func newTrailID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// segmentNames lists the segments of a directory, the oldest first.
func segmentNames(dir fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := segmentNumber(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) { // more than 8 digits
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return names, nil
}

// readHead reads the first entry of a segment. What is not one is errEntry.
func readHead(r io.Reader) (segmentEntry, error) {
	var s segmentEntry
	line, err := newLineReader(r).next()
	if errors.Is(err, io.EOF) || errors.Is(err, errLongLine) {
		return s, errEntry
	}
	if err != nil {
		return s, err
	}
	e, err := parseEntry(line)
	if err != nil || !e.is(segmentMember) || e.decode(&s) != nil {
		return s, errEntry
	}
	before := s.before()
	if e.Sequence != before.Sequence+1 || before.follow(e.hashed) != e.Hash || s.Segment.Trail == "" {
		return s, errEntry
	}
	return s, nil
}

// maxLine is the longest line that is read, in bytes: far more than a record
// can have.
const maxLine = 16 << 20

// errLongLine says that a line is longer than maxLine.
var errLongLine = errors.New("a line is longer than 16 MiB")

// lineReader reads lines that end.
type lineReader struct {
	r    *bufio.Reader
	line []byte
	rest []byte // behind the last line feed, at the end
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next gives the next line without its line feed. It is valid until the next
// call. At the end it is io.EOF, and rest has what does not end.
func (l *lineReader) next() ([]byte, error) {
	l.line = l.line[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch {
		case len(l.line) > maxLine:
			return nil, errLongLine
		case err == nil:
			return l.line[:len(l.line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			l.rest = l.line
			return nil, err
		}
	}
}

// wholeLines gives what is in front of the last line feed, and it.
func wholeLines(b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')+1] }

// lines gives each line of a text without its line feed.
func lines(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			line, rest, _ := bytes.Cut(text, []byte{'\n'})
			if !yield(line) {
				return
			}
			text = rest
		}
	}
}
