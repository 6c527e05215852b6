package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

const (
	theAccount = "111122223333"
	theRegion  = "us-east-1"
)

// still is a service without tokens, whose reconciler has ended: records stay in the states that tests put them in.
type still struct {
	*Service
	clock *handClock
	db    *faultyStore

	mu      sync.Mutex
	written []*audit.Record
	deaf    error // what the audit log answers
}

func newStill(t *testing.T) *still {
	t.Helper()
	db, err := bolt.Create(filepath.Join(t.TempDir(), "store"))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	declared, err := cloudhsm.Declare(cloudhsm.Declaration{Subnets: []cloudhsm.Subnet{
		{ID: "subnet-2222222a", VPC: "vpc-22222222", AvailabilityZone: "us-east-1a", CIDR: netip.MustParsePrefix("10.0.1.0/24")},
	}})
	must(t, err)
	s := &still{clock: &handClock{}, db: &faultyStore{Store: db}}
	s.clock.advance(time.Hour * 24 * 365 * 50)
	s.Service, err = Open(Config{Store: s.db, Sealer: rootkey.Random().Direct(), Audit: s, Declared: declared, Rack: rack.New(rack.Config{}), Now: s.clock.now, PasswordRounds: 1, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	s.Close()
	s.ctx = t.Context()
	return s
}

// Write implements audit.Writer.
func (s *still) Write(_ context.Context, r *audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = append(s.written, r)
	return s.deaf
}

// faultyStore fails while a test wants it to.
type faultyStore struct {
	store.Store
	fault error
}

func (f *faultyStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if f.fault != nil {
		return f.fault
	}
	return f.Store.View(ctx, fn)
}

func (f *faultyStore) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	if f.fault != nil {
		return 0, f.fault
	}
	return f.Store.Update(ctx, fn)
}

// root is the caller of all calls: the root user of the account.
func root(t *testing.T) identity.Caller {
	t.Helper()
	const key = "AKIAEXAMPLEEXAMPLE00"
	d, err := identity.New([]identity.Account{{ID: theAccount, Root: identity.RootConfig{AccessKeys: []identity.AccessKey{
		{ID: key, Secret: secret.NewText("0123456789012345678901234567890123456789")},
	}}}})
	must(t, err)
	entry, _ := d.Lookup(key)
	return identity.Caller{Principal: entry.Principal, Region: theRegion}
}

// ask calls an operation, and gives the code of its error.
func (s *still) ask(t *testing.T, operation string, in any) (out any, code kmsapi.Code) {
	t.Helper()
	for _, op := range append(Operations(), Extensions()...) {
		if op.Name == operation {
			out, err := s.Do(t.Context(), op, root(t), in)
			var known *kmsapi.Error
			switch {
			case err == nil:
				return out, ""
			case errors.As(err, &known):
				return nil, known.Code
			default:
				return nil, cloudhsmapi.InternalFailure
			}
		}
	}
	t.Fatalf("there is no operation %s", operation)
	return nil, ""
}

// put writes a record.
func (s *still) put(t *testing.T, rec stored) {
	t.Helper()
	_, err := s.db.Update(t.Context(), func(tx store.Tx) error { return save(tx, rec.path(), rec) })
	must(t, err)
}

// remove removes what a test does not want any more.
func (s *still) remove(t *testing.T, at string) {
	t.Helper()
	_, err := s.db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(at) })
	must(t, err)
}

// tendNow is what the reconciler does for a cluster at one look.
func (s *still) tendNow(t *testing.T, rec *clusterRecord) error {
	t.Helper()
	return s.tend(rec)
}
