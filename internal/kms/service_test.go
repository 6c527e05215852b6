package kms_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/soft"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

const (
	account = "111122223333"
	region  = "eu-central-1"
	cluster = "cluster-aaaaaaaaaaa"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a Service with fake custom key stores and all it stands on.
type world struct {
	t     *testing.T
	s     *kms.Service
	cfg   kms.Config
	hsm   *fakeKind
	xks   *fakeKind
	clock *clock
	audit *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, change ...func(*kms.Config)) *world {
	t.Helper()
	db, err := bolt.Create(filepath.Join(t.TempDir(), "kastellan.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return newWorldOn(t, db, change...)
}

// newWorldOn is newWorld with a metadata store of the test's.
func newWorldOn(t *testing.T, db store.Store, change ...func(*kms.Config)) *world {
	t.Helper()
	w := &world{
		t: t, hsm: newFakeKind(t, kmsapi.AWSCloudHSM), xks: newFakeKind(t, kmsapi.ExternalKeyStore),
		clock: &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}, audit: &lockedBuffer{},
	}
	w.cfg = kms.Config{
		Store: db, Soft: soft.New(plainSealer{}), Kinds: []keystore.Kind{w.hsm, w.xks}, Sealer: plainSealer{},
		Audit: audit.NewFile(w.audit), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: w.clock.Now,
		Sweep: 2 * time.Millisecond, Lease: 60 * time.Millisecond,
	}
	for _, fn := range change {
		fn(&w.cfg)
	}
	w.start()
	t.Cleanup(func() { w.s.Close() })
	return w
}

// slowly keeps the sweeper from working but when the service starts.
func slowly(c *kms.Config) { c.Sweep = time.Hour }

func (w *world) start() {
	w.t.Helper()
	s, err := kms.Open(context.Background(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

// restart ends the service and starts another over the same store.
func (w *world) restart() {
	w.t.Helper()
	w.s.Close()
	w.start()
}

// root may do everything in an account.
func root(account string) identity.Caller {
	return identity.Caller{
		Principal: &identity.Principal{Account: account, ARN: "arn:aws:iam::" + account + ":root", Type: identity.TypeRoot},
		Region:    region, RequestID: "00000000-0000-4000-8000-000000000001",
	}
}

func operation(t *testing.T, name string) *kms.Operation {
	t.Helper()
	all := slices.Concat(kms.Operations(), kms.Extensions())
	i := slices.IndexFunc(all, func(o *kms.Operation) bool { return o.Name == name })
	if i < 0 {
		t.Fatalf("there is no operation %s", name)
	}
	return all[i]
}

// do calls an operation named after its request type.
func do[Resp any](w *world, caller identity.Caller, name string, in any) (*Resp, error) {
	w.t.Helper()
	out, err := w.s.Do(context.Background(), operation(w.t, name), caller, in)
	if err != nil {
		return nil, err
	}
	return out.(*Resp), nil
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, code kmsapi.Code) {
	t.Helper()
	if got := kmsapi.CodeOf(err); got != code {
		t.Errorf("got %q (%v), want %q", got, err, code)
	}
}

func (w *world) createHSM(name, clusterID string) string {
	w.t.Helper()
	out := must(do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", &kmsapi.CreateCustomKeyStoreRequest{
		CustomKeyStoreName: name, CloudHsmClusterID: clusterID, TrustAnchorCertificate: "anchor", KeyStorePassword: password,
	}))(w.t)
	return out.CustomKeyStoreID
}

func (w *world) createXKS(name, host string) string {
	w.t.Helper()
	out := must(do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", xksRequest(name, host)))(w.t)
	return out.CustomKeyStoreID
}

func xksRequest(name, host string) *kmsapi.CreateCustomKeyStoreRequest {
	return &kmsapi.CreateCustomKeyStoreRequest{
		CustomKeyStoreName: name, CustomKeyStoreType: kmsapi.ExternalKeyStore, XksProxyConnectivity: kmsapi.PublicEndpoint,
		XksProxyURIEndpoint: "https://" + host, XksProxyURIPath: "/kms/xks/v1", XksProxyAuthenticationCredential: credential,
	}
}

func (w *world) describe(id string) kmsapi.CustomKeyStoresListEntry {
	w.t.Helper()
	out := must(do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{CustomKeyStoreID: id}))(w.t)
	return out.CustomKeyStores[0]
}

func (w *world) waitFor(id string, state kmsapi.ConnectionState) {
	w.t.Helper()
	polltest.Until(w.t, string(state), func() bool { return w.describe(id).ConnectionState == state })
}

func (w *world) connect(id string) error {
	_, err := do[kmsapi.ConnectCustomKeyStoreResponse](w, root(account), "ConnectCustomKeyStore", &kmsapi.ConnectCustomKeyStoreRequest{CustomKeyStoreID: id})
	return err
}

func (w *world) disconnect(id string) error {
	_, err := do[kmsapi.DisconnectCustomKeyStoreResponse](w, root(account), "DisconnectCustomKeyStore", &kmsapi.DisconnectCustomKeyStoreRequest{CustomKeyStoreID: id})
	return err
}

func (w *world) connected(id string) {
	w.t.Helper()
	if err := w.connect(id); err != nil {
		w.t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Connected)
}

func (w *world) createKey(in *kmsapi.CreateKeyRequest) *kmsapi.KeyMetadata {
	w.t.Helper()
	return w.createKeyAs(root(account), in)
}

func (w *world) createKeyAs(who identity.Caller, in *kmsapi.CreateKeyRequest) *kmsapi.KeyMetadata {
	w.t.Helper()
	return must(do[kmsapi.CreateKeyResponse](w, who, "CreateKey", in))(w.t).KeyMetadata
}

func (w *world) keyState(id string) kmsapi.KeyState {
	w.t.Helper()
	return must(do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id}))(w.t).KeyMetadata.KeyState
}

// brokenDisk refuses audit records.
type brokenDisk struct{ broken bool }

func (b *brokenDisk) Write(p []byte) (int, error) {
	if b.broken {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestACallThatCannotBeRecordedIsRefused(t *testing.T) {
	t.Parallel()
	disk := &brokenDisk{}
	w := newWorld(t, func(c *kms.Config) { c.Audit = audit.NewFile(disk) })
	disk.broken = true
	_, err := do[kmsapi.ListKeysResponse](w, root(account), "ListKeys", &kmsapi.ListKeysRequest{})
	wantCode(t, err, kmsapi.KMSInternal)
	if !strings.Contains(err.Error(), "no space left") {
		t.Errorf("the cause is lost: %v", err)
	}
	disk.broken = false
}

func TestEveryCallIsRecordedWhetherItSucceedsOrNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Description: "recorded"})
	_, err := do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: "nonsense"})
	wantCode(t, err, kmsapi.NotFound)
	log := w.audit.String()
	for _, want := range []string{
		`"eventName":"CreateKey"`, `"description":"recorded"`, key.Arn,
		`"eventName":"DescribeKey"`, `"errorCode":"NotFoundException"`, `"errorMessage":"Invalid keyId 'nonsense'"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

// panicking is a store that panics with what it was given.
type panicking struct{ keystore.Keyring }

func (panicking) Encrypt(_ context.Context, _ keystore.Call, _ keystore.Key, _, plaintext, _ []byte) ([]byte, error) {
	return nil, panicOn([2]uint64{binary.LittleEndian.Uint64(plaintext)})
}

// panicOn has a part of the plaintext as its argument, which stack traces show.
//
//go:noinline
func panicOn(words [2]uint64) error { panic(fmt.Sprintf("marker %#x", words)) }

func TestAPanicIsAnInternalErrorThatShowsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Soft = panicking{c.Soft} })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("retupmoc")})
	wantCode(t, err, kmsapi.KMSInternal)
	word := fmt.Sprintf("%#x", binary.LittleEndian.Uint64([]byte("retupmoc")))
	if strings.Contains(err.Error(), "marker") || strings.Contains(err.Error(), word) {
		t.Errorf("the error shows what was worked on: %v", err)
	}
	if !strings.Contains(err.Error(), "panicOn") {
		t.Errorf("the error does not tell where: %v", err)
	}
	if !strings.Contains(w.audit.String(), `"eventName":"Encrypt"`) {
		t.Error("the call was not recorded")
	}
}
