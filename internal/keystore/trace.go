package keystore

import (
	"errors"
	"sync"
	"time"

	"kastellan.dev/internal/kmsapi"
)

// Step is one thing that connecting did.
type Step struct {
	Name    string        `json:"name"`              // "find cluster", "TLS handshake", "log in"
	Target  string        `json:"target,omitempty"`  // address, member, file: what it was done to
	Started time.Time     `json:"started"`           //
	Took    time.Duration `json:"took"`              // nanoseconds in JSON
	Detail  string        `json:"detail,omitempty"`  // what was found: a version, a count, a certificate's date
	Failure string        `json:"failure,omitempty"` // why it failed: TLS alert, CKR_ name, HTTP status; empty when it did not
}

// Evidence is the record of one attempt to connect, kept in the store's
// metadata and shown by `kastellan key-store explain`.
type Evidence struct {
	RequestID string                     `json:"requestId"`
	Started   time.Time                  `json:"started"`
	Ended     time.Time                  `json:"ended"`
	Code      kmsapi.ConnectionErrorCode `json:"code,omitempty"` // empty when it worked
	Failure   string                     `json:"failure,omitempty"`
	Steps     []Step                     `json:"steps"`
}

// Trace gathers the steps of an attempt. Its methods may be called from many
// goroutines; a nil Trace drops everything.
type Trace struct {
	now   func() time.Time
	mu    sync.Mutex
	ev    Evidence
	limit int
	hook  func(step, target string)
}

// NewTrace begins the record of an attempt; now is the clock.
func NewTrace(requestID string, now func() time.Time) *Trace {
	return &Trace{now: now, ev: Evidence{RequestID: requestID, Started: now()}, limit: 256}
}

// OnStep makes every later end of a step call hook, before it is recorded.
func (t *Trace) OnStep(hook func(step, target string)) { t.hook = hook }

// Step begins a step and returns the function that ends it: detail is what was
// found, err is why the step failed, or nil. Neither may hold a secret.
func (t *Trace) Step(name, target string) (end func(detail string, err error)) {
	if t == nil {
		return func(string, error) {}
	}
	started := t.now()
	return func(detail string, err error) {
		s := Step{Name: name, Target: target, Started: started, Took: t.now().Sub(started), Detail: detail}
		if err != nil {
			s.Failure = err.Error()
		}
		if t.hook != nil {
			t.hook(name, target)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.ev.Steps) < t.limit {
			t.ev.Steps = append(t.ev.Steps, s)
		}
	}
}

// End closes the record; err is what Connect returned.
func (t *Trace) End(err error) Evidence {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev := t.ev
	ev.Steps = append([]Step(nil), t.ev.Steps...)
	ev.Ended = t.now()
	if err != nil {
		ev.Code = CodeOf(err)
		ev.Failure = err.Error()
	}
	return ev
}

// CodeOf is the ConnectionErrorCode of an error from Connect: INTERNAL_ERROR
// for one that is not a ConnectError, "" for nil.
func CodeOf(err error) kmsapi.ConnectionErrorCode {
	if err == nil {
		return ""
	}
	var ce *ConnectError
	if errors.As(err, &ce) {
		return ce.Code
	}
	return kmsapi.InternalError
}
