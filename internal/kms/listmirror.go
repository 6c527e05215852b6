package kms

import (
	"maps"
	"slices"
)

// listIndex has the keys and aliases of each account in each Region in order, so that a page of
// a list costs no more the more there are.
type listIndex struct {
	keys    map[place]*ordered[*keyEntry]
	aliases map[place]*ordered[*aliasRecord]
}

func newListIndex() listIndex {
	return listIndex{keys: make(map[place]*ordered[*keyEntry]), aliases: make(map[place]*ordered[*aliasRecord])}
}

// placeOf is an account in a Region.
func placeOf(account, region string) place { return place{account: account, region: region} }

// path is the storage key; that of the record would be put together anew for each comparison.
func (k *keyEntry) path() string {
	if k.at == "" { // a key that is not stored yet
		return k.keyRecord.path()
	}
	return k.at
}

// countKeys counts the keys of an account in a Region.
func (m *mirror) countKeys(account, region string) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.lists.keys[placeOf(account, region)].len()
}

// keysOf gives up to n keys of an account in a Region behind the storage key after.
func (m *mirror) keysOf(account, region, after string, n int) []*keyEntry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return first(n, m.lists.keys[placeOf(account, region)].after(after))
}

// aliasesIn gives up to n aliases of an account in a Region behind the storage key after.
func (m *mirror) aliasesIn(account, region, after string, n int) []*aliasRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return first(n, m.lists.aliases[placeOf(account, region)].after(after))
}

// aliasesOf gives the aliases of a key, in no order.
func (m *mirror) aliasesOf(region, keyID string) []*aliasRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Collect(maps.Values(m.aliasing[keyIndex(region, keyID)]))
}

// countAliases counts the aliases of a key.
func (m *mirror) countAliases(region, keyID string) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.aliasing[keyIndex(region, keyID)])
}
