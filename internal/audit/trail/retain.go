package trail

import (
	"fmt"
	"os"
	"path/filepath"

	"kastellan.dev/internal/durable"
)

// retain removes segments that are older, or more, than are to be kept. That
// it cannot be done is no reason to refuse anything.
func (l *Log) retain() {
	n := l.outdated()
	if n == 0 {
		return
	}
	if err := l.remove(l.ended[:n]); err != nil {
		l.cfg.Logger.Error("old segments of the audit trail cannot be removed; it is tried again with the next one", "error", err)
		return
	}
	l.ended = l.ended[n:]
}

// outdated is how many of the segments are to go. The last one that ended stays.
func (l *Log) outdated() int {
	total := l.size
	for _, s := range l.ended {
		total += s.bytes
	}
	for i, s := range l.ended {
		tooOld := l.cfg.RetainAge > 0 && l.cfg.Now().Sub(s.at) > l.cfg.RetainAge
		tooMuch := l.cfg.RetainBytes > 0 && total > l.cfg.RetainBytes
		if !tooOld && !tooMuch || i == len(l.ended)-1 {
			return i
		}
		total -= s.bytes
	}
	return 0
}

// remove writes down, and signs, that the segments go, before they do: what is
// missing without that was taken away by somebody else.
func (l *Log) remove(old []endedSegment) error {
	names := make([]string, len(old))
	for i, s := range old {
		names[i] = s.end.Segment
	}
	next := l.head
	buf := next.append(nil, object(retentionEntry{Retention: retention{Removed: names, Through: old[len(old)-1].end, Time: l.cfg.Now().UTC()}}))
	buf, err := l.check(&next, buf, false)
	if err != nil {
		return err
	}
	if err := l.put(buf, next); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(l.cfg.Directory, name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("removing a segment: %w", err)
		}
	}
	return durable.SyncDirectory(l.cfg.Directory)
}
