package audit

import (
	"bytes"
	"context"
	"encoding/json"
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
	writing bool
}

// batch is what one write takes to the file.
type batch struct {
	buf  bytes.Buffer
	done chan struct{} // closed when written
	err  error
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

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Write implements Writer. A record that was begun is written even when ctx ends meanwhile.
func (f *File) Write(_ context.Context, r *Record) error {
	f.mu.Lock()
	b := f.pending
	if err := json.NewEncoder(&b.buf).Encode(r); err != nil {
		f.mu.Unlock()
		return fmt.Errorf("encoding an audit record: %w", err)
	}
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
	for f.pending.buf.Len() > 0 {
		b := f.pending
		f.pending = newBatch()
		f.mu.Unlock()
		if _, err := f.out.Write(b.buf.Bytes()); err != nil {
			b.err = fmt.Errorf("writing the audit log: %w", err)
		}
		close(b.done)
		f.mu.Lock()
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
