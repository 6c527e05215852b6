package hsm_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// changingRig is a rig of three tokens, of which the cluster has the first n.
func changingRig(t testing.TB, n int, change ...func(*rig)) *rig {
	t.Helper()
	return newRig(t, 3, append(change, func(r *rig) { r.cluster().Members = r.cluster().Members[:n:n] })...)
}

// member is the HSM of a token, as it is declared.
func (r *rig) member(i int) cloudhsm.Member {
	return cloudhsm.Member{ID: hsmID(i), AvailabilityZone: zoneOf(i), Token: r.tokens[i].Config()}
}

// declare changes which HSMs the cluster has, as a reload of the configuration does.
func (r *rig) declare(t testing.TB, members ...cloudhsm.Member) {
	t.Helper()
	next := r.decl
	next.Clusters = slices.Clone(r.decl.Clusters)
	next.Clusters[0].Members = members
	if err := r.declared.Replace(next); err != nil {
		t.Fatalf("Replace: %v", err)
	}
}

// admit gives a token that was not connected yet the store's password.
func (r *rig) admit(t testing.TB, i int) {
	t.Helper()
	site := openSite(t, hsmID(i), r.tokens[i])
	if err := site.Token.SetPIN(t.Context(), secret.NewText("1234"), r.pw.Candidates()[0]); err != nil {
		t.Fatalf("SetPIN: %v", err)
	}
	site.Token.Close()
}

// serving waits until just these HSMs are members, and serve.
func serving(t testing.TB, c *hsm.Connection, want ...int) {
	t.Helper()
	var ids []string
	for _, i := range want {
		ids = append(ids, hsmID(i))
	}
	polltest.Until(t, fmt.Sprintf("%v to serve", ids), func() bool {
		var got []string
		for _, m := range c.Status().Members {
			if m.State != hsm.Healthy {
				return false
			}
			got = append(got, m.ID)
		}
		return slices.Equal(got, ids)
	})
}

func TestConnectionFollowsTheClustersMembership(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	r.admit(t, 2)
	count, stop := load(t, c, key, 20*time.Second)
	polltest.Until(t, "the load runs", func() bool { return count() > 20 })

	r.declare(t, r.member(0), r.member(1), r.member(2))
	serving(t, c, 0, 1, 2)
	second := createKey(t, c)
	r.declare(t, r.member(2), r.member(1))
	serving(t, c, 2, 1)
	polltest.Until(t, "the token of the HSM that left is closed", func() bool { return r.opened(hsmID(0), 0) == 0 })
	r.declare(t, r.member(2))
	serving(t, c, 2)
	seen := count()
	polltest.Until(t, "the load runs on", func() bool { return count() > seen+20 })
	stop()
	mustDecrypt(t, c, second, mustEncrypt(t, c, second))
	r.declare(t, r.member(0), r.member(1), r.member(2))
	serving(t, c, 0, 1, 2)
	mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	closeConnection(c)
	for i := range r.tokens {
		if n := r.opened(hsmID(i), 0); n != 0 {
			t.Errorf("%d tokens of %s are open after all", n, hsmID(i))
		}
	}
}

func TestRefreshAsksTheDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2, func(r *rig) { r.kindOpts.Poll = time.Hour })
	c := r.connect(t)
	key := createKey(t, c)
	r.admit(t, 2)
	r.declare(t, r.member(0), r.member(1), r.member(2))
	r.kind.Refresh("cluster-stranger222")
	r.kind.Refresh(clusterID)
	serving(t, c, 0, 1, 2)
	r.fail(0, always(pkcs11.ErrLost))
	r.fail(1, always(pkcs11.ErrLost))
	mustDecrypt(t, c, key, mustEncrypt(t, c, key))
}

func TestMemberWithAnotherTokenIsReplaced(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	r.admit(t, 2)
	replaced := r.member(1)
	replaced.Token = r.tokens[2].Config()
	r.declare(t, r.member(0), replaced)
	polltest.Until(t, "the other token to serve", func() bool {
		got := c.Status().Members[1]
		return got.State == hsm.Healthy && got.Token == replaced.Token.URI.String()
	})
	r.fail(0, always(pkcs11.ErrLost))
	mustDecrypt(t, c, key, sealed)
	polltest.Until(t, "the old token is closed", func() bool { return r.opened(hsmID(1), 0) == 1 })
}

