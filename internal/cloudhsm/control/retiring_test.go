package control

import (
	"errors"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/store"
)

// TestTokenOfADeletedClusterIsSaved: the last HSM was out of reach when it was deleted, and so was the cluster. What is on its token comes
// into a backup when it is back, and only then the token is wiped and the cluster forgotten.
func TestTokenOfADeletedClusterIsSaved(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBench(t, func() time.Time { return now })
	at := b.newCluster(cloudhsmapi.ClusterActive)
	id := b.active(at)
	b.makeKey(at, id, "arn:a key")
	back := b.lose(at, id)
	b.leave(at, id)
	b.step(at)
	must(t, b.update(at, func(_ store.Tx, rec *clusterRecord) error {
		rec.State, rec.Worked = cloudhsmapi.ClusterDeleteInProgress, rec.works()
		return nil
	}))
	b.step(at)
	if state := b.read(at).State; state != cloudhsmapi.ClusterDeleted {
		t.Fatalf("the cluster is %s", state)
	}
	if err := b.retire(b.wiping()[0]); err == nil {
		t.Error("a token that cannot be reached was wiped")
	}
	now = now.Add(2 * lingering)
	b.step(at)
	rec := b.read(at)
	if rec == nil {
		t.Fatal("the cluster was forgotten before its token was saved")
	}

	back()
	must(t, b.retire(b.wiping()[0]))
	if saved, err := b.latest(rec); err != nil || saved == nil || saved.Keys != 1 {
		t.Errorf("the backup is %+v, %v", saved, err)
	}
	if n := len(b.wiping()); n > 0 {
		t.Errorf("%d tokens wait", n)
	}
	b.step(at)
	if b.read(at) != nil {
		t.Error("the cluster is still on record")
	}
}

// TestTokenThatIsInUseIsLeftAlone: somebody lists a token by mistake. Of one that was found blank all is ours, however far an attempt has come.
func TestTokenThatIsInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	ref := pkcs11test.NewToken(t, "somebody's", "1234")
	var err error
	b.pools, err = rack.NewPools([]rack.Pool{{Name: "pool", AvailabilityZone: testZone, Tokens: []rack.DeclaredToken{{Config: ref.Config(), SOPIN: textOf(ref.SOPIN)}}}})
	must(t, err)
	at := b.newCluster(cloudhsmapi.ClusterUninitialized)
	id := b.ask(at)
	if err := b.makeHSM(b.read(at), b.read(at).hsm(id)); !errors.Is(err, rack.ErrNotBlank) {
		t.Fatalf("an HSM was begun on it: %v", err)
	}

	token, err := b.token(b.read(at).hsm(id).Token)
	must(t, err)
	token.Begun = true
	b.put(token.path(), token)
	b.step(at)
	if h := b.read(at).hsm(id); h.State != cloudhsmapi.HsmActive {
		t.Errorf("the HSM is %s: %s", h.State, h.Message)
	}
}
