package clusters_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

const day = 24 * time.Hour

// site is a server with pools, whose control plane has a clock that tests set forward.
type site struct {
	*kastellantest.Server
	t       *testing.T
	forward *atomic.Int64
	plane   *atomic.Pointer[control.Config] // as it was last started
}

// newSite starts a server with pools in the zones of Region, changed by options.
func newSite(t *testing.T, letters string, change ...func(*kastellantest.Options)) *site {
	t.Helper()
	s := &site{t: t, forward: new(atomic.Int64), plane: new(atomic.Pointer[control.Config])}
	o := kastellantest.WithPools(t, letters)
	tune := o.Control
	o.Control = func(cfg *control.Config) {
		tune(cfg)
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(s.forward.Load())) }
	}
	for _, fn := range change {
		fn(&o)
	}
	controlled(func(cfg *control.Config) { s.plane.Store(new(*cfg)) })(&o)
	s.Server = kastellantest.Start(t, o)
	return s
}

// configured changes the configuration that a site is started with.
func configured(fn func(*config.Config)) func(*kastellantest.Options) {
	return func(o *kastellantest.Options) {
		before := o.Config
		o.Config = func(cfg *config.Config) { before(cfg); fn(cfg) }
	}
}

// controlled changes what the control plane of a site is made of.
func controlled(fn func(*control.Config)) func(*kastellantest.Options) {
	return func(o *kastellantest.Options) {
		before := o.Control
		o.Control = func(cfg *control.Config) { before(cfg); fn(cfg) }
	}
}

// pass lets time pass for the control plane.
func (s *site) pass(d time.Duration) { s.forward.Add(int64(d)) }

// tokens are the directories of the tokens of a pool of SoftHSM2.
func (s *site) tokens(letter string) []string {
	s.t.Helper()
	dir := s.Config.HSM.Vault.SoftHSM2.Directory
	for _, pool := range s.Config.HSM.Pools {
		if pool.Name == "pool-"+letter {
			dir = pool.SoftHSM2.Directory
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "token-*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

const vault = "vault"

// lose takes all tokens of a pool away, and gives what brings them back.
func (s *site) lose(letter string) (bring func()) {
	s.t.Helper()
	gone := s.tokens(letter)
	if len(gone) == 0 {
		s.t.Fatalf("there is no token in %s to lose", letter)
	}
	for _, dir := range gone {
		if err := os.Rename(dir, filepath.Join(filepath.Dir(dir), "lost-"+filepath.Base(dir))); err != nil {
			s.t.Fatal(err)
		}
	}
	return func() {
		s.t.Helper()
		for _, dir := range gone {
			if err := os.Rename(filepath.Join(filepath.Dir(dir), "lost-"+filepath.Base(dir)), dir); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// loseAll takes the HSMs of a cluster in the zones away, and waits until that is noticed.
func (s *site) loseAll(m *kastellantest.Managed, letters string) {
	s.t.Helper()
	for _, letter := range strings.Split(letters, "") {
		s.lose(letter)
	}
	for _, id := range m.HSMs {
		s.WaitHSM(m.ID, id, hsmtypes.HsmStateDegraded)
	}
}

// backups describes the backups of a cluster, the newest one first.
func (s *site) backups(cluster string, states ...string) []hsmtypes.Backup {
	s.t.Helper()
	filters := map[string][]string{"clusterIds": {cluster}}
	if len(states) > 0 {
		filters["states"] = states
	}
	out, err := s.CloudHSM(admin).DescribeBackups(s.t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: filters})
	if err != nil {
		s.t.Fatalf("describing backups: %v", err)
	}
	return out.Backups
}

// backup waits until the youngest complete backup of a cluster is another one than those that are known, and gives it.
func (s *site) backup(cluster string, known ...hsmtypes.Backup) (b hsmtypes.Backup) {
	s.t.Helper()
	polltest.Until(s.t, "a backup of "+cluster, func() bool {
		all := s.backups(cluster, "READY")
		if len(all) == 0 {
			return false
		}
		b = all[0]
		return !slices.ContainsFunc(known, func(k hsmtypes.Backup) bool { return *k.BackupId == *b.BackupId })
	})
	return b
}

// freshBackup takes a backup that has everything that there is now.
func (s *site) freshBackup(cluster string) hsmtypes.Backup {
	s.t.Helper()
	known := s.backup(cluster)
	s.pass(25 * time.Hour)
	return s.backup(cluster, known)
}

// restored makes a cluster from a backup in the zones, with an HSM in each of them.
func (s *site) restored(from string, letters string) (id string) {
	s.t.Helper()
	id = s.clusterFrom(from, letters)
	for _, letter := range strings.Split(letters, "") {
		s.HSM(id, letter)
	}
	return id
}

func (s *site) clusterFrom(backup string, letters string) (id string) {
	s.t.Helper()
	in := &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SourceBackupId: &backup}
	for _, letter := range strings.Split(letters, "") {
		in.SubnetIds = append(in.SubnetIds, kastellantest.Subnet(letter))
	}
	out, err := s.CloudHSM(admin).CreateCluster(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("creating a cluster from %s: %v", backup, err)
	}
	if out.Cluster.State != hsmtypes.ClusterStateCreateInProgress {
		s.t.Errorf("the new cluster is %s", out.Cluster.State)
	}
	s.WaitCluster(*out.Cluster.ClusterId, hsmtypes.ClusterStateUninitialized)
	return *out.Cluster.ClusterId
}

// hsmKey makes a key in a key store.
func (s *site) hsmKey(store string) (id string) {
	s.t.Helper()
	return *s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &store}).KeyId
}

func (s *site) encrypt(key, text string) []byte {
	s.t.Helper()
	out, err := s.Client(admin).Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte(text)})
	if err != nil {
		s.t.Fatalf("encrypting: %v", err)
	}
	return out.CiphertextBlob
}

