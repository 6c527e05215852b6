package kms

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/store"
)

// keyEntry is a key record with what using it needs. It is never changed:
// a new record makes a new entry.
type keyEntry struct {
	keyRecord
	at       string // its storage key
	ARN      string
	spec     *keyspec.Spec
	versions []keyVersion // as Materials
	current  *keyVersion  // the one that encrypts; nil if there has never been material
	due      time.Time    // when the sweeper is to look at the key; zero: never
	public   func() (keyspec.PublicKey, error)
	policy   func() *policy.Document // the key policy, compiled when it is needed first
	use      *keyUse                 // shared by all entries of the key
}

// place is what an id or a name is unique in.
type place struct{ account, region, name string }

// mirror is the stored metadata in memory, kept current by a watch.
type mirror struct {
	log *slog.Logger

	mu       sync.RWMutex
	revision store.Revision
	advanced chan struct{} // closed at the next revision
	tables

	ready    chan struct{} // closed after the first snapshot
	onChange func()
}

// tables hold the records of one revision.
type tables struct {
	keys     map[string]*keyEntry // by Region and id: see keyIndex
	aliases  map[place]*aliasRecord
	aliasing map[string]map[string]*aliasRecord // the same by key, as keyIndex has it, and name
	stores   map[string]*keyStoreRecord
	material map[string]*materialRecord
	timed    map[string]*keyEntry // keys for which the sweeper has something to do one day
	lists    listIndex
	grants   grantIndex
	tracking time.Time // since when the use of keys is followed
}

func newMirror(log *slog.Logger, onChange func()) *mirror {
	return &mirror{log: log, onChange: onChange, advanced: make(chan struct{}), ready: make(chan struct{}), tables: newTables()}
}

func newTables() tables {
	return tables{
		keys:     make(map[string]*keyEntry),
		aliases:  make(map[place]*aliasRecord),
		aliasing: make(map[string]map[string]*aliasRecord),
		stores:   make(map[string]*keyStoreRecord),
		material: make(map[string]*materialRecord),
		timed:    make(map[string]*keyEntry),
		lists:    newListIndex(),
		grants:   newGrantIndex(),
	}
}

