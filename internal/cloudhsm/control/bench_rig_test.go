package control

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	os.Exit(m.Run())
}

const (
	testAccount = "111122223333"
	testRegion  = "eu-central-1"
	testZone    = testRegion + "a"
	testSubnet  = "subnet-22222222"
)

// bench is a control plane on real tokens whose reconciler does not run: tests take its steps in the order
// that they are about.
type bench struct {
	*Service
	t   *testing.T
	dir string // of the pool's tokens
}

// newBench has tokens of SoftHSM2 in one zone, and a backup HSM. now may be nil.
func newBench(t *testing.T, now func() time.Time) *bench {
	t.Helper()
	pkcs11test.Require(t)
	db, err := bolt.Create(filepath.Join(t.TempDir(), "metadata.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	sealer, err := rootkey.OpenKeyring(t.Context(), rootkey.Random(), db)
	must(t, err)
	declared, err := cloudhsm.Declare(cloudhsm.Declaration{Subnets: []cloudhsm.Subnet{{
		ID: testSubnet, VPC: "vpc-22222222", AvailabilityZone: testZone, CIDR: netip.MustParsePrefix("10.0.0.0/24"),
	}}})
	must(t, err)
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "pool")}
	pools, err := rack.NewPools([]rack.Pool{
		{Name: "pool", AvailabilityZone: testZone, SoftHSM2: &rack.SoftHSM2{Module: pkcs11test.Module, Directory: b.dir, Tokens: 8}},
		{Name: "vault", AvailabilityZone: "(none)", SoftHSM2: &rack.SoftHSM2{Module: pkcs11test.Module, Directory: filepath.Join(t.TempDir(), "vault"), Tokens: 1}},
	})
	must(t, err)
	b.Service, err = newService(Config{
		Store: db, Sealer: sealer, Audit: audit.NewFile(io.Discard), Declared: declared, Rack: rack.New(rack.Config{}), Pools: pools, Vault: "vault",
		Logger: slog.New(slog.DiscardHandler), Now: now, PasswordRounds: fewRounds,
	})
	must(t, err)
	t.Cleanup(b.Close)
	return b
}

// put writes a record as it is.
func (b *bench) put(at string, rec any) {
	b.t.Helper()
	_, err := b.db.Update(b.t.Context(), func(tx store.Tx) error { return save(tx, at, rec) })
	must(b.t, err)
}

// newCluster puts a cluster on record, in a state.
func (b *bench) newCluster(state cloudhsmapi.ClusterState) (at string) {
	rec := &clusterRecord{
		ID: newID(cloudhsmapi.ResourceCluster), Account: testAccount, Region: testRegion, Created: b.now().UTC(), State: state,
		HsmType: typeHSM2, Mode: cloudhsmapi.FIPS, Subnets: map[string]string{testZone: testSubnet}, RetentionDays: standardRetention,
	}
	b.put(rec.path(), rec)
	return rec.path()
}

// ask takes a token for one more HSM, as CreateHsm does.
func (b *bench) ask(at string) (id string) {
	b.t.Helper()
	must(b.t, b.update(at, func(tx store.Tx, rec *clusterRecord) (err error) {
		h := hsmRecord{ID: newID(cloudhsmapi.ResourceHSM), Zone: testZone, Subnet: testSubnet, Type: rec.HsmType, State: cloudhsmapi.HsmCreateInProgress}
		if h.Token, err = b.takeToken(tx, rec, &h); err != nil {
			return err
		}
		rec.HSMs, id = append(rec.HSMs, h), h.ID
		return nil
	}))
	return id
}

// leave asks for the deletion of an HSM, as DeleteHsm does.
func (b *bench) leave(at, id string) {
	b.t.Helper()
	must(b.t, b.update(at, func(_ store.Tx, rec *clusterRecord) error {
		rec.hsm(id).State = cloudhsmapi.HsmDeleteInProgress
		rec.wane()
		return nil
	}))
}

func (b *bench) read(at string) *clusterRecord {
	b.t.Helper()
	rec, err := b.cluster(at)
	must(b.t, err)
	return rec
}

// step has the reconciler tend the cluster as it is on record, which must succeed.
func (b *bench) step(at string) {
	b.t.Helper()
	must(b.t, b.tend(b.read(at)))
}

// active has an HSM made, and gives its id.
func (b *bench) active(at string) (id string) {
	b.t.Helper()
	id = b.ask(at)
	b.step(at)
	if h := b.read(at).hsm(id); h.State != cloudhsmapi.HsmActive {
		b.t.Fatalf("the HSM is %s: %s", h.State, h.Message)
	}
	return id
}

// tokens gives the records of tokens that wait to be wiped.
func (b *bench) wiping() (out []*tokenRecord) {
	b.t.Helper()
	must(b.t, b.db.View(b.t.Context(), func(r store.Reader) error {
		all, err := scan[tokenRecord](r, tokenPrefix)
		for _, token := range all {
			if token.Wiping {
				out = append(out, token)
			}
		}
		return err
	}))
	return out
}

// at does something with an HSM's token, as its owner.
func (b *bench) at(cluster, id string, do func(ctx context.Context, token pkcs11.Token)) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	one, err := b.openRecorded(ctx, b.read(cluster).hsm(id))
	must(b.t, err)
	defer one.shared.Close()
	do(ctx, one.Token)
}

// makeKey makes a key on an HSM as a key store does.
func (b *bench) makeKey(cluster, id, label string) {
	b.t.Helper()
	b.at(cluster, id, func(ctx context.Context, token pkcs11.Token) {
		_, err := token.GenerateKey(ctx, pkcs11.Template{Label: label, ID: []byte(label), Token: true, Encrypt: true, Extractable: true})
		must(b.t, err)
	})
}

// has tells whether an HSM has a key.
func (b *bench) has(cluster, id, label string) (has bool) {
	b.t.Helper()
	b.at(cluster, id, func(ctx context.Context, token pkcs11.Token) {
		found, err := token.FindKeys(ctx, label, nil)
		must(b.t, err)
		has = len(found) > 0
	})
	return has
}

// lose makes an HSM's token unreachable until back is called.
func (b *bench) lose(cluster, id string) (back func()) {
	b.t.Helper()
	dir := filepath.Join(b.dir, b.read(cluster).hsm(id).Token.Token)
	must(b.t, os.Rename(dir, dir+".away"))
	return func() { must(b.t, os.Rename(dir+".away", dir)) }
}

// alike fails unless all active HSMs of a cluster have the same cluster key, and the same keys.
func (b *bench) alike(at string) {
	b.t.Helper()
	rec := b.read(at)
	open, err := b.openActive(b.t.Context(), rec, "")
	defer open.close()
	must(b.t, err)
	missing, err := hsm.Compare(b.t.Context(), rec.ID, open.list())
	must(b.t, err)
	if len(missing) > 0 {
		b.t.Fatalf("HSMs lack keys: %v", missing)
	}
}
