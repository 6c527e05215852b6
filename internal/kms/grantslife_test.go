package kms_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

// stored gives the storage keys with a prefix.
func stored(t testing.TB, db store.Store, prefix string) (keys []string) {
	t.Helper()
	err := db.View(context.Background(), func(r store.Reader) error {
		for e, err := range r.Scan(prefix) {
			if err != nil {
				return err
			}
			keys = append(keys, e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// multiply stores n copies of a key's only grant, which has a name, in one go.
func multiply(t testing.TB, db store.Store, n int) {
	t.Helper()
	at, named := stored(t, db, "grant/"), stored(t, db, "grant-name/")
	if len(at) != 1 || len(named) != 1 {
		t.Fatalf("%d grants and %d names are stored", len(at), len(named))
	}
	_, err := db.Update(context.Background(), func(tx store.Tx) error {
		value, _, err := tx.Get(at[0])
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(value, &rec); err != nil {
			return err
		}
		for i := range n {
			id := fmt.Sprintf("%064x", i)
			rec["ID"] = id
			copied, err := json.Marshal(rec)
			if err != nil {
				return err
			}
			if err := tx.Put(at[0][:len(at[0])-64]+id, copied); err != nil {
				return err
			}
			if err := tx.Put(named[0][:len(named[0])-64]+id, []byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheGrantsOfADeletedKeyGoWithIt(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, kms.GrantBatch - 1, 2*kms.GrantBatch + 7} {
		db, err := bolt.Create(filepath.Join(t.TempDir(), "db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		w := newWorldOn(t, db)
		id := w.createHSM("hsm", cluster)
		w.connected(id)
		key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
		made := w.grant(key.KeyID, grantName("n"), retiring(aliceARN))
		multiply(t, db, n)
		kept := w.createKey(&kmsapi.CreateKeyRequest{})
		other := w.grant(kept.KeyID, grantName("n"), retiring(aliceARN))
		// The store is away: grants do not wait for the material.
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Disconnected)
		w.doom(key)
		w.clock.Advance(7*24*time.Hour - time.Second)
		wantCode(t, w.encryptWith(kept.KeyID, made.GrantToken), "")
		w.clock.Advance(time.Second)
		polltest.Until(t, "the grants to be gone", func() bool {
			return len(stored(t, db, "grant/")) == 1 && len(stored(t, db, "grant-name/")) == 1
		})
		polltest.Until(t, "the grants to be gone from lists", func() bool {
			out := must(do[kmsapi.ListRetirableGrantsResponse](w, root(account), "ListRetirableGrants", &kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN}))(t)
			return slices.Equal(idsOf(out.Grants), []string{other.GrantID})
		})
		wantCode(t, w.encryptWith(kept.KeyID, made.GrantToken), kmsapi.InvalidGrantToken)
		wantCode(t, w.encryptWith(kept.KeyID, other.GrantToken), "")
		if w.hsm.keyCount() != 1 {
			t.Error("the material went although the store was away")
		}
	}
}

func TestACancelledDeletionLosesNoGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID)
	w.doom(key)
	must(do[kmsapi.CancelKeyDeletionResponse](w, root(account), "CancelKeyDeletion", &kmsapi.CancelKeyDeletionRequest{KeyID: key.KeyID}))(t)
	w.clock.Advance(8 * 24 * time.Hour)
	w.restart()
	if ids := w.grantIDs(key.KeyID); !slices.Equal(ids, []string{made.GrantID}) {
		t.Errorf("got %v", ids)
	}
}

func TestAGrantIsNotMadeOnAKeyThatGoesMeanwhile(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	db.fail(func() error {
		db.fail(nil)
		w.doom(key)
		return nil
	})
	_, err := w.createGrant(grantRequest(key.KeyID))
	wantCode(t, err, kmsapi.KMSInvalidState)
	if n := len(stored(t, db, "grant")); n != 0 {
		t.Errorf("%d records are stored", n)
	}
}

func TestABrokenRecordOfAGrantLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID)
	for _, at := range []string{
		"grant/" + account + "/" + region + "/" + key.KeyID + "/" + noGrantID, "grant/x", "grant/" + account + "/" + region + "/" + key.KeyID + "/a/b",
	} {
		if _, err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(at, []byte("{")) }); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if ids := w.grantIDs(key.KeyID); !slices.Equal(ids, []string{made.GrantID}) {
			t.Errorf("got %v", ids)
		}
		w.restart()
	}
	wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
	if n := len(stored(t, db, "grant-name/")); n != 0 {
		t.Errorf("%d names are left", n)
	}
}

func TestCallersWhoAskAtOnceForANamedGrantGetOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withKeyring(t))
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	var all sync.WaitGroup
	results := make([]*kmsapi.CreateGrantResponse, 16)
	for i := range results {
		all.Go(func() { results[i], _ = w.createGrant(grantRequest(key.KeyID, grantName("n"))) })
	}
	all.Wait()
	tokens := map[string]bool{}
	for _, r := range results {
		if r == nil || r.GrantID != results[0].GrantID {
			t.Fatalf("got %+v and %+v", r, results[0])
		}
		tokens[r.GrantToken] = true
	}
	if ids := w.grantIDs(key.KeyID); len(ids) != 1 || len(tokens) != len(results) {
		t.Errorf("%d grants, %d tokens", len(ids), len(tokens))
	}
}

func TestGrantsUnderContention(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, newMemory(), withKeyring(t))
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 20 {
				made, err := w.createGrant(grantRequest(key.KeyID, retiring(aliceARN), grantName(fmt.Sprint("n", i, "-", j))))
				if err != nil {
					t.Error(err)
					return
				}
				wantCode(t, w.encryptWith(key.KeyID, made.GrantToken), "")
				ids := w.grantIDs(key.KeyID)
				if !slices.Contains(ids, made.GrantID) || !slices.IsSorted(ids) {
					t.Error("a caller does not read what it wrote")
				}
				if j%2 == 0 {
					wantCode(t, w.revoke(key.KeyID, made.GrantID), "")
				} else {
					wantCode(t, w.retire(person(aliceARN), kmsapi.RetireGrantRequest{GrantToken: made.GrantToken}), "")
				}
				wantCode(t, w.encryptWith(key.KeyID, made.GrantToken), kmsapi.InvalidGrantToken)
			}
		})
	}
	all.Wait()
	if ids := w.grantIDs(key.KeyID); len(ids) != 0 {
		t.Errorf("%d grants are left", len(ids))
	}
}

func TestOneOfManyWhoRevokeAGrantSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	made := w.grant(key.KeyID, grantName("n"))
	var all sync.WaitGroup
	codes := make([]kmsapi.Code, 16)
	for i := range codes {
		all.Go(func() {
			if i%2 == 0 {
				codes[i] = kmsapi.CodeOf(w.revoke(key.KeyID, made.GrantID))
			} else {
				codes[i] = kmsapi.CodeOf(w.retire(root(account), kmsapi.RetireGrantRequest{KeyID: key.KeyID, GrantID: made.GrantID}))
			}
		})
	}
	all.Wait()
	count := map[kmsapi.Code]int{}
	for _, code := range codes {
		count[code]++
	}
	if count[""] != 1 || count[kmsapi.NotFound] != len(codes)-1 {
		t.Errorf("got %v", count)
	}
}

// modelled is a grant as the model of TestGrantsBehaveAsTheirModel knows it.
type modelled struct {
	key, name, grantee, retiring string
	tokens                       []string
}

// model is a service with two keys, and what their grants must be.
type model struct {
	w      *world
	keys   [2]string
	grants map[string]*modelled // by id
	gone   []string             // tokens
}

func (m *model) create(t *rapid.T) {
	g := &modelled{
		key: rapid.SampledFrom(m.keys[:]).Draw(t, "key"), name: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "name"),
		grantee:  rapid.SampledFrom([]string{aliceARN, roleARN}).Draw(t, "grantee"),
		retiring: rapid.SampledFrom([]string{"", aliceARN, sessionARN}).Draw(t, "retiring"),
	}
	made, err := m.w.createGrant(grantRequest(g.key, grantName(g.name), grantee(g.grantee), retiring(g.retiring)))
	if err != nil {
		t.Fatal(err)
	}
	known := m.grants[made.GrantID]
	for id, other := range m.grants {
		same := g.name != "" && other.key == g.key && other.name == g.name && other.grantee == g.grantee && other.retiring == g.retiring
		if same != (id == made.GrantID) {
			t.Fatalf("%+v got the id of %+v: %v", g, other, id == made.GrantID)
		}
	}
	if known == nil {
		known = g
		m.grants[made.GrantID] = g
	}
	known.tokens = append(known.tokens, made.GrantToken)
}

