package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/polltest"
)

// process is a server in a process of its own.
type process struct {
	*awskms.Client
	*kastellantest.Process
}

// launch starts a server on a configuration file and waits until it answers.
func launch(t *testing.T, file string, env ...string) *process {
	t.Helper()
	p := kastellantest.Launch(t, file, env...)
	return &process{Process: p, Client: awskms.NewFromConfig(p.SDK())}
}

// estate is what outlives the processes.
type estate struct {
	file     string
	cluster  *kastellantest.Cluster
	proxy    *xkstest.Proxy
	hsm, xks string
	keys     []string // ARNs of keys whose making was acknowledged
	sealed   [][]byte // under all acknowledged keys
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{cluster: kastellantest.NewCluster(t, clusterID, 2), proxy: xkstest.New(t, xkstest.Options{})}
	host := kastellantest.Host(t, e.proxy)
	var members strings.Builder
	for _, m := range e.cluster.Members {
		fmt.Fprintf(&members, "        - {id: %s, availability-zone: %s, uri: %q, env: [%q]}\n", m.ID, m.AvailabilityZone, m.URI, m.Env[0])
	}
	e.file = kastellantest.ConfigurationFile(t, fmt.Sprintf(`hsm:
  clusters:
    - id: %s
      account: "%s"
      region: %s
      trust-anchor: %s
      members:
%sexternal-key-stores:
  request-timeout: %s
  hosts: [{name: %s, address: %q, ca: %s}]
audit: {file: audit.jsonl}
`, e.cluster.ID, kastellantest.Account, kastellantest.Region, e.cluster.TrustAnchor, members.String(), kastellantest.RequestTimeout, host.Name, host.Address, host.CA))
	return e
}

// cycle takes both stores through all they can do, as far as the process lives.
func (e *estate) cycle(p *process, n int) error {
	for _, id := range []string{e.hsm, e.xks} {
		if _, err := p.ConnectCustomKeyStore(context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
			return err
		}
		if err := p.await(id, types.ConnectionStateTypeConnected); err != nil {
			return err
		}
	}
	e.proxy.AddKey(fmt.Sprint("key-", n))
	for _, in := range []*awskms.CreateKeyInput{
		{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &e.hsm},
		{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &e.xks, XksKeyId: aws.String(fmt.Sprint("key-", n))},
	} {
		key, err := p.createKey(in)
		if err != nil {
			return err
		}
		e.keys = append(e.keys, *key.KeyMetadata.Arn)
		out, err := p.Encrypt(context(), &awskms.EncryptInput{KeyId: key.KeyMetadata.Arn, Plaintext: []byte("kept")})
		if err != nil {
			return err
		}
		e.sealed = append(e.sealed, out.CiphertextBlob)
	}
	for _, id := range []string{e.hsm, e.xks} {
		if _, err := p.DisconnectCustomKeyStore(context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
			return err
		}
		if err := p.await(id, types.ConnectionStateTypeDisconnected); err != nil {
			return err
		}
	}
	return nil
}

// createKey makes a key, as soon as two HSMs are in service.
func (p *process) createKey(in *awskms.CreateKeyInput) (*awskms.CreateKeyOutput, error) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		key, err := p.CreateKey(context(), in)
		var few *types.CloudHsmClusterInvalidConfigurationException
		if !errors.As(err, &few) || time.Now().After(deadline) {
			return key, err
		}
	}
}

func (p *process) state(id string) (types.ConnectionStateType, error) {
	out, err := p.DescribeCustomKeyStores(context(), &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &id})
	if err != nil {
		return "", err
	}
	return out.CustomKeyStores[0].ConnectionState, nil
}

