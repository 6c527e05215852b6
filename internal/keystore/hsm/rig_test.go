package hsm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	code := m.Run()
	_ = os.RemoveAll(prepared.dir)
	os.Exit(code)
}

const (
	account   = "111122223333"
	region    = "eu-central-1"
	clusterID = "cluster-abcdefghijk"
	storeID   = "cks-1234567890abcdef0"
)

// rig is a cluster of real SoftHSM2 tokens with a key store on it.
type rig struct {
	tokens   []pkcs11test.TokenRef
	decl     cloudhsm.Declaration
	declared *cloudhsm.Declared
	cfg      keystore.Config
	pw       *ledger

	mu       sync.Mutex
	faults   map[string]func(call string) error // by HSM id
	modules  map[string][]int                   // process ids of modules, by HSM id
	trust    bool                               // pretend that cluster keys are marked trusted
	kindOpts hsm.Config
	kind     *hsm.Kind

	tokensOpen map[string]int // by HSM id
}

// newRig makes a cluster of n tokens, one to a zone, which have a cluster key
// already. change may edit the declaration and the options before they are used.
func newRig(t testing.TB, n int, change ...func(*rig)) *rig {
	t.Helper()
	return rigOn(t, preparedTokens(t)[:n], change...)
}

// freshRig makes a cluster of n tokens on which nothing is.
func freshRig(t testing.TB, n int) *rig {
	t.Helper()
	return rigOn(t, pkcs11test.NewTokens(t, n))
}

// prepared are three tokens with a cluster key, made once, because making one
// takes time.
var prepared struct {
	once   sync.Once
	dir    string
	tokens []pkcs11test.TokenRef
}

// preparedTokens gives copies of the prepared tokens.
func preparedTokens(t testing.TB) []pkcs11test.TokenRef {
	t.Helper()
	pkcs11test.Require(t)
	prepared.once.Do(func() {
		r := freshRig(t, 3)
		if err := r.kind.Provision(t.Context(), *r.cluster(), secret.NewText("1234"), secret.Text{}); err != nil {
			t.Errorf("Provision: %v", err)
			return
		}
		var err error
		if prepared.dir, err = os.MkdirTemp("", "hsm-test-"); err != nil {
			t.Error(err)
			return
		}
		for i, token := range r.tokens {
			prepared.tokens = append(prepared.tokens, copyToken(t, token, filepath.Join(prepared.dir, strconv.Itoa(i))))
		}
	})
	if len(prepared.tokens) != 3 {
		t.Fatal("the tokens could not be prepared")
	}
	var copies []pkcs11test.TokenRef
	for i, token := range prepared.tokens {
		copies = append(copies, copyToken(t, token, filepath.Join(t.TempDir(), strconv.Itoa(i))))
	}
	return copies
}

// copyToken copies a token's directory, with a configuration that points to the copy.
func copyToken(t testing.TB, token pkcs11test.TokenRef, to string) pkcs11test.TokenRef {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(token.Dir)); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(token.Env[0], "SOFTHSM2_CONF=")
	conf, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(to, filepath.Base(path))
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(conf), token.Dir, to)), 0o600); err != nil {
		t.Fatal(err)
	}
	token.Dir, token.Env = to, []string{"SOFTHSM2_CONF=" + path}
	return token
}