func (m *model) end(t *rapid.T) {
	if len(m.grants) == 0 {
		t.Skip("there is no grant")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.grants))).Draw(t, "grant")
	g := m.grants[id]
	var err error
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		err = m.w.revoke(g.key, id)
	case 1:
		err = m.w.retire(root(account), kmsapi.RetireGrantRequest{KeyID: g.key, GrantID: id})
	case 2:
		err = m.w.retire(root(account), kmsapi.RetireGrantRequest{GrantToken: rapid.SampledFrom(g.tokens).Draw(t, "token")})
	}
	if err != nil {
		t.Fatal(err)
	}
	m.gone = append(m.gone, g.tokens...)
	delete(m.grants, id)
}

func (m *model) check(t *rapid.T) {
	var retirable []string
	for _, key := range m.keys {
		var want, toRole []string
		for id, g := range m.grants {
			if g.key != key {
				continue
			}
			want = append(want, id)
			if g.grantee == roleARN {
				toRole = append(toRole, id)
			}
			if g.retiring == sessionARN {
				retirable = append(retirable, id)
			}
		}
		limit := ptr(rapid.Int32Range(1, 4).Draw(t, "limit"))
		got, _ := m.w.grants(kmsapi.ListGrantsRequest{KeyID: key, Limit: limit})
		gotRole, _ := m.w.grants(kmsapi.ListGrantsRequest{KeyID: key, Limit: limit, GranteePrincipal: roleARN})
		slices.Sort(want)
		slices.Sort(toRole)
		if !slices.Equal(idsOf(got), want) || !slices.Equal(idsOf(gotRole), toRole) {
			t.Fatalf("a key lists %d grants, want %d; to the role %d, want %d", len(got), len(want), len(gotRole), len(toRole))
		}
	}
	out, err := do[kmsapi.ListRetirableGrantsResponse](m.w, root(account), "ListRetirableGrants", &kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: sessionARN})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(retirable)
	if got := slices.Sorted(slices.Values(idsOf(out.Grants))); !slices.Equal(got, retirable) {
		t.Fatalf("%d grants are retirable, want %d", len(got), len(retirable))
	}
	for _, token := range m.gone {
		if code := kmsapi.CodeOf(m.w.encryptWith(m.keys[0], token)); code != kmsapi.InvalidGrantToken {
			t.Fatalf("a token of a grant that is gone: %q", code)
		}
	}
	for _, g := range m.grants {
		if err := m.w.encryptWith(m.keys[0], g.tokens[:min(10, len(g.tokens))]...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGrantsBehaveAsTheirModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		db := newMemory()
		w := newWorldOn(t, db, withKeyring(t))
		defer w.s.Close()
		m := &model{w: w, grants: map[string]*modelled{}}
		for i := range m.keys {
			m.keys[i] = w.createKey(&kmsapi.CreateKeyRequest{}).KeyID
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create":  m.create,
			"end":     m.end,
			"restart": func(*rapid.T) { w.restart() },
			"":        m.check,
		})
		names := 0
		for _, g := range m.grants {
			if g.name != "" {
				names++
			}
		}
		if got := len(stored(t, db, "grant-name/")); got != names {
			rt.Fatalf("%d names are stored, want %d", got, names)
		}
		if log := w.audit.String(); strings.Contains(log, "grantToken") {
			rt.Fatal("the log has grant tokens")
		}
	})
}
