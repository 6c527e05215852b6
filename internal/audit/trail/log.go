package trail

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"kastellan.dev/internal/audit"
)

// Config says how a trail is kept. Directory and Key are required.
type Config struct {
	Directory string // made with mode 0700 if it is not there
	Key       *Key

	SegmentBytes int64         // a segment ends when it has as many; zero means 64 MiB
	SegmentAge   time.Duration // or is that old; zero means 24 h

	// Segments that have ended are removed when all have more bytes than RetainBytes,
	// or they ended longer ago than RetainAge. Zero means never.
	RetainBytes int64
	RetainAge   time.Duration

	CheckpointRecords  int           // there is a checkpoint after as many; zero means 1000
	CheckpointInterval time.Duration // and after that time, if there is anything new; zero means 1 min

	// Sync has every batch on the disk before its calls are answered. Without
	// it records are with the operating system, and on the disk after
	// CheckpointInterval.
	Sync bool

	Logger *slog.Logger     // nil means slog.Default
	Now    func() time.Time // nil means time.Now
	// Create makes a file that does not exist, for appending; nil means that of
	// the operating system. Tests fill disks here.
	Create func(path string) (File, error)
}

// File is a segment that is being written.
type File interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

func (c *Config) setDefaults() {
	defaulted(&c.SegmentBytes, 64<<20)
	defaulted(&c.SegmentAge, 24*time.Hour)
	defaulted(&c.CheckpointRecords, 1000)
	defaulted(&c.CheckpointInterval, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Create == nil {
		c.Create = func(path string) (File, error) {
			return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
		}
	}
}

func defaulted[T int | int64 | time.Duration](value *T, standard T) {
	if *value == 0 {
		*value = standard
	}
}

// Log is the sink that writes a trail.
type Log struct {
	cfg    Config
	unlock func()
	trail  string
	stop   chan struct{}
	ticks  sync.WaitGroup

	mu    sync.Mutex
	head  head
	file  File  // nil between two segments
	size  int64 // of its entries
	torn  bool  // it has bytes behind them
	name  string
	began time.Time
	ended []endedSegment // oldest first
	buf   []byte

	publishing sync.Mutex
	published  uint64 // the sequence number at which the published checkpoint was made
}

// head is where the trail ends.
type head struct {
	chain
	number   uint64 // of the segment
	unsigned int    // records since the last checkpoint
	last     string // that checkpoint
	over     bool   // it ends the segment
}

var _ audit.Sink = (*Log)(nil)

// Open begins a segment in the directory, behind what it holds.
func Open(cfg Config) (*Log, error) {
	cfg.setDefaults()
	l := &Log{cfg: cfg, stop: make(chan struct{})}
	if err := os.MkdirAll(cfg.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the audit trail: %w", err)
	}
	unlock, err := lock(cfg.Directory)
	if err != nil {
		return nil, err
	}
	l.unlock = unlock
	past, err := readPast(cfg.Directory, cfg.Key)
	if err == nil {
		err = l.resume(past)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("opening the audit trail: %w", err)
	}
	first := l.head.last
	l.ticks.Go(func() { l.tick(first) })
	return l, nil
}

// resume begins the first segment of this process.
func (l *Log) resume(p *past) error {
	l.trail, l.ended = p.trail, p.ended
	l.head.position, l.head.number = p.end.position, p.number
	if len(p.unread) > 0 {
		l.cfg.Logger.Warn("the end of the audit trail cannot be read; it is left as it is", "segment", p.unread[0].Segment, "offset", p.unread[0].Offset, "bytes", p.unread[0].Bytes)
	}
	if p.lost != "" {
		l.cfg.Logger.Error("the audit trail has lost entries: there is a checkpoint of later ones; `kastellan audit verify` tells more", "directory", l.cfg.Directory)
	}
	return l.begin(p.end.previous(), p.unread, p.lost)
}

// Write implements audit.Sink.
func (l *Log) Write(b *audit.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(); err != nil {
		return fmt.Errorf("writing the audit trail: %w", err)
	}
	next, buf, err := l.head, l.buf[:0], error(nil)
	for line := range b.Lines() {
		if buf, err = l.checkDue(&next, buf); err != nil {
			return err
		}
		buf = next.append(buf, line[:len(line)-1])
		next.unsigned++
	}
	if buf, err = l.checkDue(&next, buf); err != nil {
		return err
	}
	if err := l.put(buf, next); err != nil {
		return fmt.Errorf("writing the audit trail: %w", err)
	}
	if l.cfg.Sync {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("writing the audit trail to the disk: %w", err)
		}
	}
	return nil
}

// checkDue appends a checkpoint if there are so many records without one.
func (l *Log) checkDue(h *head, buf []byte) ([]byte, error) {
	if h.unsigned < l.cfg.CheckpointRecords {
		return buf, nil
	}
	return l.check(h, buf, false)
}

// check appends a checkpoint of what was appended; end tells that it ends the segment.
func (l *Log) check(h *head, buf []byte, end bool) ([]byte, error) {
	signed, err := checkpoint{trail: l.trail, position: h.position, time: l.cfg.Now()}.sign(l.cfg.Key)
	if err != nil {
		return buf, fmt.Errorf("signing a checkpoint of the audit trail: %w", err)
	}
	buf = h.append(buf, object(checkpointEntry{Checkpoint: signed, End: end}))
	h.unsigned, h.last, h.over = 0, signed, end
	return buf, nil
}

// maxKept bounds the memory that a large batch leaves behind, in bytes.
const maxKept = 1 << 20

// put writes entries, after which the head is next. Of those that did not all
// go into the file, the whole ones stay: they say what has been asked for.
func (l *Log) put(entries []byte, next head) error {
	if cap(entries) <= maxKept {
		l.buf = entries
	}
	n, err := l.file.Write(entries)
	if err == nil {
		l.head, l.size = next, l.size+int64(len(entries))
		return nil
	}
	written := wholeLines(entries[:n])
	l.advance(written)
	l.torn = n > len(written)
	return err
}

// advance moves the head behind entries that were written.
func (l *Log) advance(entries []byte) {
	for line := range lines(entries) {
		e, err := parseEntry(line)
		if err != nil {
			panic("trail: what was made is no entry") // a mistake in this package
		}
		l.head.position = e.position
		l.head.unsigned++
		if c, ok := e.checkpoint(); ok {
			l.head.unsigned, l.head.last, l.head.over = 0, c.Checkpoint, c.End
		}
	}
	l.size += int64(len(entries))
}

// Close implements audit.Sink: it ends the segment.
func (l *Log) Close() error {
	close(l.stop)
	l.ticks.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.unlock()
	if l.file == nil {
		return nil
	}
	if err := errors.Join(l.mend(), l.end()); err != nil {
		return fmt.Errorf("ending the audit trail: %w", err)
	}
	l.publish(l.head.Sequence, l.head.last)
	return nil
}
