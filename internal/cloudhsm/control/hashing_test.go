package control

import (
	"context"
	"errors"
	"testing"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// TestPasswordsAreHashedForAFewCallersAtATime: whoever asks again and again waits for its turn, and key stores do not wait behind it.
func TestPasswordsAreHashedForAFewCallersAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	rec := b.read(b.newCluster(cloudhsmapi.ClusterActive))
	_, err := b.db.Update(t.Context(), func(tx store.Tx) error { return b.writeUsers(tx, rec.usersPath(), activeTable(t)) })
	must(t, err)
	for range cap(b.hashing) {
		b.hashing <- struct{}{}
	}
	c := &call{s: b.Service}
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.newUser(waiting, "alice", cryptoUser, textOf(rightPassword)); !errors.Is(err, context.Canceled) {
		t.Errorf("a password was hashed while as many as can be are: %v", err)
	}
	leave, err := (&doorkeeper{s: b.Service, users: rec.usersPath()}).Enter(t.Context(), "hsm-22222222222", holderKMS, textOf("kmsuser:"+kmsPassword))
	if err != nil {
		t.Fatalf("a key store cannot log in: %v", err)
	}
	leave()
	<-b.hashing
	if _, err := c.newUser(t.Context(), "alice", cryptoUser, textOf(rightPassword)); err != nil {
		t.Errorf("a password is not hashed when it is its turn: %v", err)
	}
}
