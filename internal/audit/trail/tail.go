package trail

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"kastellan.dev/internal/audit"
)

// TailOptions say which records Tail gives.
type TailOptions struct {
	Filter Filter
	Newest int           // so many of those that are there; negative means all
	Follow bool          // and those that come, until the context ends
	Poll   time.Duration // how often to look for them; zero means 200 ms
}

// Tail gives records of a trail, or of a plain file of records, in their order.
// line is the whole line, without its line feed; it is valid during the call.
// Lines that are no records are left out. An error of show ends it.
func Tail(ctx context.Context, path string, o TailOptions, show func(line []byte, r *audit.Record) error) error {
	if o.Poll == 0 {
		o.Poll = 200 * time.Millisecond
	}
	t := &tail{TailOptions: o, show: show}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		t.dir = path
	} else {
		t.file = path
	}
	defer t.close()
	if err := t.past(ctx); err != nil || !o.Follow {
		return err
	}
	return t.follow(ctx)
}

// tail is where Tail stands.
type tail struct {
	TailOptions
	dir, file string // one of them
	show      func([]byte, *audit.Record) error

	name    string // of what is open
	open    *os.File
	lines   *lineReader
	partial []byte // the begin of a line that is being written
}

// files lists what there is to read, the oldest first.
func (t *tail) files() ([]string, error) {
	if t.file != "" {
		return []string{t.file}, nil
	}
	names, err := segmentNames(os.DirFS(t.dir))
	for i := range names {
		names[i] = filepath.Join(t.dir, names[i])
	}
	if err == nil && len(names) == 0 {
		err = errors.New("there is no audit trail in " + t.dir)
	}
	return names, err
}

// past gives what is there, and leaves the newest file open behind it.
func (t *tail) past(ctx context.Context) error {
	names, err := t.files()
	if err != nil {
		return err
	}
	names = t.fromSince(names)
	if t.Newest >= 0 {
		return t.newest(ctx, names)
	}
	for _, name := range names {
		if err := t.all(ctx, name, t.show); err != nil {
			return err
		}
	}
	return nil
}

// kept is a record that may be among the newest.
type kept struct {
	line   []byte
	record *audit.Record
}

// newest reads backwards, a file at a time, until there are enough.
func (t *tail) newest(ctx context.Context, names []string) error {
	var found []kept
	for i := len(names) - 1; i >= 0 && (len(found) < t.Newest || i == len(names)-1); i-- {
		var here []kept
		reader := t
		if i < len(names)-1 { // the newest one stays open
			reader = &tail{TailOptions: t.TailOptions}
		}
		err := reader.all(ctx, names[i], func(line []byte, r *audit.Record) error {
			if t.Newest > 0 && len(here) >= 2*t.Newest {
				here = append(here[:0], here[len(here)-t.Newest:]...)
			}
			here = append(here, kept{append([]byte(nil), line...), r})
			return nil
		})
		if reader != t {
			reader.close()
		}
		if err != nil {
			return err
		}
		found = append(here, found...)
	}
	for _, k := range found[max(0, len(found)-t.Newest):] {
		if err := t.show(k.line, k.record); err != nil {
			return err
		}
	}
	return nil
}

// fromSince leaves out the segments that ended before the time that is asked for.
func (t *tail) fromSince(names []string) []string {
	if t.file != "" || t.Filter.Since.IsZero() {
		return names
	}
	for i := len(names) - 1; i > 0; i-- {
		f, err := os.Open(names[i])
		if err != nil {
			continue
		}
		head, err := readHead(f)
		_ = f.Close()
		if err == nil && !head.Segment.Began.After(t.Filter.Since) {
			return names[i:]
		}
	}
	return names
}

// all opens a file and gives its records.
func (t *tail) all(ctx context.Context, name string, show func([]byte, *audit.Record) error) error {
	t.close()
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	t.name, t.open, t.lines, t.partial = name, f, newLineReader(f), nil
	return t.drain(ctx, show)
}

// drain gives the records that are there, up to the present end of the file.
func (t *tail) drain(ctx context.Context, show func([]byte, *audit.Record) error) error {
	for ctx.Err() == nil {
		line, err := t.lines.next()
		if errors.Is(err, io.EOF) {
			t.partial = append(t.partial, t.lines.rest...)
			return nil
		}
		if err != nil {
			return err
		}
		if len(t.partial) > 0 {
			line = append(t.partial, line...)
			t.partial = nil
		}
		r := new(audit.Record)
		if json.Unmarshal(line, r) != nil || r.EventName == "" || !t.Filter.Admits(r) {
			continue
		}
		if err := show(line, r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// follow gives records as they come, from one file to the next.
func (t *tail) follow(ctx context.Context) error {
	ticker := time.NewTicker(t.Poll)
	defer ticker.Stop()
	for {
		next := t.successor() // first: what it follows has been written before
		if t.open != nil {
			if err := t.drain(ctx, t.show); err != nil {
				return ended(err)
			}
		}
		if next != "" {
			if err := t.all(ctx, next, t.show); err != nil {
				return ended(err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// ended makes nothing of the end of the context.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// successor is the file that comes after the one that is open, if there is one:
// the next segment, or another file that took the plain file's name or place.
func (t *tail) successor() string {
	if t.file != "" {
		return t.replaced()
	}
	names, err := t.files()
	if err != nil {
		return ""
	}
	for _, name := range names {
		mine, _ := segmentNumber(filepath.Base(t.name))
		if n, _ := segmentNumber(filepath.Base(name)); n > mine {
			return name
		}
	}
	return ""
}

func (t *tail) replaced() string {
	now, err := os.Stat(t.file)
	if err != nil {
		return ""
	}
	if t.open == nil {
		return t.file
	}
	then, err := t.open.Stat()
	if err != nil {
		return ""
	}
	at, err := t.open.Seek(0, io.SeekCurrent)
	if err == nil && os.SameFile(then, now) && now.Size() >= at {
		return ""
	}
	return t.file
}

func (t *tail) close() {
	if t.open != nil {
		_ = t.open.Close()
		t.open = nil
	}
}
