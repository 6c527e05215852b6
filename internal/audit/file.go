package audit

import (
	"context"
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
	return &File{out: f, own: f, pending: newBatch()}, nil
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
		if _, err := f.out.Write(b.lines); err != nil {
			b.err = fmt.Errorf("writing the audit log: %w", err)
		}
		close(b.done)
		f.mu.Lock()
		if cap(b.lines) <= maxSpare {
			f.spare = b.lines
		}
	}
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
