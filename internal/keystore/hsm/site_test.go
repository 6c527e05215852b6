package hsm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

const restoredID = "cluster-restored222"

// openSite opens a token whose user is logged in.
func openSite(t testing.TB, id string, ref pkcs11test.TokenRef) hsm.Site {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), ref.Config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { token.Close() })
	if err := token.Login(t.Context(), secret.NewText("1234")); err != nil {
		t.Fatalf("Login: %v", err)
	}
	return hsm.Site{ID: id, Token: token}
}

// newSites gives empty tokens.
func newSites(t testing.TB, n int) (sites []hsm.Site) {
	t.Helper()
	for i, ref := range pkcs11test.NewTokens(t, n) {
		sites = append(sites, openSite(t, hsmID(i), ref))
	}
	return sites
}

// established gives tokens of one cluster, all with the same cluster key.
func established(t testing.TB, n int) []hsm.Site {
	t.Helper()
	var sites []hsm.Site
	for i, ref := range preparedTokens(t)[:n] {
		sites = append(sites, openSite(t, hsmID(i), ref))
	}
	return sites
}

func generate(t testing.TB, at hsm.Site, template pkcs11.Template) pkcs11.Handle {
	t.Helper()
	template.Token = true
	h, err := at.Token.GenerateKey(t.Context(), template)
	if err != nil {
		t.Fatalf("GenerateKey: %v", err)
	}
	return h
}

func dataKey(label string) pkcs11.Template {
	return pkcs11.Template{Label: label, ID: []byte("id of " + label), Encrypt: true, Extractable: true}
}

// seal encrypts with a key of a token.
func seal(t testing.TB, at hsm.Site, h pkcs11.Handle) pkcs11.GCM {
	t.Helper()
	sealed, err := at.Token.EncryptGCM(t.Context(), h, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatalf("EncryptGCM: %v", err)
	}
	return sealed
}

// named gives the key objects with a label, and any id.
func named(t testing.TB, at hsm.Site, label string) []pkcs11.Handle {
	t.Helper()
	found, err := at.Token.FindKeys(t.Context(), label, nil)
	if err != nil {
		t.Fatalf("FindKeys: %v", err)
	}
	return found
}

// wantOpens checks that the one key with the label decrypts.
func wantOpens(t testing.TB, at hsm.Site, label string, sealed pkcs11.GCM) {
	t.Helper()
	found := named(t, at, label)
	if len(found) != 1 {
		t.Fatalf("%s has %d keys %q, want one", at.ID, len(found), label)
	}
	text, err := at.Token.DecryptGCM(t.Context(), found[0], sealed, []byte("aad"))
	if err != nil || string(text) != "plaintext" {
		t.Errorf("%s decrypts with %q to %q, %v", at.ID, label, text, err)
	}
}

// labels gives the labels of all keys of a token.
func labels(t testing.TB, at hsm.Site) (out []string) {
	t.Helper()
	objects, err := at.Token.ListKeys(t.Context())
	if err != nil {
		t.Fatalf("ListKeys: %v", err)
	}
	for _, o := range objects {
		if o.Label != "" || len(o.ID) > 0 { // SoftHSM2 leaves an object without a name where making a key was broken off
			out = append(out, o.Label)
		}
	}
	slices.Sort(out)
	return out
}

func wantLabels(t testing.TB, at hsm.Site, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := labels(t, at); !slices.Equal(got, want) {
		t.Errorf("%s has the keys %q, want %q", at.ID, got, want)
	}
}

func TestEstablishMakesOneClusterKeyAndRefusesTwo(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3)
	for range 2 { // it may be repeated
		if err := hsm.Establish(t.Context(), clusterID, sites[:2], nil); err != nil {
			t.Fatalf("Establish: %v", err)
		}
	}
	clusterKey := "kastellan cluster key " + clusterID
	wantLabels(t, sites[0], clusterKey)
	wantLabels(t, sites[1], clusterKey)
	lacking, err := hsm.Compare(t.Context(), clusterID, sites)
	if err != nil || fmt.Sprint(lacking) != fmt.Sprintf("map[%s:[%s]]", sites[2].ID, clusterKey) {
		t.Errorf("Compare gave %v, %v", lacking, err)
	}
	if err := hsm.Establish(t.Context(), clusterID, sites[2:], nil); err != nil {
		t.Fatalf("Establish: %v", err)
	}
	if err := hsm.Establish(t.Context(), clusterID, sites, nil); err == nil {
		t.Error("two different cluster keys were taken for one")
	}
	if _, err := hsm.Compare(t.Context(), clusterID, sites); err == nil {
		t.Error("Compare does not tell that the cluster keys differ")
	}
	if err := hsm.Establish(t.Context(), clusterID, nil, nil); err == nil {
		t.Error("a cluster key was established nowhere")
	}
}

