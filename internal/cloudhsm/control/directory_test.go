package control

import (
	"testing"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsmapi"
)

// TestOpenRefusesHSMsOutOfService: a key store may have heard of them before. What has left must not be opened as a token of its own
// either: the password of a user would be tried as the token's PIN, and what is made anew is not filled yet.
func TestOpenRefusesHSMsOutOfService(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	leaves, stays := b.active(at), b.active(at)
	cluster, err := b.Cluster(t.Context(), testAccount, testRegion, b.read(at).ID)
	must(t, err)
	b.leave(at, leaves)
	b.step(at)
	rec := b.read(at)
	must(t, b.swapToken(rec, rec.hsm(stays)))
	rec = b.read(at)
	anew, err := b.prepare(t.Context(), rec, rec.hsm(stays))
	must(t, err)
	must(t, anew.shared.Close())
	for _, m := range cluster.Members {
		if token, err := b.Open(t.Context(), m, b.log); err == nil {
			t.Errorf("%s was opened", m.ID)
			must(t, token.Close())
		}
	}
}

// TestClusterIsFoundWithoutOneOfItsTokens: an HSM whose token is away is a member that cannot be reached, and the others serve.
func TestClusterIsFoundWithoutOneOfItsTokens(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := b.newCluster(cloudhsmapi.ClusterActive)
	lost, stays := b.active(at), b.active(at)
	b.lose(at, lost)
	cluster, err := b.Cluster(t.Context(), testAccount, testRegion, b.read(at).ID)
	must(t, err)
	opened := make(map[string]bool)
	for _, m := range cluster.Members {
		opened[m.ID] = canOpen(t, b, m)
	}
	if len(opened) != 2 || opened[lost] || !opened[stays] {
		t.Errorf("members that can be opened: %v", opened)
	}
}

func canOpen(t *testing.T, b *bench, m cloudhsm.Member) bool {
	t.Helper()
	token, err := b.Open(t.Context(), m, b.log)
	if err != nil {
		return false
	}
	must(t, token.Close())
	return true
}
