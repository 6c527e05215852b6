package rack_test

import (
	"context"
	"errors"
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

func TestNothingIsUsableBeforeSomebodyIsIn(t *testing.T) {
	t.Parallel()
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	shared := openShared(t, r, hsm)
	g := newGate(t, r, hsm, "kms", newDoor(t))
	handle := generate(t, shared, dataKey) // one that is good for the token
	wrapping := generate(t, shared, pkcs11.Template{Label: "w", Wrap: true})
	pair, err := shared.MakeTransportKey(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(ctx context.Context) error{
		"C_GenerateKey":       func(ctx context.Context) error { _, err := g.GenerateKey(ctx, dataKey); return err },
		"C_FindObjectsInit":   func(ctx context.Context) error { _, err := g.FindKeys(ctx, "data", nil); return err },
		"C_FindObjectsInit ":  func(ctx context.Context) error { _, err := g.ListKeys(ctx); return err },
		"C_GetAttributeValue": func(ctx context.Context) error { _, err := g.Attributes(ctx, handle); return err },
		"C_DestroyObject":     func(ctx context.Context) error { return g.Destroy(ctx, handle) },
		"C_EncryptInit":       func(ctx context.Context) error { _, err := g.EncryptGCM(ctx, handle, nil, nil); return err },
		"C_DecryptInit":       func(ctx context.Context) error { _, err := g.DecryptGCM(ctx, handle, pkcs11.GCM{}, nil); return err },
		"C_WrapKey":           func(ctx context.Context) error { _, err := g.WrapKey(ctx, wrapping, handle); return err },
		"C_UnwrapKey": func(ctx context.Context) error {
			_, err := g.UnwrapKey(ctx, wrapping, []byte{1, 2}, dataKey)
			return err
		},
		"C_GenerateKeyPair": func(ctx context.Context) error { _, err := g.MakeTransportKey(ctx); return err },
		"C_WrapKey ":        func(ctx context.Context) error { _, err := g.WrapForTransport(ctx, pair.Public, handle); return err },
		"C_UnwrapKey ": func(ctx context.Context) error {
			_, err := g.UnwrapFromTransport(ctx, pair, []byte{1, 2}, dataKey)
			return err
		},
		"C_SetPIN": func(ctx context.Context) error { return g.SetPIN(ctx, secret.NewText("a:b"), secret.NewText("a:c")) },
	}
	check := func(when string) {
		for name, call := range calls {
			if err := call(testContext(t)); !errors.Is(err, rv(pkcs11.CKR_USER_NOT_LOGGED_IN)) {
				t.Errorf("%s: %s: %v", when, name, err)
			}
		}
	}
	check("before a login")
	if err := g.Login(testContext(t), secret.NewText("kmsuser:wrong")); !errors.Is(err, rv(pkcs11.CKR_PIN_INCORRECT)) {
		t.Errorf("a wrong password: %v", err)
	}
	check("after a refused login")
	logIn(t, g, "kmsuser:right")
	if err := g.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	check("after a logout")
	if keys, err := shared.FindKeys(testContext(t), "data", nil); err != nil || len(keys) != 1 {
		t.Errorf("there are %d keys, %v", len(keys), err)
	}
	if info, err := g.Info(testContext(t)); err != nil || info.Label != "cluster-a" {
		t.Errorf("Info: %+v, %v", info, err)
	}
	if b, err := g.Random(testContext(t), 16); err != nil || len(b) != 16 {
		t.Errorf("Random: %d bytes, %v", len(b), err)
	}
}

func TestTheDoorkeeperDecidesAndItsRefusalsArePassedOn(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	g := newGate(t, r, hsm, "kms", d)
	for i, c := range []struct {
		pin  string
		want uint
	}{
		{"bob:x", pkcs11.CKR_USER_PIN_NOT_INITIALIZED},
		{"kmsuser:wrong", pkcs11.CKR_PIN_INCORRECT},
		{"kmsuser:wrong", pkcs11.CKR_PIN_INCORRECT},
		{"kmsuser:wrong", pkcs11.CKR_PIN_INCORRECT},
		{"kmsuser:right", pkcs11.CKR_PIN_LOCKED},
	} {
		var refusal *pkcs11.Error
		err := g.Login(testContext(t), secret.NewText(c.pin))
		if !errors.As(err, &refusal) || refusal.RV != c.want || refusal.Function != "C_Login" {
			t.Errorf("%d: %v, want %s", i, err, pkcs11.RVName(c.want))
		}
	}
	logIn(t, g, "alice:secret") // the token itself is not locked
	if err := g.Login(testContext(t), secret.NewText("alice:secret")); !errors.Is(err, rv(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Errorf("a second login: %v", err)
	}
	other := newGate(t, r, hsm, "a shell", d)
	if err := other.Login(testContext(t), secret.NewText("alice:secret")); !errors.Is(err, rv(pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN)) {
		t.Errorf("a login while the user is in elsewhere: %v", err)
	}
	if d.holder("alice") != "kms" {
		t.Errorf("alice is in for %q", d.holder("alice"))
	}
}

func TestGatesOfOneHSMDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	kms, shell := newGate(t, r, hsm, "kms", d), newGate(t, r, hsm, "a shell", d)
	logIn(t, kms, "kmsuser:right")
	logIn(t, shell, "alice:secret")
	key := generate(t, kms, dataKey)
	seen, err := shell.FindKeys(testContext(t), "data", []byte{1, 2})
	if err != nil || len(seen) != 1 {
		t.Fatalf("the other gate sees %d keys, %v", len(seen), err)
	}
	if err := shell.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if d.holder("alice") != "" || d.holder("kmsuser") != "kms" {
		t.Error("the wrong one has left")
	}
	if err := encrypt(kms, key); err != nil {
		t.Errorf("encrypting after another gate's logout: %v", err)
	}
	mustClose(t, shell)
	if err := encrypt(kms, key); err != nil {
		t.Errorf("encrypting after another gate was closed: %v", err)
	}
	if err := shell.Login(testContext(t), secret.NewText("alice:secret")); !errors.Is(err, rack.ErrClosed) {
		t.Errorf("logging in at a closed gate: %v", err)
	}
	if n := d.asked; n != 2 {
		t.Errorf("the doorkeeper was asked %d times", n)
	}
}

func TestHandlesEndWithTheStay(t *testing.T) {
	t.Parallel()
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	g := newGate(t, r, hsm, "kms", newDoor(t))
	var old []pkcs11.Handle
	for range 3 {
		logIn(t, g, "kmsuser:right")
		for _, h := range old {
			if err := encrypt(g, h); !errors.Is(err, pkcs11.ErrLost) {
				t.Errorf("a handle from before the logout: %v", err)
			}
			if err := g.Destroy(testContext(t), h); !errors.Is(err, pkcs11.ErrLost) {
				t.Errorf("destroying by a handle from before the logout: %v", err)
			}
		}
		key := generate(t, g, dataKey)
		if err := encrypt(g, key); err != nil {
			t.Error(err)
		}
		old = append(old, key)
		if err := g.Logout(testContext(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestSetPINChangesTheUsersPasswordOnly(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	r, hsm := rack.New(rack.Config{}), newHSM(t)
	g := newGate(t, r, hsm, "kms", d)
	logIn(t, g, "kmsuser:right")
	if err := g.SetPIN(testContext(t), secret.NewText("kmsuser:wrong"), secret.NewText("kmsuser:new")); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("with a wrong old password: %v", err)
	}
	if err := g.SetPIN(testContext(t), secret.NewText("kmsuser:right"), secret.NewText("kmsuser:new")); err != nil {
		t.Fatal(err)
	}
	if err := g.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	logIn(t, g, "kmsuser:new")
	openShared(t, rack.New(rack.Config{}), hsm) // the token's PIN is what it was
}

func TestGatesCarryKeysBetweenHSMs(t *testing.T) {
	t.Parallel()
	r, from, to := rack.New(rack.Config{}), newHSM(t), newHSM(t)
	a, b := newGate(t, r, from, "kms", newDoor(t)), newGate(t, r, to, "kms", newDoor(t))
	logIn(t, a, "kmsuser:right")
	logIn(t, b, "kmsuser:right")
	clusterKey := pkcs11.Template{Label: "cluster", Token: true, Wrap: true, Extractable: true}
	wrapping, key := generate(t, a, clusterKey), generate(t, a, dataKey)
	pair, err := b.MakeTransportKey(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	carried, err := a.WrapForTransport(testContext(t), pair.Public, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	unwrapping, err := b.UnwrapFromTransport(testContext(t), pair, carried, clusterKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := a.WrapKey(testContext(t), wrapping, key)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := b.UnwrapKey(testContext(t), unwrapping, wrapped, dataKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := a.EncryptGCM(testContext(t), key, []byte("text"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := b.DecryptGCM(testContext(t), copied, sealed, []byte("aad")); err != nil || string(text) != "text" {
		t.Errorf("decrypting on the other HSM: %q, %v", text, err)
	}
	if at, err := b.Attributes(testContext(t), copied); err != nil || at.Label != "data" {
		t.Errorf("attributes: %+v, %v", at, err)
	}
	if keys, err := b.ListKeys(testContext(t)); err != nil || len(keys) != 2 {
		t.Errorf("the other HSM has %d keys, %v", len(keys), err)
	}
}