func TestFillCopiesEveryKeyThatMayLeave(t *testing.T) {
	t.Parallel()
	sites := established(t, 2)
	fresh := newSites(t, 1)[0]
	fresh.ID = hsmID(2)
	onFirst := seal(t, sites[0], generate(t, sites[0], dataKey("only on the first")))
	onSecond := seal(t, sites[1], generate(t, sites[1], dataKey("only on the second")))
	generate(t, sites[0], pkcs11.Template{Label: "wrapping key of a user", Wrap: true, Extractable: true})
	generate(t, sites[0], pkcs11.Template{Label: "stays where it is", Encrypt: true})
	generate(t, sites[0], pkcs11.Template{Label: "kastellan probe", Encrypt: true, Extractable: true})

	lacking, err := hsm.Compare(t.Context(), clusterID, append(sites, fresh))
	want := fmt.Sprint(map[string][]string{
		sites[0].ID: {"only on the second"},
		sites[1].ID: {"only on the first", "wrapping key of a user"},
		fresh.ID:    {"kastellan cluster key " + clusterID, "only on the first", "only on the second", "wrapping key of a user"},
	})
	if err != nil || fmt.Sprint(lacking) != want {
		t.Errorf("Compare gave %v, %v,\nwant %s", lacking, err, want)
	}
	for _, copied := range []int{3, 0} { // it may be repeated
		if n, err := hsm.Fill(t.Context(), clusterID, sites, fresh, nil); err != nil || n != copied {
			t.Fatalf("Fill copied %d keys, %v, want %d", n, err, copied)
		}
	}
	wantLabels(t, fresh, "kastellan cluster key "+clusterID, "only on the first", "only on the second", "wrapping key of a user")
	wantOpens(t, fresh, "only on the first", onFirst)
	wantOpens(t, fresh, "only on the second", onSecond)
	if a, err := fresh.Token.Attributes(t.Context(), named(t, fresh, "wrapping key of a user")[0]); err != nil || !a.Wrap || a.Encrypt || !a.Sensitive {
		t.Errorf("the user's wrapping key became %+v, %v", a, err)
	}
}

func TestFillFailsWhenAKeyCannotBeCopied(t *testing.T) {
	t.Parallel()
	sites := established(t, 1)
	fresh := newSites(t, 1)[0]
	// Its cluster key is not marked as trusted.
	generate(t, sites[0], pkcs11.Template{Label: "chained", Encrypt: true, Extractable: true, WrapWithTrusted: true})
	if _, err := hsm.Fill(t.Context(), clusterID, sites, fresh, nil); !errors.Is(err, rv("", pkcs11.CKR_KEY_NOT_WRAPPABLE)) {
		t.Errorf("Fill ended with %v, want CKR_KEY_NOT_WRAPPABLE", err)
	}
	if _, err := hsm.Fill(t.Context(), clusterID, newSites(t, 1), newSites(t, 1)[0], nil); err == nil {
		t.Error("an HSM was filled from one without a cluster key")
	}
	if _, err := hsm.Fill(t.Context(), clusterID, nil, fresh, nil); err != nil {
		t.Errorf("Fill from nobody for one that has the cluster key: %v", err)
	}
}

// Keys of the same name are told apart by what they did.
func TestFillCopiesDifferentKeysOfOneName(t *testing.T) {
	t.Parallel()
	sites := established(t, 2)
	first := seal(t, sites[0], generate(t, sites[0], dataKey("twin")))
	generate(t, sites[1], dataKey("twin"))
	if n, err := hsm.Fill(t.Context(), clusterID, sites[:1], sites[1], nil); err != nil || n != 1 {
		t.Fatalf("Fill copied %d keys, %v", n, err)
	}
	opened := 0
	for _, h := range named(t, sites[1], "twin") {
		if _, err := sites[1].Token.DecryptGCM(t.Context(), h, first, []byte("aad")); err == nil {
			opened++
		}
	}
	if opened != 1 {
		t.Errorf("%d keys decrypt what the first HSM encrypted, want one", opened)
	}
}

// exported is a cluster of one HSM with two keys, and its backup.
type exported struct {
	vault hsm.Site
	keys  []hsm.WrappedKey
	a, b  pkcs11.GCM
}

