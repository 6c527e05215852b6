package control

import (
	"context"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// retireAll wipes the tokens that wait for it. It fails if one cannot be wiped.
func (b *bench) retireAll() {
	b.t.Helper()
	for _, token := range b.wiping() {
		must(b.t, b.retire(token))
	}
}

// degradeNow puts on record that an HSM is lost.
func (b *bench) degradeNow(at, id string) {
	b.t.Helper()
	rec := b.read(at)
	must(b.t, b.degrade(rec, rec.hsm(id), errUnreachable))
}

// TestHSMThatReturnsGetsWhatIsInABackupOnly: keys were made while it was lost, and the HSMs that had them have left since.
func TestHSMThatReturnsGetsWhatIsInABackupOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	stays, leaves := b.active(at), b.active(at)
	back := b.lose(at, stays)
	b.degradeNow(at, stays)
	b.makeKey(at, leaves, "arn:made while the other was lost")
	must(t, b.update(at, func(_ store.Tx, rec *clusterRecord) error { // a backup was begun, and came to nothing
		rec.LastBackup++
		return nil
	}))
	b.leave(at, leaves)
	b.step(at)
	b.retireAll()
	back()
	b.checkHealth(b.read(at))
	if h := b.read(at).hsm(stays); h.State != cloudhsmapi.HsmActive {
		t.Fatalf("the HSM is %s: %s", h.State, h.Message)
	}
	if !b.has(at, stays, "arn:made while the other was lost") {
		t.Error("an HSM is active without a key of its cluster")
	}
}

// TestHSMWaitsForActiveOnesThatCannotBeReached: they may have keys that no other one has.
func TestHSMWaitsForActiveOnesThatCannotBeReached(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	first, _, lost := b.active(at), b.active(at), b.active(at)
	b.degradeNow(at, lost)
	b.makeKey(at, first, "arn:on the first only")
	back := b.lose(at, first)
	rec := b.read(at)
	if err := b.lookAfter(rec, rec.hsm(lost)); err == nil {
		t.Error("a lost HSM was taken back without the keys of one that could not be reached")
	}
	third := b.ask(at)
	rec = b.read(at)
	if err := b.makeHSM(rec, rec.hsm(third)); err == nil {
		t.Error("an HSM was made without the keys of one that could not be reached")
	}
	back()
	rec = b.read(at)
	must(t, b.makeHSM(rec, rec.hsm(third)))
	must(t, b.lookAfter(rec, rec.hsm(lost)))
	for _, id := range []string{third, lost} {
		if !b.has(at, id, "arn:on the first only") {
			t.Errorf("%s is %s without a key", id, b.read(at).hsm(id).State)
		}
	}
}

// TestBackupOfAnOldTokenHidesNoOther: the token of an HSM that was lost long ago comes back after the last HSM was backed up. What
// it alone has is saved, and is not taken for all there is.
func TestBackupOfAnOldTokenHidesNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	lost, last := b.active(at), b.active(at)
	b.makeKey(at, lost, "arn:on the lost one only")
	back := b.lose(at, lost)
	b.leave(at, lost)
	b.step(at)
	b.makeKey(at, last, "arn:made after that")
	b.leave(at, last)
	b.step(at)
	back()
	b.retireAll()
	if n := len(b.read(at).HSMs); n != 0 {
		t.Fatalf("%d HSMs are left", n)
	}
	id := b.active(at)
	for _, label := range []string{"arn:on the lost one only", "arn:made after that"} {
		if !b.has(at, id, label) {
			t.Errorf("the key %q is lost", label)
		}
	}
}

// TestTokenIsTakenFromItsUsersBeforeItIsWiped: a key that is made after what only the token has was saved would be lost.
func TestTokenIsTakenFromItsUsersBeforeItIsWiped(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	leaves, stays := b.active(at), b.active(at)
	h := *b.read(at).hsm(leaves)
	user, err := b.openRecorded(t.Context(), &h)
	must(t, err)
	defer user.shared.Close()
	b.leave(at, leaves)
	b.step(at)
	back := b.lose(at, stays)
	if err := b.retire(b.wiping()[0]); err == nil {
		t.Fatal("the token was wiped although its keys could not be copied")
	}
	back()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := user.Token.ListKeys(ctx); err == nil {
		t.Error("the token is still used while it waits to be wiped")
	}
	b.retireAll()
}
