package hsm_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/keystore/keystoretest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

// behind opens a member's token as another process would, logged in.
func (r *rig) behind(t testing.TB, i int) pkcs11.Token {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), r.tokens[i].Config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { token.Close() })
	if err := token.Login(t.Context(), r.pw.Candidates()[0]); err != nil {
		t.Fatalf("Login: %v", err)
	}
	return token
}

// destroy destroys a key on a member behind the store's back.
func (r *rig) destroy(t testing.TB, i int, label string) {
	t.Helper()
	token := r.behind(t, i)
	found, err := token.FindKeys(t.Context(), label, nil)
	if err != nil || len(found) == 0 {
		t.Fatalf("FindKeys gave %d keys, %v", len(found), err)
	}
	for _, h := range found {
		if err := token.Destroy(t.Context(), h); err != nil {
			t.Fatalf("Destroy: %v", err)
		}
	}
}

// has tells whether a member has a key, seen from another process.
func (r *rig) has(t testing.TB, i int, label string) bool {
	t.Helper()
	token := r.behind(t, i)
	defer token.Close()
	found, err := token.FindKeys(t.Context(), label, nil)
	if err != nil {
		t.Fatalf("FindKeys: %v", err)
	}
	return len(found) > 0
}

func TestKeyThatVanishesFromOneMemberIsRestored(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	r.destroy(t, 0, key.ARN)
	polltest.Until(t, "the key is back", func() bool {
		mustDecrypt(t, c, key, sealed)
		return r.has(t, 0, key.ARN)
	})
	r.destroy(t, 1, key.ARN)
	mustDecrypt(t, c, key, sealed)
}

func TestKeyThatVanishesFromAllMembersIsMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	mustEncrypt(t, c, key)
	closeConnection(c)
	r.destroy(t, 0, key.ARN)
	r.destroy(t, 1, key.ARN)
	c = r.resume(t)
	polltest.Until(t, "both serve", allHealthy(c))
	_, err := c.Encrypt(t.Context(), call("Encrypt"), key, nil, []byte("x"), nil)
	wantCode(t, err, kmsapi.KMSInvalidState)
	if !strings.Contains(err.Error(), "does not have the key material") {
		t.Errorf("the text is %v", err)
	}
}

func TestObjectThatOnlyHasTheLabelIsNotUsed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	closeConnection(c)
	for i := range r.tokens {
		if i == 0 {
			r.destroy(t, i, key.ARN)
		}
		if _, err := r.behind(t, i).GenerateKey(t.Context(), pkcs11.Template{Label: key.ARN, ID: []byte(key.ID), Token: true, Encrypt: true}); err != nil {
			t.Fatal(err)
		}
	}
	c = r.resume(t)
	for range 6 {
		mustDecrypt(t, c, key, sealed)
		mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	}
}

func TestCreateKeyIsUndoneWhenItFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault func(string) error
	}{
		{"with no room on the other member", on(rv("C_UnwrapKey", pkcs11.CKR_DEVICE_MEMORY), "UnwrapKey")},
		{"with the answer of the generator lost", on(pkcs11.ErrLost, "after:GenerateKey")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2)
			c := r.connect(t)
			r.fail(0, tt.fault)
			r.fail(1, tt.fault)
			nk := keystoretest.RandomKey()
			if _, err := c.CreateKey(t.Context(), call("CreateKey"), nk); err == nil {
				t.Fatal("CreateKey succeeded")
			}
			r.fail(0, nil)
			r.fail(1, nil)
			polltest.Until(t, "both serve", allHealthy(c))
			if err := c.DeleteKey(t.Context(), call("CreateKey"), keystore.Key{ID: nk.ID, ARN: nk.ARN}); err != nil {
				t.Fatalf("DeleteKey: %v", err)
			}
			if r.has(t, 0, nk.ARN) || r.has(t, 1, nk.ARN) {
				t.Error("the key is still there")
			}
		})
	}
}

func TestKeyIsBegunAgainInAnotherMember(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	r.fail(0, on(rv("C_GenerateKey", pkcs11.CKR_GENERAL_ERROR), "GenerateKey"))
	for range 2 {
		key := createKey(t, c)
		mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	}
}

