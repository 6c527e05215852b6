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