func rigOn(t testing.TB, tokens []pkcs11test.TokenRef, change ...func(*rig)) *rig {
	t.Helper()
	anchor := newAnchor(t)
	r := &rig{tokens: tokens, pw: newLedger("1234"), faults: make(map[string]func(string) error), modules: make(map[string][]int), tokensOpen: make(map[string]int)}
	c := cloudhsm.Cluster{ID: clusterID, Account: account, Region: region, TrustAnchor: anchor, SubnetMapping: make(map[string]string)}
	for i := range max(2, len(tokens)) {
		zone := zoneOf(i)
		c.SubnetMapping[zone] = fmt.Sprintf("subnet-%08x", i)
		r.decl.Subnets = append(r.decl.Subnets, cloudhsm.Subnet{
			ID: c.SubnetMapping[zone], AvailabilityZone: zone, CIDR: netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/28", i)),
		})
	}
	for i, token := range tokens {
		c.Members = append(c.Members, cloudhsm.Member{ID: hsmID(i), AvailabilityZone: zoneOf(i), Token: token.Config()})
	}
	r.decl.Clusters = []cloudhsm.Cluster{c}
	r.cfg = keystore.Config{
		ID: storeID, Account: account, Region: region, Name: "test",
		HSM: &keystore.HSMConfig{ClusterID: clusterID, TrustAnchor: anchor},
	}
	r.kindOpts = hsm.Config{Retry: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond, Poll: 50 * time.Millisecond, Step: 10 * time.Second, Open: r.open}
	if testing.Verbose() {
		r.kindOpts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, fn := range change {
		fn(r)
	}
	var err error
	if r.declared, err = cloudhsm.Declare(r.decl); err != nil {
		t.Fatalf("Declare: %v", err)
	}
	r.kindOpts.Clusters, r.kindOpts.Network = r.declared, r.declared
	if r.kind, err = hsm.New(r.kindOpts); err != nil {
		t.Fatalf("New: %v", err)
	}
	return r
}

func zoneOf(i int) string { return region + string(rune('a'+i)) }
func hsmID(i int) string  { return "hsm-aaaaaaaaaa" + string(rune('a'+i)) }

// cluster is the declared cluster; it is edited before the rig is used.
func (r *rig) cluster() *cloudhsm.Cluster { return &r.decl.Clusters[0] }

// connect connects and closes after the test.
func (r *rig) connect(t testing.TB) *hsm.Connection {
	t.Helper()
	conn, _, err := r.tryConnect(t)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	return conn
}

func (r *rig) tryConnect(t testing.TB) (*hsm.Connection, keystore.Evidence, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	trace := keystore.NewTrace("request", time.Now)
	conn, err := r.kind.Connect(ctx, keystore.Call{Operation: "ConnectCustomKeyStore"}, r.cfg, r.pw, trace)
	if err != nil {
		return nil, trace.End(err), err
	}
	t.Cleanup(func() { closeConnection(conn) })
	return conn.(*hsm.Connection), trace.End(nil), nil
}

func (r *rig) resume(t testing.TB) *hsm.Connection {
	t.Helper()
	conn, err := r.kind.Resume(r.cfg, r.pw)
	if err != nil {
		t.Fatalf("Resume: %v", err)
	}
	t.Cleanup(func() { closeConnection(conn) })
	return conn.(*hsm.Connection)
}

func closeConnection(conn keystore.Connection) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn.Close(ctx)
}