func TestDeletedKeyIsNotBroughtBackByAMemberThatWasAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	c := r.connect(t)
	key := createKey(t, c)
	r.fail(2, always(pkcs11.ErrLost))
	polltest.Until(t, "the member is away", func() bool { return states(c)[2] != "HEALTHY" })
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err == nil {
		t.Fatal("DeleteKey succeeded although a member that has the key is away")
	}
	if r.has(t, 0, key.ARN) || r.has(t, 1, key.ARN) {
		t.Error("the key is still on the members that are there")
	}
	r.fail(2, nil)
	polltest.Until(t, "all serve", allHealthy(c))
	if r.has(t, 0, key.ARN) || r.has(t, 1, key.ARN) {
		t.Error("the member that was away brought the key back")
	}
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err != nil {
		t.Fatalf("DeleteKey: %v", err)
	}
	if r.has(t, 2, key.ARN) {
		t.Error("the key is still on the member that was away")
	}
}

func TestNewMemberGetsClusterKeyAndKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(t)
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	closeConnection(c)

	bigger := rigOn(t, append(r.tokens, pkcs11test.NewToken(t, "third", r.pw.Candidates()[0].Reveal())))
	bigger.cfg, bigger.pw = r.cfg, r.pw
	bigger.cfg.HSM.TrustAnchor = bigger.cluster().TrustAnchor
	c = bigger.connect(t)
	bigger.fail(0, always(pkcs11.ErrLost))
	bigger.fail(1, always(pkcs11.ErrLost))
	mustDecrypt(t, c, key, sealed)
}

func TestProvisionMakesTheClusterKeyThatConnectingFinds(t *testing.T) {
	t.Parallel()
	r := freshRig(t, 3)
	for range 2 { // it may be repeated
		err := r.kind.Provision(t.Context(), *r.cluster(), secret.NewText("1234"), secret.NewText("12345678"))
		if err != nil {
			t.Fatalf("Provision: %v", err)
		}
	}
	r.fail(2, always(pkcs11.ErrLost))
	createKey(t, r.connect(t)) // which would not make a cluster key now
}

// SoftHSM2 cannot mark the cluster key trusted, but it keeps keys from
// leaving under one that is not.
func TestKeysLeaveUnderTrustedKeysOnlyWhereTheClusterKeyIsTrusted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, func(r *rig) { r.trust = true })
	c := r.connect(t)
	for i, m := range c.Status().Members {
		if !m.Trusted {
			t.Fatalf("the cluster key of member %d is not said to be trusted", i)
		}
	}
	_, err := c.CreateKey(t.Context(), call("CreateKey"), keystoretest.RandomKey())
	if !errors.Is(err, rv("", pkcs11.CKR_KEY_NOT_WRAPPABLE)) {
		t.Errorf("CreateKey ended with %v, want CKR_KEY_NOT_WRAPPABLE", err)
	}
}

// Two ways to one token stand for a cluster that replicates by itself.
func TestModuleThatReplicatesIsWaitedFor(t *testing.T) {
	t.Parallel()
	token := pkcs11test.NewTokens(t, 1)[0]
	twin := token
	twin.Env = append([]string{"OTHER=way"}, token.Env...)
	r := rigOn(t, []pkcs11test.TokenRef{token, twin}, func(r *rig) { r.cluster().Replication = cloudhsm.ReplicationModule })
	c := r.connect(t)
	polltest.Until(t, "both serve", allHealthy(c)) // SoftHSM2 may refuse two processes that log in at once
	key := createKey(t, c)
	for range 4 {
		mustDecrypt(t, c, key, mustEncrypt(t, c, key))
	}
	if err := c.DeleteKey(t.Context(), call("DeleteKey"), key); err != nil {
		t.Errorf("DeleteKey: %v", err)
	}
}

// An HSM whose cluster key somebody deletes gets it again, and keys are made and copied as before.
func TestAClusterKeyThatIsDeletedIsCarriedAgain(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(hsmID(i), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2)
			c := r.connect(t)
			polltest.Until(t, "both members serve", allHealthy(c))
			createKey(t, c)
			r.destroy(t, i, hsm.ClusterKeyLabel(clusterID))
			var key keystore.Key
			polltest.Until(t, "a key can be made again", func() bool {
				nk := keystoretest.RandomKey()
				m, err := c.CreateKey(t.Context(), call("CreateKey"), nk)
				key = keystore.Key{ID: nk.ID, ARN: nk.ARN, Data: m.Data}
				return err == nil
			})
			for i := range 2 {
				if !r.has(t, i, key.ARN) || !r.has(t, i, hsm.ClusterKeyLabel(clusterID)) {
					t.Errorf("%s lacks the key or the cluster key", hsmID(i))
				}
			}
			mustDecrypt(t, c, key, mustEncrypt(t, c, key))
		})
	}
}
