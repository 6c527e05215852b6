package clusters_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

// mortal is an estate on a server that is a process of its own and gets killed. Several do something with it at a time, each with
// what is its own.
type mortal struct {
	*estate
	file   string // the server's configuration
	tokens string // directory in which all tokens are
	server *kastellantest.Process

	connected bool  // was acknowledged, and nothing else asked for since
	somebody  *bool // whether that user is there, as acknowledged; nil while nobody knows
}

// newMortal has pools in two zones.
func newMortal(t *testing.T) *mortal {
	t.Helper()
	pkcs11test.Require(t)
	dir := t.TempDir()
	text := fmt.Sprintf("audit: {file: audit.jsonl}\nhsm:\n  backup-interval: 2s\n  vault: {softhsm2: {module: %s, directory: %s/vault}}\n", pkcs11test.Module, dir)
	subnets, pools := "  subnets:\n", "  pools:\n"
	for i, letter := range []string{"a", "b"} {
		subnets += fmt.Sprintf("    - {id: %s, vpc: vpc-22222222, availability-zone: %s, cidr: 10.0.%d.0/24}\n", kastellantest.Subnet(letter), kastellantest.Region+letter, i)
		pools += fmt.Sprintf("    - {name: pool-%s, availability-zone: %s, softhsm2: {module: %s, directory: %s/%[1]s}}\n",
			letter, kastellantest.Region+letter, pkcs11test.Module, dir)
	}
	m := &mortal{estate: newEstate(t), tokens: dir, somebody: new(bool)}
	m.file = kastellantest.ConfigurationFile(t, text+subnets+pools)
	t.Cleanup(func() {
		if m.server != nil {
			_ = m.server.Kill()
		}
	})
	return m
}

// live launches the server.
func (m *mortal) live() {
	m.server = kastellantest.Launch(m.t, m.file)
	m.client, m.dead = clientsOf(m.server.SDK()), m.server.Dead()
}

// die kills the server. The processes that have its tokens open end too.
func (m *mortal) die() {
	m.t.Helper()
	if err := m.server.Kill(); err != nil || !m.server.Killed() {
		m.t.Fatalf("the server did not die: %v", err)
	}
	polltest.Until(m.t, "the modules' processes to end", func() bool { return m.workers() == 0 })
}

// workers counts the processes that have tokens of this server.
func (m *mortal) workers() (n int) {
	m.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range all {
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte("SOFTHSM2_CONF="+m.tokens+"/")) {
			n++
		}
	}
	return n
}

// until does the lives again and again, all at once, until the server is dead. What fails before that is an error of the test.
func (m *mortal) until(kill time.Duration, lives ...func() error) {
	m.t.Helper()
	var living sync.WaitGroup
	var mu sync.Mutex
	dying := false
	for i, life := range lives {
		living.Go(func() {
			for {
				err := life()
				mu.Lock()
				over := dying
				mu.Unlock()
				if over {
					return
				}
				if err != nil {
					m.t.Errorf("life %d, before the server is killed: %v", i, err)
					return
				}
			}
		})
	}
	<-time.After(kill) // the moment is what is random
	mu.Lock()
	dying = true
	mu.Unlock()
	m.die()
	living.Wait()
}

// replaced makes and deletes HSMs.
func (m *mortal) replaced() error { return steps(m.noHSM("a"), m.hsm("a")) }

