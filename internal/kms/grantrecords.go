package kms

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// The prefixes of the storage keys of grants. Each is followed by account,
// Region and id of the key, and the grant's id or what its name stands for.
const (
	grantPrefix     = "grant/"
	grantNamePrefix = "grant-name/"
)

// grantRecord is a grant as stored. Account and Region are the key's.
type grantRecord struct {
	ID              string // 64 hexadecimal digits
	Account         string
	Region          string
	KeyID           string
	Created         time.Time
	Name            string                   `json:",omitempty"`
	Grantee         string                   `json:",omitempty"` // ARN; or else
	GranteeService  string                   `json:",omitempty"`
	Retiring        string                   `json:",omitempty"` // ARN; or else
	RetiringService string                   `json:",omitempty"`
	Operations      []kmsapi.GrantOperation  // as given, each once
	Constraints     *kmsapi.GrantConstraints `json:",omitempty"`
	IssuingAccount  string                   // that of the caller of CreateGrant
	Issuer          string                   // the caller's ARN
}

// grantPath is the storage key of a grant; without an id, the prefix of all
// grants on the key.
func grantPath(account, region, keyID, id string) string {
	return path(grantPrefix, account, region, keyID+"/"+id)
}

func (g *grantRecord) path() string   { return grantPath(g.Account, g.Region, g.KeyID, g.ID) }
func (g *grantRecord) keyARN() string { return kmsapi.KeyARN(g.Region, g.Account, g.KeyID) }

// namePath is the storage key that leads from everything a named grant was
// asked for to its id, so that asking again finds it.
func (g *grantRecord) namePath() (string, error) {
	asked := struct {
		Texts       []string
		Operations  []kmsapi.GrantOperation
		Constraints *kmsapi.GrantConstraints
	}{
		Texts:       []string{g.Name, g.IssuingAccount, g.Grantee, g.GranteeService, g.Retiring, g.RetiringService},
		Operations:  slices.Sorted(slices.Values(g.Operations)),
		Constraints: g.Constraints,
	}
	text, err := json.Marshal(asked) // maps are sorted
	if err != nil {
		return "", fmt.Errorf("naming a grant: %w", err)
	}
	sum := sha256.Sum256(text)
	return path(grantNamePrefix, g.Account, g.Region, g.KeyID+"/"+hex.EncodeToString(sum[:])), nil
}

// put stores a new grant.
func (g *grantRecord) put(tx store.Tx) error {
	if g.Name != "" {
		at, err := g.namePath()
		if err != nil {
			return err
		}
		if err := tx.Put(at, []byte(g.ID)); err != nil {
			return err
		}
	}
	return save(tx, g.path(), g)
}

// remove deletes a grant.
func (g *grantRecord) remove(tx store.Tx) error {
	if g.Name != "" {
		at, err := g.namePath()
		if err != nil {
			return err
		}
		if err := tx.Delete(at); err != nil {
			return err
		}
	}
	return tx.Delete(g.path())
}

// twin gives the id of the grant of the same name that was asked for in the
// same way, "" if there is none.
func (g *grantRecord) twin(r store.Reader) (string, error) {
	if g.Name == "" {
		return "", nil
	}
	at, err := g.namePath()
	if err != nil {
		return "", err
	}
	id, _, err := r.Get(at)
	return string(id), err
}

// grantBatch is how many grants of a key are deleted in one transaction.
const grantBatch = 1000

// removeGrants deletes grants of a key and what their names stand for, a batch
// of each at most: there can be so many that one transaction would hold
// everything else up. There are no more names than grants: when all grants are
// gone, which it tells, so are the names.
func removeGrants(tx store.Tx, account, region, keyID string) (all bool, err error) {
	for _, prefix := range []string{grantNamePrefix, grantPrefix} {
		doomed, err := firstKeys(tx, path(prefix, account, region, keyID+"/"), grantBatch)
		if err != nil {
			return false, err
		}
		for _, at := range doomed {
			if err := tx.Delete(at); err != nil {
				return false, err
			}
		}
		all = len(doomed) < grantBatch
	}
	return all, nil
}

// firstKeys gives the first n storage keys below a prefix.
func firstKeys(r store.Reader, prefix string, n int) (keys []string, err error) {
	for entry, err := range r.Scan(prefix) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, entry.Key); len(keys) == n {
			break
		}
	}
	return keys, nil
}

// entry describes a grant as callers see it.
func (g *grantRecord) entry() kmsapi.GrantListEntry {
	return kmsapi.GrantListEntry{
		KeyID: g.keyARN(), GrantID: g.ID, Name: g.Name, CreationDate: kmsapi.At(g.Created),
		GranteePrincipal: g.Grantee, GranteeServicePrincipal: g.GranteeService,
		RetiringPrincipal: g.Retiring, RetiringServicePrincipal: g.RetiringService,
		IssuingAccount: accountARN(g.Region, g.IssuingAccount), Operations: g.Operations, Constraints: g.Constraints,
	}
}

// isGrantID tells the form of grant ids.
func isGrantID(s string) bool { return len(s) == 64 && isHex(s) }

// splitGrantPath takes the storage key of a grant apart.
func splitGrantPath(at string) (account, region, keyID, id string) {
	parts := strings.Split(strings.TrimPrefix(at, grantPrefix), "/")
	if len(parts) != 4 {
		return "", "", "", ""
	}
	return parts[0], parts[1], parts[2], parts[3]
}
