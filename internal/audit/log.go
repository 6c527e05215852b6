package audit

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
)

// Sink is a place that records go to.
type Sink interface {
	// Write takes a batch, and returns when its records are handed on: to the
	// operating system at least. After an error some of them may have been
	// taken, each whole. It is called by one goroutine at a time, does not keep the
	// batch, and takes a bounded time whatever is at the other end.
	Write(b *Batch) error
	// Close ends the sink, after the last Write.
	Close() error
}

// Batch is records that are written together.
type Batch struct {
	lines []byte
	ends  []int // where each record ends, behind its line feed
}

// Bytes gives all records: a line of JSON each, with its line feed.
func (b *Batch) Bytes() []byte { return b.lines }

// Len is the number of records.
func (b *Batch) Len() int { return len(b.ends) }

// Lines gives each record with its line feed.
func (b *Batch) Lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		start := 0
		for _, end := range b.ends {
			if !yield(b.lines[start:end]) {
				return
			}
			start = end
		}
	}
}

func (b *Batch) add(r *Record) {
	b.lines = appendRecord(b.lines, r)
	b.ends = append(b.ends, len(b.lines))
}

// Log is a Writer. Records that arrive while the sinks are being written to go
// out together in the next batch: whoever finds nobody writing does it for all
// that wait.
type Log struct {
	sinks []Sink

	mu      sync.Mutex
	pending *group // gathers records
	spare   Batch  // the memory of a batch that was written
	writing bool
}

// group is a batch and those who wait for it.
type group struct {
	Batch
	done chan struct{} // closed when written
	err  error
}

// NewLog makes a log of the sinks, which it owns: Close closes them.
func NewLog(sinks ...Sink) *Log { return &Log{sinks: sinks, pending: newGroup()} }

// maxSpare bounds the memory that a burst leaves behind, in bytes.
const maxSpare = 1 << 20

func newGroup() *group { return &group{done: make(chan struct{})} }

// Write implements Writer. A record that was begun is written even when ctx ends meanwhile.
func (l *Log) Write(_ context.Context, r *Record) error {
	l.mu.Lock()
	g := l.pending
	g.add(r)
	if l.writing {
		l.mu.Unlock()
		<-g.done
		return g.err
	}
	l.writing = true
	l.flush()
	l.writing = false
	l.mu.Unlock()
	return g.err
}

// flush writes batches until none is left. It is called with the lock held,
// and gives it up while it writes.
func (l *Log) flush() {
	for len(l.pending.ends) > 0 {
		g := l.pending
		l.pending = newGroup()
		l.pending.lines, l.pending.ends = l.spare.lines[:0], l.spare.ends[:0]
		l.spare = Batch{}
		l.mu.Unlock()
		g.err = l.write(&g.Batch)
		close(g.done)
		l.mu.Lock()
		if cap(g.lines) <= maxSpare {
			l.spare = g.Batch
		}
	}
}

// write gives the batch to all sinks, also after one has failed: what is
// refused has been asked for all the same.
func (l *Log) write(b *Batch) error {
	var failures []error
	for _, sink := range l.sinks {
		if err := sink.Write(b); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// Close closes the sinks, in reverse order; records that are being written
// still reach them.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failures []error
	for _, sink := range slices.Backward(l.sinks) {
		failures = append(failures, sink.Close())
	}
	return errors.Join(failures...)
}