// What only a leaving HSM has goes to the others before it leaves.
func TestLeavingMemberTakesNoKeyWithIt(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2, func(r *rig) { r.kindOpts.Poll = time.Hour })
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	r.destroy(t, 0, key.ARN)
	r.declare(t, r.member(0))
	r.kind.Refresh(clusterID)
	polltest.Until(t, "the token of the HSM that left is closed", func() bool { return r.opened(hsmID(1), 0) == 0 })
	if !r.has(t, 0, key.ARN) {
		t.Error("the key has left with the HSM")
	}
	mustDecrypt(t, c, key, sealed)
}

func TestMemberThatIsAwayHindersDeletionUntilItIsTakenOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	c := r.connect(t)
	key := createKey(t, c)
	r.fail(2, always(pkcs11.ErrLost))
	polltest.Until(t, "the member is away", func() bool { return states(c)[2] != hsm.Healthy })
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err == nil {
		t.Fatal("DeleteKey succeeded although a member that has the key is away")
	}
	r.declare(t, r.member(0), r.member(1))
	serving(t, c, 0, 1)
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err != nil {
		t.Fatalf("DeleteKey: %v", err)
	}
	r.fail(2, nil)
	r.declare(t, r.member(0), r.member(1), r.member(2))
	serving(t, c, 0, 1, 2)
	for i := range r.tokens {
		if r.has(t, i, key.ARN) {
			t.Errorf("the deleted key is on member %d", i)
		}
	}
}

// An HSM that was filled before it joined may bring along what was deleted meanwhile.
func TestKeyThatWasDeletedWhileAnHSMWasFilledStaysDeleted(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2)
	c := r.connect(t)
	key, kept := createKey(t, c), createKey(t, c)
	source, target := hsm.Site{ID: hsmID(0), Token: r.behind(t, 0)}, openSite(t, hsmID(2), r.tokens[2])
	if n, err := hsm.Fill(t.Context(), clusterID, []hsm.Site{source}, target, nil); err != nil || n != 2 {
		t.Fatalf("Fill copied %d keys, %v", n, err)
	}
	source.Token.Close()
	target.Token.Close()
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err != nil {
		t.Fatalf("DeleteKey: %v", err)
	}
	r.admit(t, 2)
	r.declare(t, r.member(0), r.member(1), r.member(2))
	serving(t, c, 0, 1, 2)
	for i := range r.tokens {
		if r.has(t, i, key.ARN) || !r.has(t, i, kept.ARN) {
			t.Errorf("member %d has the deleted key, or lacks the other one", i)
		}
	}
}

// forgetful is a directory that can be told to know nothing.
type forgetful struct {
	cloudhsm.Directory
	err   atomic.Pointer[error]
	asked atomic.Int64 // since it knows nothing
}

func (f *forgetful) Cluster(ctx context.Context, account, region, id string) (cloudhsm.Cluster, error) {
	if err := f.err.Load(); err != nil {
		f.asked.Add(1)
		return cloudhsm.Cluster{}, *err
	}
	return f.Directory.Cluster(ctx, account, region, id)
}

func TestClusterThatCannotBeLookedUpKeepsItsMembers(t *testing.T) {
	t.Parallel()
	r := changingRig(t, 2)
	directory := &forgetful{Directory: r.declared}
	r.kindOpts.Clusters = directory
	var err error
	if r.kind, err = hsm.New(r.kindOpts); err != nil {
		t.Fatal(err)
	}
	c := r.connect(t)
	key := createKey(t, c)
	directory.err.Store(&cloudhsm.ErrNotFound)
	polltest.Until(t, "the directory was asked often", func() bool { return directory.asked.Load() > 3 })
	mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	serving(t, c, 0, 1)
	r.admit(t, 2)
	r.declare(t, r.member(0), r.member(1), r.member(2))
	directory.err.Store(nil)
	serving(t, c, 0, 1, 2)
}

