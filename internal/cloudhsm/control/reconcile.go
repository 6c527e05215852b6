package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// tending is what the reconciler remembers between two looks. It may forget all of it.
type tending struct {
	mu     sync.Mutex
	busy   map[string]bool // by what is worked on
	rests  map[string]pause
	done   map[string]time.Time // when something periodic was done last
	misses map[string]int       // how often in a row an HSM did not answer
	since  map[string]time.Time // when something began that lasts
}

func newTending() *tending {
	return &tending{
		busy: make(map[string]bool), rests: make(map[string]pause),
		done: make(map[string]time.Time), misses: make(map[string]int), since: make(map[string]time.Time),
	}
}

// pause is how long something that failed is left alone.
type pause struct {
	until time.Time
	next  time.Duration
}

// longest is the longest pause.
const longest = time.Minute

// reconcile looks for work until the service ends.
func (s *Service) reconcile() {
	tick := time.NewTicker(s.timing.Sweep)
	defer tick.Stop()
	for {
		if err := s.look(); err != nil && s.ctx.Err() == nil {
			s.log.Error("looking for what is to be done with HSM clusters failed", "error", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// look begins to look after everything that is on record. What one cluster needs holds no other one up.
func (s *Service) look() error {
	clusters, err := s.recorded(clusterPrefix)
	if err != nil {
		return err
	}
	tokens, err := s.recorded(tokenPrefix)
	if err != nil {
		return err
	}
	forgotten, err := s.recorded(forgetPrefix)
	if err != nil {
		return err
	}
	for _, at := range clusters {
		s.begin(at, func() error { return tended(s, at, s.tend) })
	}
	for _, at := range tokens {
		s.begin(at, func() error { return tended(s, at, s.retire) })
	}
	for _, at := range forgotten {
		s.begin(at, func() error { return tended(s, at, s.forgetKey) })
	}
	return s.lookAtBackups()
}

// lookAtBackups begins to look after backups, now and then: there are many, and what happens to them is a matter of days.
func (s *Service) lookAtBackups() error {
	if !s.tending.due("backups", s.now(), 60*s.timing.Sweep) {
		return nil
	}
	backups, err := s.recorded(backupPrefix)
	for _, at := range backups {
		s.begin(at, func() error { return tended(s, at, s.tendBackup) })
	}
	return err
}

// recorded gives the storage keys below a prefix.
func (s *Service) recorded(prefix string) (keys []string, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		for entry, err := range r.Scan(prefix) {
			if err != nil {
				return err
			}
			keys = append(keys, entry.Key)
		}
		return nil
	})
	return keys, err
}

// tended works on a record as it is when the work begins. What a look has seen may be older than
// the end of the work before, and is not to be trusted with a token that is about to be wiped.
func tended[T any](s *Service, at string, do func(*T) error) error {
	var rec *T
	err := s.db.View(s.ctx, func(r store.Reader) (err error) {
		rec, err = load[T](r, at)
		return err
	})
	if err != nil || rec == nil {
		return err
	}
	return do(rec)
}

// begin works on something behind the caller, unless that is being worked on already or rests after a failure.
func (s *Service) begin(what string, do func() error) {
	if !s.tending.start(what, s.now()) {
		return
	}
	s.work.Go(func() { s.tending.end(what, s.try(what, do), s.now(), s.timing.Retry) })
}

// paced is begin for a part of the work on something, which is done at once. Its failure holds the other parts up
// neither now nor later.
func (s *Service) paced(what string, do func() error) {
	if s.tending.start(what, s.now()) {
		s.tending.end(what, s.try(what, do), s.now(), s.timing.Retry)
	}
}

// try logs what goes wrong.
func (s *Service) try(what string, do func() error) error {
	err := s.outlive(do)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil && s.ctx.Err() == nil {
		s.log.Warn("work on an HSM cluster failed and is tried again", "what", what, "error", err)
	}
	return err
}

// outlive turns a panic into an error.
func (s *Service) outlive(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the reconciler %w", secret.Panicked(r))
		}
	}()
	return do()
}

func (t *tending) start(what string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[what] || now.Before(t.rests[what].until) {
		return false
	}
	t.busy[what] = true
	return true
}

func (t *tending) end(what string, err error, now time.Time, first time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, what)
	if err == nil {
		delete(t.rests, what)
		return
	}
	rest := t.rests[what]
	rest.next = min(max(first, 2*rest.next), longest)
	rest.until = now.Add(rest.next)
	t.rests[what] = rest
}

// due tells whether something periodic is to be done; asking makes it done.
func (t *tending) due(what string, now time.Time, every time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.done[what]) < every {
		return false
	}
	t.done[what] = now
	return true
}

// forget makes something periodic due.
func (t *tending) forget(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.done, what)
}

// missed counts how often in a row an HSM did not answer.
func (t *tending) missed(hsm string, answered bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if answered {
		delete(t.misses, hsm)
		return 0
	}
	t.misses[hsm]++
	return t.misses[hsm]
}

// lasting tells how long something has lasted, as far as this was asked: zero if it does not.
func (t *tending) lasting(what string, does bool, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !does {
		delete(t.since, what)
		return 0
	}
	if _, known := t.since[what]; !known {
		t.since[what] = now
	}
	return now.Sub(t.since[what])
}

// lingering is how long a cluster that was deleted can still be described.
const lingering = time.Hour

