package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Lines is a Sink of plain lines: a file, or standard output.
type Lines struct {
	out  io.Writer
	own  *os.File // nil when the output is not ours to close
	sync bool
	torn bool // the last line has no end
}

var _ Sink = (*Lines)(nil)

// NewLines writes to out, which it does not close.
func NewLines(out io.Writer) *Lines { return &Lines{out: out} }

// OpenLines appends to the file at path, made with mode 0600 if it is not
// there. With sync every batch is on the disk when Write returns.
func OpenLines(path string, sync bool) (*Lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	torn, err := endsInside(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit log: %w", err), f.Close())
	}
	return &Lines{out: f, own: f, sync: sync, torn: torn}, nil
}

// NewFile is a log of out alone, which it does not close.
func NewFile(out io.Writer) *Log { return NewLog(NewLines(out)) }

// endsInside tells whether the file ends in the middle of a line, as a crash may
// leave it. What is not a regular file has no end.
func endsInside(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return last[0] != '\n', err
}

// Write implements Sink. It ends a line first that a failed write has begun, as
// on a full disk: otherwise the next record would be lost in it.
func (l *Lines) Write(b *Batch) error {
	if l.torn {
		if _, err := l.out.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
		l.torn = false
	}
	lines := b.Bytes()
	n, err := l.out.Write(lines)
	if err != nil {
		l.torn = n > 0 && lines[n-1] != '\n'
		return fmt.Errorf("writing the audit log: %w", err)
	}
	if l.sync && l.own != nil {
		if err := l.own.Sync(); err != nil {
			return fmt.Errorf("writing the audit log to the disk: %w", err)
		}
	}
	return nil
}

// Close implements Sink.
func (l *Lines) Close() error {
	if l.own == nil {
		return nil
	}
	return l.own.Close()
}
