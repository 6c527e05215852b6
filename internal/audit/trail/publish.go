package trail

import (
	"errors"
	"os"
	"time"
)

// publish replaces the file of the last checkpoint, unless it has one that was
// made at a later sequence number. That it cannot be is no reason to refuse anything:
// the trail has the checkpoint too.
func (l *Log) publish(at uint64, signed string) {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	if at <= l.published {
		return
	}
	if err := replaceFile(l.cfg.Directory, checkpointFile, []byte(signed)); err != nil {
		l.cfg.Logger.Error("the last checkpoint of the audit trail cannot be published", "error", err)
		return
	}
	l.published = at
}

// tick makes checkpoints from time to time, and has the disk take what is with
// the operating system.
func (l *Log) tick(last string) {
	ticker := time.NewTicker(l.cfg.CheckpointInterval)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		file, h := l.signed()
		if file == nil || h.last == last {
			continue
		}
		if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			l.cfg.Logger.Error("the audit trail cannot be written to the disk", "error", err)
			continue
		}
		l.publish(h.Sequence, h.last)
		last = h.last
	}
}

// signed makes a checkpoint, and gives the file that it is in.
func (l *Log) signed() (File, head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || l.head.over {
		return nil, head{}
	}
	err := l.mend()
	if err == nil && l.head.unsigned > 0 {
		err = l.sign(false)
	}
	if err != nil {
		l.cfg.Logger.Error("no checkpoint of the audit trail can be made", "error", err)
		return nil, head{}
	}
	return l.file, l.head
}