// tend takes a cluster a step further, and looks after its HSMs.
func (s *Service) tend(rec *clusterRecord) error {
	switch rec.State {
	case cloudhsmapi.ClusterCreateInProgress:
		return s.moveOn(rec, cloudhsmapi.ClusterUninitialized, "CreateCluster")
	case cloudhsmapi.ClusterInitializeInProgress:
		return s.moveOn(rec, cloudhsmapi.ClusterInitialized, "InitializeCluster")
	case cloudhsmapi.ClusterDeleteInProgress:
		return s.deleteCluster(rec)
	case cloudhsmapi.ClusterDeleted:
		if s.now().Sub(rec.Deleted) < lingering {
			return nil
		}
		_, err := s.db.Update(s.ctx, func(tx store.Tx) error { return forgetCluster(tx, rec) })
		return err
	}
	for _, h := range rec.HSMs {
		if err := tended(s, rec.path(), func(now *clusterRecord) error { s.tendHSM(now, now.hsm(h.ID)); return nil }); err != nil {
			return err
		}
	}
	for _, part := range []func(*clusterRecord){s.tendHealth, s.tendKeys} {
		if err := tended(s, rec.path(), func(now *clusterRecord) error { part(now); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// tendHSM makes or removes an HSM, unless that is gone: nil. The cluster is as the work on the HSMs before has left it: the first
// one may have made the cluster key that the second one has to take.
func (s *Service) tendHSM(rec *clusterRecord, h *hsmRecord) {
	switch {
	case h == nil:
	case h.State == cloudhsmapi.HsmCreateInProgress:
		s.paced(rec.path()+"/"+h.ID, func() error { return s.explained(rec, h, s.makeHSM) })
	case h.State == cloudhsmapi.HsmDeleteInProgress:
		s.paced(rec.path()+"/"+h.ID, func() error { return s.explained(rec, h, s.removeHSM) })
	}
}

// tendHealth sees now and then whether the HSMs are well.
func (s *Service) tendHealth(rec *clusterRecord) {
	if s.tending.due(rec.path()+"/health", s.now(), s.timing.Health) {
		s.checkHealth(rec)
	}
}

// moveOn ends a transitional state. why is the operation that began it.
func (s *Service) moveOn(rec *clusterRecord, to cloudhsmapi.ClusterState, why string) error {
	from := rec.State
	err := s.update(rec.path(), func(_ store.Tx, rec *clusterRecord) error {
		if rec.State != from {
			return errGone
		}
		rec.State, rec.StateMessage = to, ""
		return nil
	})
	if err == nil {
		s.log.Info("an HSM cluster has changed its state", "cluster", rec.ID, "state", to, "after", why)
		s.event(why, rec.Account, rec.Region, rec.arn(), audit.Data{"state": string(to)}, nil)
		s.fault("cluster " + string(to))
		s.changed(rec.ID)
		s.kick()
	}
	return err
}

// deleteCluster ends a cluster that has no HSMs. Its backups stay.
func (s *Service) deleteCluster(rec *clusterRecord) error {
	err := s.update(rec.path(), func(tx store.Tx, rec *clusterRecord) error {
		rec.State, rec.Deleted = cloudhsmapi.ClusterDeleted, s.now().UTC()
		if err := save(tx, rec.path(), rec); err != nil {
			return err
		}
		return s.forgetLater(tx, rec.ID)
	})
	if err == nil {
		s.event("DeleteCluster", rec.Account, rec.Region, rec.arn(), audit.Data{"state": string(cloudhsmapi.ClusterDeleted)}, nil)
		s.sessions.endCluster(rec.usersPath())
		s.changed(rec.ID)
	}
	return err
}

// update changes a cluster as it is now on record. It fails with errGone if it is there no more.
func (s *Service) update(at string, fn func(tx store.Tx, rec *clusterRecord) error) error {
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error {
		rec, err := existing[clusterRecord](tx, at)
		if err != nil {
			return err
		}
		if err := fn(tx, rec); err != nil {
			return err
		}
		return save(tx, at, rec)
	})
	return err
}

// updateHSM changes an HSM that is still in the state in which it was when the work began; else it fails with errGone.
func (s *Service) updateHSM(at string, was *hsmRecord, fn func(tx store.Tx, rec *clusterRecord, h *hsmRecord) error) error {
	return s.update(at, func(tx store.Tx, rec *clusterRecord) error {
		h := rec.hsm(was.ID)
		if h == nil || h.State != was.State || h.Token != was.Token {
			return errGone
		}
		return fn(tx, rec, h)
	})
}

// explained shows with the HSM why it is not further.
func (s *Service) explained(rec *clusterRecord, h *hsmRecord, do func(*clusterRecord, *hsmRecord) error) error {
	failure := do(rec, h)
	if failure == nil || errors.Is(failure, errGone) || s.ctx.Err() != nil {
		return failure
	}
	text := shownCause(failure)
	err := s.updateHSM(rec.path(), h, func(_ store.Tx, _ *clusterRecord, h *hsmRecord) error {
		h.Message = text
		return nil
	})
	if err != nil && !errors.Is(err, errGone) {
		s.log.Error("why an HSM is not ready could not be put on record", "hsm", h.ID, "error", err)
	}
	return failure
}

// carrying bounds a step that goes over all keys of an HSM.
func (s *Service) carrying() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.timing.Carry)
}

// within bounds one step.
func (s *Service) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.timing.Step)
}
