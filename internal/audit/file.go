package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// File is a Writer of JSON lines. Records that arrive while the file is being
// written go out together in the next write: whoever finds nobody writing
// does it for all that wait.
type File struct {
	out io.Writer
	own io.Closer // nil when the output is not ours to close

	mu      sync.Mutex
	pending *batch // gathers records
	spare   []byte // the memory of a batch that was written
	writing bool
	torn    bool // the last line in the file has no end
}

// batch is what one write takes to the file.
type batch struct {
	lines []byte
	done  chan struct{} // closed when written
	err   error
}

// Open appends to the file at path, made with mode 0600 if it is not there.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	torn, err := endsInside(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the audit log: %w", err), f.Close())
	}
	return &File{out: f, own: f, pending: newBatch(), torn: torn}, nil
}

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

// NewFile writes to out, which it does not close.
func NewFile(out io.Writer) *File { return &File{out: out, pending: newBatch()} }

// maxSpare bounds the memory that a burst leaves behind, in bytes.
const maxSpare = 1 << 20

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Write implements Writer. A record that was begun is written even when ctx ends meanwhile.
func (f *File) Write(_ context.Context, r *Record) error {
	f.mu.Lock()
	b := f.pending
	b.lines = appendRecord(b.lines, r)
	if f.writing {
		f.mu.Unlock()
		<-b.done
		return b.err
	}
	f.writing = true
	f.flush()
	f.writing = false
	f.mu.Unlock()
	return b.err
}

// flush writes batches until none is left. It is called with the lock held,
// and gives it up while it writes.
func (f *File) flush() {
	for len(f.pending.lines) > 0 {
		b := f.pending
		f.pending = newBatch()
		f.pending.lines, f.spare = f.spare[:0], nil
		f.mu.Unlock()
		b.err = f.write(b.lines)
		close(b.done)
		f.mu.Lock()
		if cap(b.lines) <= maxSpare {
			f.spare = b.lines
		}
	}
}

// write ends a line first that a failed write has begun, as on a full disk:
// otherwise the next record would be lost in it.
func (f *File) write(lines []byte) error {
	if f.torn {
		if _, err := f.out.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
		f.torn = false
	}
	n, err := f.out.Write(lines)
	if err != nil {
		f.torn = n > 0 && lines[n-1] != '\n'
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// Close closes the file; records that are being written still reach it.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own == nil {
		return nil
	}
	return f.own.Close()
}