func export(t testing.TB) exported {
	t.Helper()
	old, vault := established(t, 1)[0], newSites(t, 1)[0]
	vault.ID = "vault"
	e := exported{vault: vault}
	e.a = seal(t, old, generate(t, old, dataKey("a")))
	e.b = seal(t, old, generate(t, old, dataKey("b")))
	generate(t, old, pkcs11.Template{Label: "stays where it is", Encrypt: true})
	var err error
	if e.keys, err = hsm.Export(t.Context(), clusterID, old, vault, nil); err != nil {
		t.Fatalf("Export: %v", err)
	}
	slices.SortFunc(e.keys, func(x, y hsm.WrappedKey) int { return strings.Compare(x.Label, y.Label) })
	if len(e.keys) != 2 || e.keys[0].Label != "a" || e.keys[1].Label != "b" {
		t.Fatalf("Export gave %+v", e.keys)
	}
	wantLabels(t, vault, "kastellan cluster key "+clusterID)
	text, err := json.Marshal(e.keys)
	if err != nil {
		t.Fatal(err)
	}
	e.keys = nil
	if err := json.Unmarshal(text, &e.keys); err != nil { // as a backup is kept
		t.Fatal(err)
	}
	for _, h := range append(named(t, old, "a"), append(named(t, old, "b"), named(t, old, "kastellan cluster key "+clusterID)...)...) {
		if err := old.Token.Destroy(t.Context(), h); err != nil {
			t.Fatalf("Destroy: %v", err)
		}
	}
	return e
}

func TestKeysOfALostClusterComeBackInAnotherOne(t *testing.T) {
	t.Parallel()
	e := export(t)
	fresh := newSites(t, 2)
	if err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, e.keys, fresh[0], nil); err != nil {
		t.Fatalf("Import: %v", err)
	}
	if _, err := hsm.Fill(t.Context(), restoredID, fresh[:1], fresh[1], nil); err != nil {
		t.Fatalf("Fill: %v", err)
	}
	if err := hsm.Establish(t.Context(), restoredID, fresh, nil); err != nil {
		t.Fatalf("Establish: %v", err)
	}
	for _, site := range fresh {
		wantLabels(t, site, "kastellan cluster key "+restoredID, "a", "b")
		wantOpens(t, site, "a", e.a)
		wantOpens(t, site, "b", e.b)
	}
	// The restored cluster is exported in its turn, to the same vault.
	again, err := hsm.Export(t.Context(), restoredID, fresh[1], e.vault, nil)
	if err != nil || len(again) != 2 {
		t.Fatalf("Export gave %d keys, %v", len(again), err)
	}
	wantLabels(t, e.vault, "kastellan cluster key "+clusterID, "kastellan cluster key "+restoredID)
	third := newSites(t, 1)[0]
	if err := hsm.Import(t.Context(), restoredID, clusterID, e.vault, again, third, nil); err != nil {
		t.Fatalf("Import: %v", err)
	}
	wantOpens(t, third, "a", e.a)
}

// The KMS keys of a store whose cluster is lost work in the cluster that was restored from its backup.
func TestKeyStoreGoesOnWithARestoredCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	closeConnection(c)
	vault := newSites(t, 1)[0]
	keys, err := hsm.Export(t.Context(), clusterID, hsm.Site{ID: hsmID(0), Token: r.behind(t, 0)}, vault, nil)
	if err != nil {
		t.Fatalf("Export: %v", err)
	}
	refs := pkcs11test.NewTokens(t, 2)
	first, second := openSite(t, hsmID(0), refs[0]), openSite(t, hsmID(1), refs[1])
	if err := hsm.Import(t.Context(), clusterID, restoredID, vault, keys, first, nil); err != nil {
		t.Fatalf("Import: %v", err)
	}
	if _, err := hsm.Fill(t.Context(), restoredID, []hsm.Site{first}, second, nil); err != nil {
		t.Fatalf("Fill: %v", err)
	}
	first.Token.Close()
	second.Token.Close()
	restored := rigOn(t, refs, func(r *rig) { r.cluster().ID, r.cfg.HSM.ClusterID = restoredID, restoredID })
	c = restored.connect(t)
	mustDecrypt(t, c, key, sealed)
	later := createKey(t, c)
	mustDecrypt(t, c, later, mustEncrypt(t, c, later))
}

// A token may refuse an object for a moment that it has, such as SoftHSM2 while another process writes it. What was taken of the
// others is no backup.
func TestExportLeavesOutNoKeyThatIsListed(t *testing.T) {
	t.Parallel()
	site, vault := established(t, 1)[0], newSites(t, 1)[0]
	generate(t, site, dataKey("a"))
	refuse, compared := on(rv("C_EncryptInit", pkcs11.CKR_KEY_HANDLE_INVALID), "EncryptGCM"), false
	site.Token = &faultyToken{Token: site.Token, fault: func(call string) error {
		if call == "EncryptGCM" && !compared { // the cluster keys are compared first
			compared = true
			return nil
		}
		return refuse(call)
	}}
	if keys, err := hsm.Export(t.Context(), clusterID, site, vault, nil); err == nil {
		t.Errorf("Export gave %d keys of 1", len(keys))
	}
}