// peopled changes users and passwords.
func (m *mortal) peopled() error {
	for _, there := range []bool{true, false} {
		if err := m.newPassword(); err != nil {
			return err
		}
		err := m.asAdmin(func(session string) error {
			m.somebody = nil
			err := m.user(session, "somebody", there)
			if err == nil {
				m.somebody = &there
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// used makes and uses keys, on a key store that is connected and disconnected.
func (m *mortal) used() error {
	if err := steps(m.key, m.key, m.key); err != nil {
		return err
	}
	m.connected = false
	if err := steps(m.disconnect, m.connect); err != nil {
		return err
	}
	m.connected = true
	return nil
}

// newest gives the latest complete backup of the cluster.
func (m *mortal) newest() (id string, err error) {
	in := &cloudhsmv2.DescribeBackupsInput{Filters: map[string][]string{"clusterIds": {m.cluster}, "states": {"READY"}}}
	err = m.await("a backup", func() (bool, error) {
		out, err := m.client.hsm.DescribeBackups(m.t.Context(), in)
		if err == nil && len(out.Backups) > 0 {
			id = *out.Backups[0].BackupId
		}
		return id != "", err
	})
	return id, err
}

// others are the clusters that were made of backups.
func (m *mortal) others() (others []hsmtypes.Cluster, err error) {
	out, err := m.client.hsm.DescribeClusters(m.t.Context(), &cloudhsmv2.DescribeClustersInput{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out.Clusters, func(c hsmtypes.Cluster) bool {
		return *c.ClusterId == m.cluster || c.State == hsmtypes.ClusterStateDeleted
	}), nil
}

// of is the estate of another cluster.
func (m *mortal) of(cluster string) *estate {
	return &estate{t: m.t, client: m.client, dead: m.dead, cluster: cluster}
}

// restored makes a cluster of the latest backup, with an HSM, and deletes it.
func (m *mortal) restored() error {
	others, err := m.others()
	if err != nil {
		return err
	}
	if len(others) == 0 {
		id, err := m.restore()
		if err != nil {
			return err
		}
		return steps(m.of(id).hsm("b"), m.of(id).deleted)
	}
	return m.of(*others[0].ClusterId).deleted()
}

// restore has a cluster made of the latest backup.
func (m *mortal) restore() (id string, err error) {
	backup, err := m.newest()
	if err != nil {
		return "", err
	}
	out, err := m.client.hsm.CreateCluster(m.t.Context(), &cloudhsmv2.CreateClusterInput{
		HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("a"), kastellantest.Subnet("b")}, SourceBackupId: &backup,
	})
	if err != nil {
		return "", err
	}
	id = *out.Cluster.ClusterId
	return id, m.of(id).make()
}

// deleted has the cluster deleted, and its HSMs.
func (e *estate) deleted() error {
	if err := steps(e.make, e.noHSM("b")); err != nil {
		return err
	}
	c, err := e.describe()
	if err != nil {
		return err
	}
	if c.ClusterId != nil && c.State != hsmtypes.ClusterStateDeleteInProgress {
		if _, err := e.client.hsm.DeleteCluster(e.t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &e.cluster}); err != nil {
			return err
		}
	}
	return e.await("the cluster to be deleted", func() (bool, error) {
		c, err := e.describe()
		return c.ClusterId == nil, err
	})
}

// whole sees that everything acknowledged is there, and nothing is stuck.
func (m *mortal) whole() error {
	if err := m.atRest(); err != nil {
		return err
	}
	if err := steps(m.hsm("a"), m.hsm("b")); err != nil {
		return err
	}
	if m.connected {
		err := m.await("the key store to be CONNECTED by itself", func() (bool, error) {
			state, err := m.state()
			return state == types.ConnectionStateTypeConnected, err
		})
		if err != nil {
			return err
		}
	}
	if err := steps(m.connect, m.kept, m.key); err != nil {
		return err
	}
	m.connected = true
	return m.asAdmin(func(session string) error {
		names, err := m.users(session)
		if err != nil || m.somebody == nil {
			return err
		}
		if slices.Contains(names, "somebody") != *m.somebody {
			return fmt.Errorf("the users are %q, and somebody being there was acknowledged as %t", names, *m.somebody)
		}
		return nil
	})
}

// atRest waits until no HSM is in a state on the way to another one, and there are as many tokens as HSMs.
func (m *mortal) atRest() error {
	last := ""
	err := m.await("as many tokens as HSMs, all at rest", func() (bool, error) {
		out, err := m.client.hsm.DescribeClusters(m.t.Context(), &cloudhsmv2.DescribeClustersInput{})
		if err != nil { // the client may close a connection under a long answer that comes before it is done with asking
			last = err.Error()
			return false, nil
		}
		hsms, busy := 0, 0
		last = ""
		for _, c := range out.Clusters {
			for _, h := range c.Hsms {
				hsms++
				last += fmt.Sprintf("%s %s %s %s; ", *c.ClusterId, *h.HsmId, h.State, aws.ToString(h.StateMessage))
				if strings.HasSuffix(string(h.State), "_IN_PROGRESS") {
					busy++
				}
			}
		}
		tokens, err := filepath.Glob(m.tokens + "/[ab]/*")
		last += fmt.Sprint(len(tokens), " tokens")
		return busy == 0 && len(tokens) == hsms, err
	})
	if err != nil {
		return errors.Join(err, errors.New(last))
	}
	if vault, err := filepath.Glob(m.tokens + "/vault/*"); err != nil || len(vault) != 1 {
		return fmt.Errorf("%d tokens are backup HSMs: %w", len(vault), err)
	}
	return nil
}

// TestKill9AtRandomMomentsLosesNothing kills the server's process while everything happens at once, and while it comes back.
func TestKill9AtRandomMomentsLosesNothing(t *testing.T) {
	t.Parallel()
	seed, rounds := rand.Uint64(), 3
	if testing.Short() {
		rounds = 1
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	m := newMortal(t)
	m.live()
	if err := m.ready(); err != nil {
		t.Fatal(err)
	}
	m.connected = true
	if m.workers() == 0 {
		t.Fatal("no process has a token")
	}
	for round := range rounds {
		kill := time.Duration(random.Int64N(int64(1500 * time.Millisecond)))
		if round%3 == 2 {
			m.until(kill, m.drain)
		} else {
			m.until(kill, m.replaced, m.peopled, m.used, m.restored)
		}
		m.live()
		if random.IntN(2) == 0 {
			m.until(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
			m.live()
		}
		if err := m.whole(); err != nil {
			t.Fatalf("after being killed for the %d. time: %v", round+1, err)
		}
		if t.Failed() {
			return
		}
	}
	if err := m.moved(); err != nil {
		t.Fatalf("restoring everything: %v", err)
	}
	m.server.Stop()
	polltest.Until(t, "the modules' processes to end", func() bool { return m.workers() == 0 })
}

// moved leaves the cluster for one that is made of its last backup.
func (m *mortal) moved() error {
	if err := steps(m.disconnect, m.noHSM("a"), m.noHSM("b"), m.atRest); err != nil {
		return err
	}
	id, err := m.restore()
	if err != nil {
		return err
	}
	if err := steps(m.of(id).hsm("a"), m.of(id).hsm("b")); err != nil {
		return err
	}
	if _, err := m.client.kms.UpdateCustomKeyStore(m.t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &m.store, CloudHsmClusterId: &id}); err != nil {
		return err
	}
	return steps(m.connect, m.kept)
}