func (s *site) opens(sealed []byte, text string) bool {
	out, err := s.Client(admin).Decrypt(s.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	return err == nil && string(out.Plaintext) == text
}

// failure connects a key store, which has to fail, and gives the code.
func (s *site) failure(store string) types.ConnectionErrorCodeType {
	s.t.Helper()
	if _, err := s.Client(admin).ConnectCustomKeyStore(s.t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &store}); err != nil {
		s.t.Fatal(err)
	}
	polltest.Until(s.t, "the connection to fail", func() bool { return s.Describe(store).ConnectionState == types.ConnectionStateTypeFailed })
	return s.Describe(store).ConnectionErrorCode
}

// move has a key store use another cluster.
func (s *site) move(store, cluster string) error {
	_, err := s.Client(admin).UpdateCustomKeyStore(s.t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &store, CloudHsmClusterId: &cluster})
	return err
}

// clusterKeys are the ids of the clusters whose cluster keys the backup HSM has.
func (s *site) clusterKeys() (ids []string) {
	s.t.Helper()
	for _, label := range s.labels(vault) {
		if id, ok := strings.CutPrefix(label, "kastellan cluster key "); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func isInvalid(err error) bool {
	var of *hsmtypes.CloudHsmInvalidRequestException
	return errors.As(err, &of)
}

func isNotFound(err error) bool {
	var of *hsmtypes.CloudHsmResourceNotFoundException
	return errors.As(err, &of)
}

// auditLog keeps what is recorded.
type auditLog struct {
	mu      sync.Mutex
	records []*audit.Record
}

// Write implements audit.Writer.
func (l *auditLog) Write(_ context.Context, r *audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// count counts the events of a cluster that failed, or did not.
func (l *auditLog) count(event, cluster string, failed bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.EventName == event && (r.ErrorCode != "") == failed && r.ServiceEventDetails["clusterId"] == cluster {
			n++
		}
	}
	return n
}

// open opens the token of the first HSM in a pool, as the server itself has it open.
func (s *site) open(pool string) *rack.Shared {
	s.t.Helper()
	plane := s.plane.Load()
	var at string
	var record struct {
		Placement rack.Placement
		HSM       string
		PINs      []byte
	}
	err := plane.Store.View(s.t.Context(), func(r store.Reader) error {
		for entry, err := range r.Scan("cloudhsm-token/" + pool + "/") {
			if err != nil {
				return err
			}
			at = entry.Key
			return json.Unmarshal(entry.Value, &record)
		}
		return errors.New("there is none")
	})
	if err != nil {
		s.t.Fatalf("finding a token of %s: %v", pool, err)
	}
	text, err := plane.Sealer.Open("cloudhsm token pins", at, record.PINs)
	if err != nil {
		s.t.Fatal(err)
	}
	var pins struct{ SO, User string }
	if err := json.Unmarshal(text, &pins); err != nil {
		s.t.Fatal(err)
	}
	found, err := plane.Pools.Reach(record.Placement, rack.PINs{User: secret.NewText(pins.User)})
	if err != nil {
		s.t.Fatal(err)
	}
	shared, err := plane.Rack.Open(s.t.Context(), rack.HSM{ID: record.HSM, Config: found.Config, PIN: found.PIN}, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return shared
}

// labels are those of the keys on the first token of a pool.
func (s *site) labels(pool string) (labels []string) {
	s.t.Helper()
	token := s.open(pool)
	defer token.Close()
	keys, err := token.ListKeys(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range keys {
		labels = append(labels, k.Label)
	}
	return labels
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
