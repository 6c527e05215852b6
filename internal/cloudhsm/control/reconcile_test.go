package control

import (
	"testing"

	"kastellan.dev/internal/cloudhsmapi"
)

// TestHSMsMadeInOneLookShareAClusterKey: the second one is made after the first turned ACTIVE, and must not take the cluster for one
// without any key because it had none when the look began.
func TestHSMsMadeInOneLookShareAClusterKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterUninitialized)
	b.ask(at)
	b.ask(at)
	b.step(at)
	if n := len(b.read(at).active()); n != 2 {
		t.Fatalf("%d HSMs are active", n)
	}
	b.alike(at)
}

// TestLostHSMIsWaitedForBeforeThereIsABackup: a cluster that was never activated has no backup, and its only HSM is lost. Another
// one with a cluster key of its own could never be brought together with it.
func TestLostHSMIsWaitedForBeforeThereIsABackup(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterUninitialized)
	first := b.active(at)
	back := b.lose(at, first)
	b.degradeNow(at, first)
	second := b.ask(at)
	rec := b.read(at)
	if err := b.makeHSM(rec, rec.hsm(second)); err == nil {
		t.Error("a second cluster key was made")
	}
	back()
	b.checkHealth(b.read(at))
	rec = b.read(at)
	must(t, b.makeHSM(rec, rec.hsm(second)))
	b.alike(at)
}