// fail makes every call on an HSM's token fail as fault says; nil ends that.
func (r *rig) fail(i int, fault func(call string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[hsmID(i)] = fault
}

func (r *rig) open(ctx context.Context, m cloudhsm.Member, log *slog.Logger) (pkcs11.Token, error) {
	id := m.ID
	f := &faultyToken{trust: r.trust, fault: func(call string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if fault := r.faults[id]; fault != nil {
			return fault(call)
		}
		return nil
	}}
	if err := f.fault("Open"); err != nil {
		return nil, err
	}
	var err error
	if f.Token, err = pkcs11.Open(ctx, m.Token, r.noting(id, log)); err == nil {
		r.opened(id, 1)
		f.closed = func() { r.opened(id, -1) }
	}
	return f, err
}

// opened counts the tokens of an HSM that are open.
func (r *rig) opened(id string, more int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokensOpen[id] += more
	return r.tokensOpen[id]
}

// pin tells whether a password lets the user in at a token.
func (r *rig) pin(t testing.TB, i int, password secret.Text) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := pkcs11.Open(ctx, r.tokens[i].Config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer token.Close()
	return token.Login(ctx, password) == nil
}

// faultyToken is a real token whose calls can be made to fail before they
// reach it. "after:" and the call's name lets it happen and loses the answer.
type faultyToken struct {
	pkcs11.Token
	fault  func(call string) error
	trust  bool
	closed func()
}

func (f *faultyToken) Close() error {
	if f.closed != nil {
		f.closed()
	}
	return f.Token.Close()
}

func (f *faultyToken) Attributes(ctx context.Context, h pkcs11.Handle) (pkcs11.Attributes, error) {
	a, err := f.Token.Attributes(ctx, h)
	a.Trusted = a.Trusted || f.trust && a.Wrap
	return a, err
}

func (f *faultyToken) Info(ctx context.Context) (pkcs11.TokenInfo, error) {
	if err := f.fault("Info"); err != nil {
		return pkcs11.TokenInfo{}, err
	}
	return f.Token.Info(ctx)
}

func (f *faultyToken) Login(ctx context.Context, pin secret.Text) error {
	if err := f.fault("Login"); err != nil {
		return err
	}
	return f.Token.Login(ctx, pin)
}

func (f *faultyToken) SetPIN(ctx context.Context, old, new secret.Text) error {
	if err := f.fault("SetPIN"); err != nil {
		return err
	}
	return errors.Join(f.Token.SetPIN(ctx, old, new), f.fault("after:SetPIN"))
}

func (f *faultyToken) GenerateKey(ctx context.Context, t pkcs11.Template) (pkcs11.Handle, error) {
	if err := f.fault("GenerateKey"); err != nil {
		return pkcs11.Handle{}, err
	}
	h, err := f.Token.GenerateKey(ctx, t)
	return h, errors.Join(err, f.fault("after:GenerateKey"))
}

func (f *faultyToken) UnwrapKey(ctx context.Context, w pkcs11.Handle, b []byte, t pkcs11.Template) (pkcs11.Handle, error) {
	if err := f.fault("UnwrapKey"); err != nil {
		return pkcs11.Handle{}, err
	}
	h, err := f.Token.UnwrapKey(ctx, w, b, t)
	return h, errors.Join(err, f.fault("after:UnwrapKey"))
}

func (f *faultyToken) UnwrapFromTransport(ctx context.Context, p pkcs11.TransportKey, b []byte, t pkcs11.Template) (pkcs11.Handle, error) {
	if err := f.fault("UnwrapFromTransport"); err != nil {
		return pkcs11.Handle{}, err
	}
	return f.Token.UnwrapFromTransport(ctx, p, b, t)
}

func (f *faultyToken) EncryptGCM(ctx context.Context, h pkcs11.Handle, p, aad []byte) (pkcs11.GCM, error) {
	if err := f.fault("EncryptGCM"); err != nil {
		return pkcs11.GCM{}, err
	}
	return f.Token.EncryptGCM(ctx, h, p, aad)
}

func (f *faultyToken) DecryptGCM(ctx context.Context, h pkcs11.Handle, in pkcs11.GCM, aad []byte) ([]byte, error) {
	if err := f.fault("DecryptGCM"); err != nil {
		return nil, err
	}
	return f.Token.DecryptGCM(ctx, h, in, aad)
}

// on fails the named calls with err, and no other ones.
func on(err error, calls ...string) func(string) error {
	return func(call string) error {
		for _, c := range calls {
			if c == call {
				return err
			}
		}
		return nil
	}
}

// always fails every call with err.
func always(err error) func(string) error { return func(string) error { return err } }

// ledger is the ledger of passwords, in memory, as the domain keeps it. A step fails as fault says, before or after its effect.
type ledger struct {
	mu       sync.Mutex
	prepared *secret.Text
	current  secret.Text
	older    []secret.Text
	drawn    int
	fault    func(step string) error // "Prepare", "after:Prepare", "Commit", "after:Commit"
}

func newLedger(password string) *ledger { return &ledger{current: secret.NewText(password)} }

func (l *ledger) Candidates() []secret.Text {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []secret.Text
	if l.prepared != nil {
		out = append(out, *l.prepared)
	}
	return append(append(out, l.current), l.older...)
}

func (l *ledger) check(step string) error {
	if l.fault == nil {
		return nil
	}
	return l.fault(step)
}

func (l *ledger) Prepare(_ context.Context, allMembers bool) (secret.Text, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !allMembers && len(l.older) >= 2 {
		return secret.Text{}, keystore.ErrKeepPassword
	}
	if err := l.check("Prepare"); err != nil {
		return secret.Text{}, err
	}
	if l.prepared == nil {
		l.drawn++
		fresh := secret.NewText(fmt.Sprintf("%032d", l.drawn))
		l.prepared = &fresh
	}
	return *l.prepared, l.check("after:Prepare")
}

func (l *ledger) Commit(_ context.Context, allMembers bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check("Commit"); err != nil {
		return err
	}
	l.current, l.prepared, l.older = *l.prepared, nil, append([]secret.Text{l.current}, l.older...)
	if allMembers {
		l.older = nil
	}
	return l.check("after:Commit")
}

// newAnchor makes a self-signed CA certificate.
func newAnchor(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customerCA"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// states gives the members' states in their order.
func states(c *hsm.Connection) (out []hsm.State) {
	for _, m := range c.Status().Members {
		out = append(out, m.State)
	}
	return out
}

func allHealthy(c *hsm.Connection) func() bool {
	return func() bool {
		for _, s := range states(c) {
			if s != hsm.Healthy {
				return false
			}
		}
		return true
	}
}

// createKey makes a key and gives it as the domain would keep it.
func createKey(t testing.TB, s keystore.Store) keystore.Key {
	t.Helper()
	nk := keystoretest.RandomKey()
	m, err := s.CreateKey(t.Context(), call("CreateKey"), nk)
	if err != nil {
		t.Fatalf("CreateKey: %v", err)
	}
	return keystore.Key{ID: nk.ID, ARN: nk.ARN, Data: m.Data}
}

func call(operation string) keystore.Call { return keystore.Call{Operation: operation} }

func mustEncrypt(t testing.TB, s keystore.Store, key keystore.Key) []byte {
	t.Helper()
	sealed, err := s.Encrypt(t.Context(), call("Encrypt"), key, nil, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatalf("Encrypt: %v", err)
	}
	return sealed
}

func mustDecrypt(t testing.TB, s keystore.Store, key keystore.Key, sealed []byte) {
	t.Helper()
	got, err := s.Decrypt(t.Context(), call("Decrypt"), key, sealed, []byte("aad"))
	if err != nil || string(got) != "plaintext" {
		t.Fatalf("Decrypt gave %q, %v", got, err)
	}
}

func wantCode(t testing.TB, err error, want kmsapi.Code) {
	t.Helper()
	if got := kmsapi.CodeOf(err); got != want {
		t.Errorf("the code is %q (%v), want %q", got, err, want)
	}
}

func rv(function string, value uint) error { return &pkcs11.Error{Function: function, RV: value} }