func TestImportAfterACrashMakesNothingTwice(t *testing.T) {
	t.Parallel()
	e := export(t)
	fresh := newSites(t, 1)[0]
	for _, tt := range []struct {
		call string // at which the HSM is lost
		skip int    // calls for the comparison of cluster keys, which come first
	}{{"UnwrapFromTransport", 0}, {"UnwrapKey", 0}, {"after:UnwrapKey", 1}, {"DecryptGCM", 1}} {
		met := 0
		lost := &faultyToken{Token: fresh.Token, fault: func(call string) error {
			if call != tt.call {
				return nil
			}
			if met++; met <= tt.skip {
				return nil
			}
			return pkcs11.ErrLost
		}}
		err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, e.keys, hsm.Site{ID: "fresh", Token: lost}, nil)
		if !errors.Is(err, pkcs11.ErrLost) {
			t.Fatalf("with the HSM lost at %s Import ended with %v", tt.call, err)
		}
	}
	if err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, e.keys, fresh, nil); err != nil {
		t.Fatalf("Import again: %v", err)
	}
	wantLabels(t, fresh, "kastellan cluster key "+restoredID, "a", "b")
	wantOpens(t, fresh, "a", e.a)
	wantOpens(t, fresh, "b", e.b)
}

func TestImportRefusesWhatExportDidNotGive(t *testing.T) {
	t.Parallel()
	e := export(t)
	foreign := export(t) // the same prepared cluster key
	stranger := newSites(t, 1)[0]
	if err := hsm.Establish(t.Context(), clusterID, []hsm.Site{stranger}, nil); err != nil {
		t.Fatal(err)
	}
	generate(t, stranger, dataKey("a"))
	strange, err := hsm.Export(t.Context(), clusterID, stranger, newSites(t, 1)[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(w *hsm.WrappedKey)
	}{
		{"a changed byte of the wrapped key", func(w *hsm.WrappedKey) { w.Wrapped[len(w.Wrapped)-1] ^= 1 }},
		{"another mechanism", func(w *hsm.WrappedKey) { w.Wrapped[0] ^= 3 }},
		{"a wrapped key that was cut", func(w *hsm.WrappedKey) { w.Wrapped = w.Wrapped[:len(w.Wrapped)-8] }},
		{"no wrapped key", func(w *hsm.WrappedKey) { w.Wrapped = nil }},
		{"the wrapped key of another label", func(w *hsm.WrappedKey) { w.Wrapped = e.keys[1].Wrapped }},
		{"a key of another cluster", func(w *hsm.WrappedKey) { *w = strange[0] }},
		{"another label", func(w *hsm.WrappedKey) { w.Label = "b" }},
		{"the label of a cluster key", func(w *hsm.WrappedKey) { w.Label = "kastellan cluster key " + restoredID }},
		{"another id", func(w *hsm.WrappedKey) { w.ID = []byte("other") }},
		{"a permission that the key did not have", func(w *hsm.WrappedKey) { w.Wrap = true }},
		{"a restriction that the key did not have", func(w *hsm.WrappedKey) { w.WrapWithTrusted = true }},
		{"no known answer", func(w *hsm.WrappedKey) { w.Known = nil }},
		{"the known answer of the same label elsewhere", func(w *hsm.WrappedKey) { w.Known = foreign.keys[0].Known }},
	} {
		fresh := newSites(t, 1)[0]
		w := e.keys[0]
		w.Wrapped, w.Known = slices.Clone(w.Wrapped), slices.Clone(w.Known)
		tt.change(&w)
		err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, []hsm.WrappedKey{w}, fresh, nil)
		if err == nil {
			t.Errorf("%s: it was imported", tt.name)
		}
		wantLabels(t, fresh, "kastellan cluster key "+restoredID)
	}
}

func TestImportNeedsTheClusterKeyOfTheVaultAndNoOther(t *testing.T) {
	t.Parallel()
	e := export(t)
	other := newSites(t, 1)[0]
	if err := hsm.Establish(t.Context(), restoredID, []hsm.Site{other}, nil); err != nil {
		t.Fatal(err)
	}
	if err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, e.keys, other, nil); err == nil {
		t.Error("keys were imported into an HSM that has another cluster key")
	}
	wantLabels(t, other, "kastellan cluster key "+restoredID)
	for range 2 { // it may be repeated
		if err := hsm.Forget(t.Context(), clusterID, e.vault); err != nil {
			t.Fatalf("Forget: %v", err)
		}
	}
	wantLabels(t, e.vault)
	fresh := newSites(t, 1)[0]
	if err := hsm.Import(t.Context(), clusterID, restoredID, e.vault, e.keys, fresh, nil); err == nil {
		t.Error("keys were imported without a cluster key")
	}
	wantLabels(t, fresh)
}
