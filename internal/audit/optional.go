package audit

import (
	"log/slog"
	"time"
)

// Optional makes a sink one that calls do not depend on: what it does not take
// is lost to it, which the log tells, and calls go on. A sink that has failed is
// left alone for a while, so that one that is slow to fail holds nobody up.
func Optional(name string, sink Sink, log *slog.Logger) Sink {
	return &optional{Sink: sink, name: name, log: log}
}

type optional struct {
	Sink
	name  string
	log   *slog.Logger
	pause time.Duration // zero while all is well
	until time.Time     // the end of the pause
	lost  int           // records, since the sink has failed
}

// The pauses of a sink that fails; each is twice the one before.
const (
	minPause = time.Second
	maxPause = time.Minute
)

// Write implements Sink. It does not fail.
func (o *optional) Write(b *Batch) error {
	if time.Now().Before(o.until) {
		o.lost += b.Len()
		return nil
	}
	if err := o.Sink.Write(b); err != nil {
		o.pause = min(max(2*o.pause, minPause), maxPause)
		o.until = time.Now().Add(o.pause)
		o.lost += b.Len()
		o.log.Error("an optional audit sink fails; records are lost to it", "sink", o.name, "lost", o.lost, "pause", o.pause, "error", err)
		return nil
	}
	if o.lost > 0 {
		o.log.Warn("an optional audit sink works again", "sink", o.name, "lost", o.lost)
	}
	o.pause, o.until, o.lost = 0, time.Time{}, 0
	return nil
}
