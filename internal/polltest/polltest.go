// Package polltest waits, in tests, for what other goroutines and processes
// bring about. It gives up after a time that no healthy test comes near, so
// that a busy machine makes tests slow and not red.
package polltest

import (
	"crypto/fips140"
	"testing"
	"time"
)

// patience is how long Until waits.
const patience = time.Minute

// longest is how long Until lets between two looks: many tests that look all the time make each other slow.
const longest = 20 * time.Millisecond

// Until waits until a condition holds, and ends the test if it does not come about.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	pause := time.Millisecond
	for !holds() {
		pause = min(2*pause, longest)
		select {
		case <-time.After(pause):
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// NeedsBubble skips a test that runs in a bubble of testing/synctest where
// random numbers come from a FIPS 140-3 module: it draws its entropy from how
// long things take, and panics where time stands still.
func NeedsBubble(t testing.TB) {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("there is no entropy in a bubble")
	}
}
