//go:build cgo && unix

package pkcs11_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
)

func TestSigningKeySignsACertificateRequest(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config()).(pkcs11.SigningToken)
	made, err := token.MakeSigningKey(testContext(t), "identity")
	if err != nil {
		t.Fatal(err)
	}
	if bits := made.Public.N.BitLen(); bits != 2048 || made.Public.E != 65537 {
		t.Errorf("the key has %d bits and the exponent %d", bits, made.Public.E)
	}
	found, err := token.FindSigningKeys(testContext(t), "identity")
	if err != nil || len(found) != 1 || !found[0].Public.Equal(made.Public) {
		t.Fatalf("found %d keys, %v", len(found), err)
	}
	if other, err := token.FindSigningKeys(testContext(t), "another"); err != nil || len(other) != 0 {
		t.Errorf("found %d keys with another label, %v", len(other), err)
	}
	signer := pkcs11.NewSigner(testContext(t), token, found[0])
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a cluster"}, SignatureAlgorithm: x509.SHA256WithRSA,
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil {
		t.Error(err)
	}
	if _, err := signer.Sign(nil, make([]byte, 48), crypto.SHA384); err == nil {
		t.Error("a digest of SHA-384 was signed")
	}
	if _, err := signer.Sign(nil, make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256}); err == nil {
		t.Error("a signature with PSS was made")
	}
	if _, err := token.Sign(testContext(t), found[0], make([]byte, 20)); err == nil {
		t.Error("a digest of 20 bytes was signed")
	}
}

func TestSigningKeyStaysInTheToken(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config()).(pkcs11.SigningToken)
	key, err := token.MakeSigningKey(testContext(t), "identity")
	if err != nil {
		t.Fatal(err)
	}
	a, err := token.Attributes(testContext(t), key.Private)
	if err != nil || !a.Sensitive || a.Extractable || !a.NeverExtractable || !a.Local || a.Decrypt || a.Unwrap {
		t.Errorf("attributes: %+v, %v", a, err)
	}
	wrapping := generate(t, token, pkcs11.Template{Label: "wrapping", Wrap: true})
	if _, err := token.WrapKey(testContext(t), wrapping, key.Private); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_KEY_UNEXTRACTABLE}) {
		t.Errorf("wrapping it: %v", err)
	}
	if keys, err := token.ListKeys(testContext(t)); err != nil || len(keys) != 1 {
		t.Errorf("it is listed among the secret keys: %d, %v", len(keys), err)
	}
	if err := token.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := token.FindSigningKeys(testContext(t), "identity"); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_USER_NOT_LOGGED_IN}) {
		t.Errorf("finding it without a login: %v", err)
	}
	if _, err := token.Sign(testContext(t), key, make([]byte, 32)); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("signing after a logout: %v", err)
	}
}

func TestSigningGoesOnAfterASessionFailed(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	token := b.Token.(pkcs11.SigningToken)
	key, err := token.MakeSigningKey(testContext(t), "identity")
	if err != nil {
		t.Fatal(err)
	}
	b.faults.Set(t, "C_Sign rv=0x5 count=1")
	if _, err := token.Sign(testContext(t), key, make([]byte, 32)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_GENERAL_ERROR}) {
		t.Errorf("the signature that fails: %v", err)
	}
	digest := bytes.Repeat([]byte{7}, 32)
	signature, err := token.Sign(testContext(t), key, digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(key.Public, crypto.SHA256, digest, signature); err != nil {
		t.Error(err)
	}
}

func TestReinitialisedTokenIsEmptyAndHasTheNewPIN(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	generate(t, token, dataKey)
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := ref.Config()
	cfg.URI.Token = "" // the label is about to change
	wrong := secret.NewText("87654321")
	if _, err := pkcs11.ReinitToken(testContext(t), cfg, "fresh", wrong, secret.NewText("new-pin")); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("with a wrong SO PIN: %v", err)
	}
	for range 2 { // the SO PIN stays
		info, err := pkcs11.ReinitToken(testContext(t), cfg, "fresh", secret.NewText(ref.SOPIN), secret.NewText("new-pin"))
		if err != nil || info.Label != "fresh" || info.Serial != ref.URI.Serial || !info.UserPINInitialized {
			t.Fatalf("the token is %+v, %v", info, err)
		}
	}
	token = open(t, cfg)
	if err := token.Login(testContext(t), secret.NewText(ref.PIN)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("logging in with the old PIN: %v", err)
	}
	if err := token.Login(testContext(t), secret.NewText("new-pin")); err != nil {
		t.Fatal(err)
	}
	if keys, err := token.ListKeys(testContext(t)); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
}

func TestReinitTokenRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	so := secret.NewText(ref.SOPIN)
	other := ref.Config()
	other.URI.Serial = "0000"
	for name, err := range map[string]error{
		"a label of 33 bytes": second(pkcs11.ReinitToken(testContext(t), ref.Config(), "123456789012345678901234567890123", so, so)),
		"no label":            second(pkcs11.ReinitToken(testContext(t), ref.Config(), "", so, so)),
		"no SO PIN":           second(pkcs11.ReinitToken(testContext(t), ref.Config(), "x", secret.Text{}, so)),
		"no module":           second(pkcs11.ReinitToken(testContext(t), pkcs11.Config{}, "x", so, so)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := pkcs11.ReinitToken(testContext(t), other, "x", so, so); !errors.Is(err, pkcs11.ErrNoToken) {
		t.Errorf("a token that is not there: %v", err)
	}
	if err := open(t, ref.Config()).Login(testContext(t), secret.NewText(ref.PIN)); err != nil {
		t.Errorf("the token was changed: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestDestroyObjectsLeavesNone(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config()).(pkcs11.SigningToken)
	generate(t, token, dataKey)
	generate(t, token, dataKey)
	if _, err := token.MakeSigningKey(testContext(t), "identity"); err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pkcs11.DestroyObjects(testContext(t), ref.Config(), secret.NewText("wrong")); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_PIN_INCORRECT}) {
		t.Errorf("with a wrong PIN: %v", err)
	}
	for _, want := range []int{4, 0} { // two keys and both halves of a pair
		if n, err := pkcs11.DestroyObjects(testContext(t), ref.Config(), secret.NewText(ref.PIN)); err != nil || n != want {
			t.Errorf("%d objects were destroyed instead of %d, %v", n, want, err)
		}
	}
	token = openLoggedIn(t, ref, ref.Config()).(pkcs11.SigningToken)
	keys, err := token.ListKeys(testContext(t))
	pairs, err2 := token.FindSigningKeys(testContext(t), "identity")
	if err := errors.Join(err, err2); err != nil || len(keys)+len(pairs) != 0 {
		t.Errorf("%d keys and %d pairs are left, %v", len(keys), len(pairs), err)
	}
}

func TestAnObjectThatCannotBeDestroyedIsAnError(t *testing.T) {
	t.Parallel()
	b := newBroken(t)
	b.faults.Set(t, "C_DestroyObject rv=0x1B")
	if _, err := pkcs11.DestroyObjects(testContext(t), b.ref.Config(), secret.NewText(b.ref.PIN)); !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_ACTION_PROHIBITED}) {
		t.Errorf("destroying it: %v", err)
	}
}