// run follows the store until ctx is done, and begins anew when the watch breaks.
func (m *mirror) run(ctx context.Context, db store.Store) {
	for ctx.Err() == nil {
		err := db.Watch(ctx, m.snapshot, m.change)
		if ctx.Err() != nil {
			return
		}
		m.log.Error("the metadata watch broke; it begins anew", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// snapshot shows the new state when it has read all of it. Until then, and if
// reading breaks off, the old one stays: half of it would deny keys that exist.
func (m *mirror) snapshot(rev store.Revision, r store.Reader) error {
	next := newTables()
	for entry, err := range r.Scan("") {
		if err != nil {
			return err
		}
		next.apply(m.log, entry)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next.keepUses(&m.tables)
	m.tables = next
	m.advance(rev)
	select {
	case <-m.ready:
	default:
		close(m.ready)
	}
	return nil
}

func (m *mirror) change(c store.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, entry := range c.Entries {
		m.apply(m.log, entry)
	}
	m.advance(c.Revision)
	return nil
}

func (m *mirror) advance(rev store.Revision) {
	m.revision = rev
	close(m.advanced)
	m.advanced = make(chan struct{})
	m.onChange()
}

// wait returns when the mirror shows revision rev.
func (m *mirror) wait(ctx context.Context, rev store.Revision) error {
	for {
		m.mu.RLock()
		reached, next := m.revision >= rev, m.advanced
		m.mu.RUnlock()
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

// apply takes one stored entry over. A record that cannot be read is logged
// and left out: one broken record must not take all keys down.
func (t *tables) apply(log *slog.Logger, e store.Entry) {
	var err error
	switch {
	case strings.HasPrefix(e.Key, keyPrefix):
		err = t.applyKey(e)
	case strings.HasPrefix(e.Key, aliasPrefix):
		err = t.applyAlias(e)
	case strings.HasPrefix(e.Key, keyStorePrefix):
		err = applyRecord(t.stores, e)
	case strings.HasPrefix(e.Key, materialPrefix):
		err = applyRecord(t.material, e)
	case strings.HasPrefix(e.Key, grantPrefix):
		err = t.grants.apply(e)
	case strings.HasPrefix(e.Key, usagePrefix):
		err = t.applyUse(e)
	case e.Key == trackingAt:
		err = t.tracking.UnmarshalText(e.Value)
	}
	if err != nil {
		log.Error("a stored record cannot be read", "path", e.Key, "error", err)
	}
}

func applyRecord[T any](records map[string]*T, e store.Entry) error {
	delete(records, e.Key)
	if e.Value == nil {
		return nil
	}
	rec, err := decode[T](e.Key, e.Value)
	if err == nil {
		records[e.Key] = rec
	}
	return err
}

// keyIndex finds a key by what a ciphertext tells of it. Key ids are unique in
// a Region across accounts.
func keyIndex(region, id string) string { return region + "/" + id }

func (t *tables) applyKey(e store.Entry) error {
	_, rest, _ := strings.Cut(e.Key[len(keyPrefix):], "/") // without the account: Region and id
	old := t.keys[rest]
	if old != nil {
		removeFrom(t.lists.keys, placeOf(old.Account, old.Region), old)
	}
	delete(t.keys, rest)
	delete(t.timed, rest)
	if e.Value == nil {
		return nil
	}
	rec, err := decode[keyRecord](e.Key, e.Value)
	if err != nil {
		return err
	}
	entry, err := newKeyEntry(rec)
	if err != nil {
		return err
	}
	if old != nil {
		entry.use = old.use
	}
	t.keys[rest] = entry
	putInto(t.lists.keys, placeOf(rec.Account, rec.Region), entry)
	if !entry.due.IsZero() {
		t.timed[rest] = entry
	}
	return nil
}

func newKeyEntry(rec *keyRecord) (*keyEntry, error) {
	spec := keyspec.Of(rec.Spec)
	if spec == nil {
		return nil, fmt.Errorf("there is no key spec %q", rec.Spec)
	}
	versions, current, err := newVersions(rec)
	if err != nil {
		return nil, err
	}
	return &keyEntry{
		keyRecord: *rec, at: rec.path(), ARN: rec.arn(), spec: spec, versions: versions, current: current, due: rec.nextEvent(), use: new(keyUse),
		public: sync.OnceValues(func() (keyspec.PublicKey, error) { return spec.OpenPublic(rec.PublicKey) }),
		policy: sync.OnceValue(func() *policy.Document { return compiled(rec) }),
	}, nil
}

// applyUse takes over what another process, or an earlier one, has seen of a key.
func (t *tables) applyUse(e store.Entry) error {
	_, rest, _ := strings.Cut(e.Key[len(usagePrefix):], "/")
	k := t.keys[rest]
	if k == nil || e.Value == nil {
		return nil
	}
	rec, err := decode[usageRecord](e.Key, e.Value)
	if err == nil {
		k.use.add(rec)
	}
	return err
}

// keepUses takes over what this process has seen, and where it goes on to be told.
func (t *tables) keepUses(from *tables) {
	for index, k := range t.keys {
		old := from.keys[index]
		if old == nil {
			continue
		}
		if stored := k.use.last.Load(); stored != nil {
			old.use.add(stored)
		}
		k.use = old.use
	}
}

func (t *tables) applyAlias(e store.Entry) error {
	account, rest, _ := strings.Cut(e.Key[len(aliasPrefix):], "/")
	region, name, _ := strings.Cut(rest, "/")
	at := place{account, region, name}
	if old := t.aliases[at]; old != nil {
		t.unalias(old)
	}
	delete(t.aliases, at)
	if e.Value == nil {
		return nil
	}
	rec, err := decode[aliasRecord](e.Key, e.Value)
	if err != nil {
		return err
	}
	t.aliases[at] = rec
	putInto(t.lists.aliases, placeOf(account, region), rec)
	key := keyIndex(rec.Region, rec.KeyID)
	if t.aliasing[key] == nil {
		t.aliasing[key] = make(map[string]*aliasRecord)
	}
	t.aliasing[key][rec.Name] = rec
	return nil
}

// unalias takes an alias from the key that it was for.
func (t *tables) unalias(rec *aliasRecord) {
	removeFrom(t.lists.aliases, placeOf(rec.Account, rec.Region), rec)
	key := keyIndex(rec.Region, rec.KeyID)
	delete(t.aliasing[key], rec.Name)
	if len(t.aliasing[key]) == 0 {
		delete(t.aliasing, key)
	}
}

// trackingSince tells since when the use of keys is followed; zero: it is not noted yet.
func (m *mirror) trackingSince() time.Time {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tracking
}

// key finds a key by Region and id, in whatever account.
func (m *mirror) key(region, id string) *keyEntry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.keys[keyIndex(region, id)]
}

func (m *mirror) alias(account, region, name string) *aliasRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.aliases[place{account, region, name}]
}

// keyStore finds a custom key store of one account and Region.
func (m *mirror) keyStore(account, region, id string) *keyStoreRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.stores[path(keyStorePrefix, account, region, id)]
}

// keyStores gives the custom key stores that want wants, in no order.
func (m *mirror) keyStores(want func(*keyStoreRecord) bool) []*keyStoreRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []*keyStoreRecord
	for _, rec := range m.stores {
		if want(rec) {
			out = append(out, rec)
		}
	}
	return out
}

// dueKeys gives the keys for which something is to be done by now.
func (m *mirror) dueKeys(now time.Time) []*keyEntry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var due []*keyEntry
	for _, k := range m.timed {
		if !k.due.After(now) {
			due = append(due, k)
		}
	}
	return due
}

// unclaimed gives the material records.
func (m *mirror) unclaimed() []*materialRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]*materialRecord, 0, len(m.material))
	for _, rec := range m.material {
		out = append(out, rec)
	}
	return out
}
