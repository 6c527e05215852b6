package trail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kastellan.dev/internal/durable"
)

// ready makes sure that there is a segment to write to, which ends with a whole entry.
func (l *Log) ready() error {
	if err := l.mend(); err != nil {
		return err
	}
	if l.file != nil && (l.size >= l.cfg.SegmentBytes || l.cfg.Now().Sub(l.began) >= l.cfg.SegmentAge) {
		if err := l.end(); err != nil {
			return err
		}
	}
	if l.file == nil {
		last := l.ended[len(l.ended)-1]
		return l.begin(&last.end, nil, "")
	}
	return nil
}

// mend takes away the part of an entry that a full disk has cut: its calls
// were refused.
func (l *Log) mend() error {
	if !l.torn {
		return nil
	}
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	l.torn = false
	return nil
}

// end ends the segment with a checkpoint, on the disk.
func (l *Log) end() error {
	if !l.head.over {
		if err := l.sign(true); err != nil {
			return err
		}
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	if err := l.file.Close(); err != nil {
		l.cfg.Logger.Error("closing a segment of the audit trail failed", "segment", l.name, "error", err)
	}
	l.file = nil
	l.ended = append(l.ended, endedSegment{end: previous{Segment: l.name, position: l.head.position}, bytes: l.size, at: l.cfg.Now()})
	return nil
}

// sign writes a checkpoint.
func (l *Log) sign(end bool) error {
	next := l.head
	buf, err := l.check(&next, nil, end)
	if err != nil {
		return err
	}
	return l.put(buf, next)
}

// begin makes the next segment, with its head and a checkpoint of it; if that
// fails, there is none.
func (l *Log) begin(after *previous, unread []unread, lost string) error {
	next := l.head
	next.number++
	now := l.cfg.Now().UTC()
	buf := next.append(nil, object(segmentEntry{Segment: segment{
		Format: format, Trail: l.trail, Number: next.number, Began: now, Key: l.cfg.Key.Public(),
		CheckpointRecords: l.cfg.CheckpointRecords, Previous: after, Unread: unread, LostCheckpoint: lost,
	}}))
	buf, err := l.check(&next, buf, false)
	if err != nil {
		return err
	}
	name := segmentName(next.number)
	file, err := l.create(filepath.Join(l.cfg.Directory, name), buf)
	if err != nil {
		return fmt.Errorf("beginning a segment: %w", err)
	}
	l.file, l.head, l.size, l.name, l.began = file, next, int64(len(buf)), name, now
	l.publish(l.head.Sequence, l.head.last)
	l.retain()
	return nil
}

// create makes a file with its first bytes: it has its name only when it has them.
func (l *Log) create(path string, content []byte) (File, error) {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	file, err := l.cfg.Create(temporary)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = durable.SyncDirectory(l.cfg.Directory)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