// Whatever the membership does, no key that was acknowledged is lost, and every one can be deleted.
func TestKeysAreMadeAndDeletedWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, func(r *rig) { r.kindOpts.CompareEvery = 20 * time.Millisecond })
	c := r.connect(t)
	polltest.Until(t, "all serve", allHealthy(c))
	var kept, removed []keystore.Key
	made := make(chan struct{})
	go func() {
		defer close(made)
		for i := range 24 {
			nk := keystoretest.RandomKey()
			m, err := c.CreateKey(context.Background(), call("CreateKey"), nk)
			key := keystore.Key{ID: nk.ID, ARN: nk.ARN, Data: m.Data}
			if err == nil && i%2 == 0 {
				kept = append(kept, key)
			} else {
				removed = append(removed, key)
				_ = c.DeleteKey(context.Background(), call("DeleteKey"), key) // it is repeated below
			}
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-made:
		default:
			r.declare(t, r.member(i%3), r.member((i+1)%3))
			r.kind.Refresh(clusterID)
			serving(t, c, i%3, (i+1)%3)
			r.declare(t, r.member(i%3), r.member((i+1)%3), r.member((i+2)%3))
			r.kind.Refresh(clusterID)
			serving(t, c, i%3, (i+1)%3, (i+2)%3)
			continue
		}
		break
	}
	if len(kept) == 0 {
		t.Fatal("no key could be made")
	}
	for _, key := range removed {
		polltest.Until(t, "the key is deleted", func() bool { return c.DeleteKey(t.Context(), call("DeleteKey"), key) == nil })
	}
	r.declare(t, r.member(0), r.member(1), r.member(2))
	serving(t, c, 0, 1, 2)
	polltest.Until(t, "the members have the same keys", func() bool {
		for _, m := range c.Status().Members {
			if m.Behind || m.Keys != len(kept) {
				return false
			}
		}
		return true
	})
	closeConnection(c)
	for i := range r.tokens {
		site := hsm.Site{ID: hsmID(i), Token: r.behind(t, i)}
		var want []string
		for _, key := range kept {
			want = append(want, key.ARN)
		}
		wantLabels(t, site, append(want, "kastellan cluster key "+clusterID)...)
		if err := site.Token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range r.tokens {
		for j := range r.tokens {
			r.fail(j, nil)
			if j != i {
				r.fail(j, always(pkcs11.ErrLost))
			}
		}
		alone := r.resume(t)
		for _, key := range kept {
			mustDecrypt(t, alone, key, mustEncrypt(t, alone, key))
		}
		closeConnection(alone)
	}
}

func TestComparisonFindsWhatNobodyMissed(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRig(t, 2, func(r *rig) {
		r.kindOpts.Poll, r.kindOpts.CompareEvery, r.kindOpts.Metrics = time.Hour, 20*time.Millisecond, registry
	})
	c := r.connect(t)
	key := createKey(t, c)
	polltest.Until(t, "the members were found equal", func() bool { return counted(t, registry, "kastellan_hsm_comparisons_total", "equal") > 0 })
	if n := counted(t, registry, "kastellan_hsm_copied_keys_total", "ok"); n != 0 {
		t.Errorf("%v keys were copied while the members had the same", n)
	}
	r.destroy(t, 0, key.ARN)
	polltest.Until(t, "the key is back", func() bool { return r.has(t, 0, key.ARN) })
	polltest.Until(t, "the repair is counted", func() bool { return counted(t, registry, "kastellan_hsm_comparisons_total", "repaired") == 1 })
	if n := counted(t, registry, "kastellan_hsm_copied_keys_total", "ok"); n != 1 {
		t.Errorf("%v keys were copied, want one", n)
	}
	r.fail(0, on(rv("C_UnwrapKey", pkcs11.CKR_DEVICE_MEMORY), "UnwrapKey"))
	r.destroy(t, 0, key.ARN)
	polltest.Until(t, "the failure is counted", func() bool { return counted(t, registry, "kastellan_hsm_comparisons_total", "failed") > 0 })
	r.fail(0, nil)
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err != nil {
		t.Errorf("DeleteKey: %v", err)
	}
}

// counted sums a counter over what has the result.
func counted(t testing.TB, registry *prometheus.Registry, name, result string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == name && l.GetName() == "result" && l.GetValue() == result {
					sum += m.Counter.GetValue()
				}
			}
		}
	}
	return sum
}