func (p *process) await(id string, want types.ConnectionStateType) error {
	for {
		state, err := p.state(id)
		if err != nil || state == want {
			return err
		}
		if state == types.ConnectionStateTypeFailed {
			return fmt.Errorf("%s is FAILED", id)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settle brings both stores to CONNECTED and back, whatever a dead process
// left, and checks that nothing is lost.
func (e *estate) settle(t *testing.T, p *process, point string) {
	t.Helper()
	for _, id := range []string{e.hsm, e.xks} {
		polltest.Until(t, "an end of CONNECTING and DISCONNECTING after a death at "+point, func() bool {
			state, err := p.state(id)
			if err != nil {
				t.Fatal(err)
			}
			if state == types.ConnectionStateTypeFailed {
				t.Fatalf("%s is FAILED after a death at %s", id, point)
			}
			return state == types.ConnectionStateTypeConnected || state == types.ConnectionStateTypeDisconnected
		})
		if _, err := p.ConnectCustomKeyStore(context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
			t.Fatal(err)
		}
		if err := p.await(id, types.ConnectionStateTypeConnected); err != nil {
			t.Fatalf("after a death at %s: %v", point, err)
		}
	}
	for _, sealed := range e.sealed {
		polltest.Until(t, "a decryption after a death at "+point, func() bool {
			out, err := p.Decrypt(context(), &awskms.DecryptInput{CiphertextBlob: sealed})
			return err == nil && string(out.Plaintext) == "kept"
		})
	}
	for _, arn := range e.keys {
		if _, err := p.DescribeKey(context(), &awskms.DescribeKeyInput{KeyId: &arn}); err != nil {
			t.Errorf("an acknowledged key is lost after a death at %s: %v", point, err)
		}
	}
	for _, id := range []string{e.hsm, e.xks} {
		if _, err := p.DisconnectCustomKeyStore(context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
			t.Fatal(err)
		}
		if err := p.await(id, types.ConnectionStateTypeDisconnected); err != nil {
			t.Fatal(err)
		}
	}
}

// create makes both key stores.
func (e *estate) create(t *testing.T, p *process) {
	t.Helper()
	for in, id := range map[*awskms.CreateCustomKeyStoreInput]*string{
		e.cluster.CreateInput("hsm"): &e.hsm, kastellantest.ProxyInput(e.proxy, "xks"): &e.xks,
	} {
		out, err := p.CreateCustomKeyStore(context(), in)
		if err != nil {
			t.Fatal(err)
		}
		*id = *out.CustomKeyStoreId
	}
}

// killedAt runs the n-th cycle up to a fault point, kills the server there,
// and checks what its successor makes of it. It is false when the cycle does not pass the point.
func (e *estate) killedAt(t *testing.T, point string, n int) bool {
	t.Helper()
	p := launch(t, e.file, kastellantest.DieAt(point))
	if e.hsm == "" {
		e.create(t, p)
	}
	err := e.cycle(p, n)
	if err == nil {
		p.Stop()
		return false
	}
	if !p.Killed() {
		t.Fatalf("the server did not die at %s but said %v", point, err)
	}
	p = launch(t, e.file)
	e.settle(t, p, point)
	p.Stop()
	return true
}

// TestKill9AtEveryStep kills the server at every fault point that a first cycle
// passes, one after the other, on the same data and the same HSMs; at those that
// only a first cycle passes, on data of their own.
func TestKill9AtEveryStep(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	points := filepath.Join(t.TempDir(), "points")
	p := launch(t, e.file, kastellantest.LogPoints(points))
	e.create(t, p)
	if err := e.cycle(p, 0); err != nil {
		t.Fatal(err)
	}
	p.Stop()
	for i, point := range readPoints(t, points) {
		if e.killedAt(t, point, i+1) {
			continue
		}
		if strings.Contains(point, e.proxy.Address) {
			t.Errorf("the server lived through %s", point)
		} else if !newEstate(t).killedAt(t, point, 0) {
			t.Errorf("the server lived through %s, even the first time", point)
		}
	}
}

// readPoints gives the distinct fault points of a cycle, and makes sure that
// those are among them that must be.
func readPoints(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, point := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if !slices.Contains(points, point) {
			points = append(points, point)
		}
	}
	for _, must := range []string{
		"connect: begun", "connect: log in", "password: prepared", "connect: change password", "password: committed", "connect: connected",
		"create key: announced", "create key: material made", "create key: stored", "disconnect: begun", "disconnect: closed",
	} {
		if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, must) }) {
			t.Errorf("no fault point begins with %q: %q", must, points)
		}
	}
	t.Logf("%d fault points: %q", len(points), points)
	return points
}
