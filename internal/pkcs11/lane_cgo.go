//go:build cgo && unix

package pkcs11

import (
	"sync/atomic"
	"time"
)

// job is one question and the way back for its answer.
type job struct {
	question message
	deadline time.Time // of the caller; zero when it waits for ever
	queued   time.Time
	answer   func(message, error)
	answered atomic.Bool
}

// finish answers unless that has happened already.
func (j *job) finish(answer message, err error) {
	if !j.answered.Swap(true) {
		j.answer(answer, err)
	}
}

// lane is a bounded queue of jobs with the runners that empty it.
type lane struct {
	jobs    chan *job    // never full: room is counted before
	present atomic.Int64 // jobs that are queued or run
	room    int64        // how many there may be
	runners []*runner
}

func newLane(runners, queue int) *lane {
	l := &lane{jobs: make(chan *job, runners+queue), room: int64(runners + queue)}
	start := time.Now()
	for range runners {
		l.runners = append(l.runners, &runner{start: start})
	}
	return l
}

// submit queues the job; false means that there is no room.
func (l *lane) submit(j *job) bool {
	if l.present.Add(1) > l.room {
		l.present.Add(-1)
		return false
	}
	l.jobs <- j
	return true
}

// leave counts a job as done, before its caller hears of it and sends the next one.
func (l *lane) leave() { l.present.Add(-1) }

// inspect answers the jobs that take too long, and those that queue behind
// nothing else. It tells whether there was any, and whether something runs.
func (l *lane) inspect() (hangs, busy bool) {
	hanging := 0
	for _, r := range l.runners {
		running, hung := r.inspect()
		busy = busy || running
		if hung {
			hanging++
		}
	}
	if hanging == len(l.runners) {
		l.refuseQueued()
	}
	return hanging > 0, busy
}

func (l *lane) refuseQueued() {
	for {
		select {
		case j, ok := <-l.jobs:
			if !ok {
				return
			}
			l.leave()
			j.finish(message{}, ErrTimeout)
		default:
			return
		}
	}
}

// runner is a goroutine of the engine, as the watchdog sees it.
type runner struct {
	start    time.Time
	patience time.Duration
	current  atomic.Pointer[job]
	until    atomic.Int64 // when the module takes too long, in nanoseconds since start; zero while it is not called
}

// begin starts the watch over a job.
func (r *runner) begin(j *job, patience time.Duration) {
	r.patience = patience
	r.current.Store(j)
	r.resume()
}

// rest suspends the watch, resume begins it anew.
func (r *runner) rest()   { r.until.Store(0) }
func (r *runner) resume() { r.until.Store(int64(time.Since(r.start) + r.patience)) }

// inspect answers the runner's job if it takes too long.
func (r *runner) inspect() (running, hung bool) {
	until := r.until.Load()
	if until == 0 {
		return false, false
	}
	if int64(time.Since(r.start)) <= until {
		return true, false
	}
	j := r.current.Load()
	if r.until.Load() != until {
		return true, false // it is at another one meanwhile
	}
	j.finish(message{}, ErrTimeout)
	return true, true
}
