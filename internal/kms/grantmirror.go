package kms

import "kastellan.dev/internal/store"

// grantEntry is a grant record with its storage key. It is never changed.
type grantEntry struct {
	grantRecord
	at     string
	allows operationSet // Operations
}

func newGrantEntry(rec *grantRecord, at string) *grantEntry {
	return &grantEntry{grantRecord: *rec, at: at, allows: setOf(rec.Operations)}
}

func (g *grantEntry) path() string { return g.at }

// grantList is a list of grants in the order of their storage keys.
type grantList = ordered[*grantEntry]

// onKey is a principal's part of a key's grants.
type onKey struct{ key, principal string } // key as keyIndex has it

// inRegion is a principal's part of a Region's grants.
type inRegion struct{ region, principal string }

// grantIndex finds the grants of one revision by what is asked for. Services
// are principals in it as well as those that have ARNs.
type grantIndex struct {
	ofKey     map[string]*grantList // by keyIndex
	ofGrantee map[onKey]*grantList
	retirable map[inRegion]*grantList
}

func newGrantIndex() grantIndex {
	return grantIndex{
		ofKey:     make(map[string]*grantList),
		ofGrantee: make(map[onKey]*grantList),
		retirable: make(map[inRegion]*grantList),
	}
}

func (x *grantIndex) apply(e store.Entry) error {
	_, region, keyID, _ := splitGrantPath(e.Key)
	if old, ok := x.ofKey[keyIndex(region, keyID)].get(e.Key); ok {
		x.remove(old)
	}
	if e.Value == nil {
		return nil
	}
	rec, err := decode[grantRecord](e.Key, e.Value)
	if err == nil {
		x.put(newGrantEntry(rec, e.Key))
	}
	return err
}

func (x *grantIndex) put(g *grantEntry) {
	key := keyIndex(g.Region, g.KeyID)
	putInto(x.ofKey, key, g)
	putInto(x.ofGrantee, onKey{key, g.grantee()}, g)
	if g.retirer() != "" {
		putInto(x.retirable, inRegion{g.Region, g.retirer()}, g)
	}
}

func (x *grantIndex) remove(g *grantEntry) {
	key := keyIndex(g.Region, g.KeyID)
	removeFrom(x.ofKey, key, g)
	removeFrom(x.ofGrantee, onKey{key, g.grantee()}, g)
	if g.retirer() != "" {
		removeFrom(x.retirable, inRegion{g.Region, g.retirer()}, g)
	}
}

// grantee is whom the grant is for: an ARN or the name of a service.
func (g *grantRecord) grantee() string { return g.Grantee + g.GranteeService }

// retirer is who may retire the grant, as grantee has it; empty if nobody is named.
func (g *grantRecord) retirer() string { return g.Retiring + g.RetiringService }

// grant finds a grant by its storage key.
func (m *mirror) grant(at string) *grantEntry {
	_, region, keyID, _ := splitGrantPath(at)
	m.mu.RLock()
	defer m.mu.RUnlock()
	g, _ := m.grants.ofKey[keyIndex(region, keyID)].get(at)
	return g
}

// countGrants counts the grants on a key.
func (m *mirror) countGrants(region, keyID string) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.grants.ofKey[keyIndex(region, keyID)].len()
}

// grantsOf gives up to n grants on a key, or those of them that are for one
// grantee, behind the storage key after.
func (m *mirror) grantsOf(region, keyID, grantee, after string, n int) []*grantEntry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	key := keyIndex(region, keyID)
	if grantee != "" {
		return first(n, m.grants.ofGrantee[onKey{key, grantee}].after(after))
	}
	return first(n, m.grants.ofKey[key].after(after))
}

// retirableBy gives up to n grants of a Region that name a retiring principal,
// behind the storage key after.
func (m *mirror) retirableBy(region, principal, after string, n int) []*grantEntry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return first(n, m.grants.retirable[inRegion{region, principal}].after(after))
}
