//go:build cgo && unix

package pkcs11_test

import (
	"bytes"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
)

var wrappingKey = pkcs11.Template{Label: "wrapping", Token: true, Wrap: true, Extractable: true}

// same tells whether two handles, perhaps of two tokens, are the same key.
func same(t *testing.T, a pkcs11.Token, x pkcs11.Handle, b pkcs11.Token, y pkcs11.Handle) bool {
	t.Helper()
	sealed, err := a.EncryptGCM(testContext(t), x, []byte("known text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := b.DecryptGCM(testContext(t), y, sealed, nil)
	return err == nil && string(opened) == "known text"
}

func TestWrappedKeyIsTheSameKey(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	ctx := testContext(t)
	wrapping, key := generate(t, token, wrappingKey), generate(t, token, dataKey)
	wrapped, err := token.WrapKey(ctx, wrapping, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(wrapped) != 1+40 {
		t.Errorf("the wrapped key has %d bytes", len(wrapped))
	}
	template := pkcs11.Template{Label: "copy", ID: []byte{9}, Token: true, Encrypt: true, Extractable: true}
	unwrapped, err := token.UnwrapKey(ctx, wrapping, wrapped, template)
	if err != nil {
		t.Fatal(err)
	}
	if !same(t, token, key, token, unwrapped) {
		t.Error("another key came back")
	}
	attributes, err := token.Attributes(ctx, unwrapped)
	if err != nil || attributes.Label != "copy" || !attributes.Sensitive || !attributes.Encrypt || attributes.Wrap {
		t.Errorf("the copy is %+v, %v", attributes, err)
	}
	if _, err := token.WrapKey(ctx, wrapping, generate(t, token, pkcs11.Template{Label: "stays", Token: true, Encrypt: true})); err == nil {
		t.Error("a key that may not leave was wrapped")
	}
	if _, err := token.WrapKey(ctx, generate(t, token, dataKey), key); err == nil {
		t.Error("a key that may not wrap has wrapped")
	}
}

func TestUnwrappingRefusesWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token := openLoggedIn(t, ref, ref.Config())
	ctx := testContext(t)
	wrapping, other, key := generate(t, token, wrappingKey), generate(t, token, wrappingKey), generate(t, token, dataKey)
	wrapped, err := token.WrapKey(ctx, wrapping, key)
	if err != nil {
		t.Fatal(err)
	}
	template := pkcs11.Template{Label: "forged", Token: true, Encrypt: true}
	unwrap := func(with pkcs11.Handle, wrapped []byte) error {
		_, err := token.UnwrapKey(ctx, with, wrapped, template)
		return err
	}
	for i := range wrapped {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 0x80
		if unwrap(wrapping, changed) == nil {
			t.Errorf("with byte %d changed it unwraps", i)
		}
	}
	for name, forged := range map[string][]byte{
		"nothing": nil, "the mechanism alone": wrapped[:1], "a shorter one": wrapped[:33], "a longer one": append(bytes.Clone(wrapped), make([]byte, 8)...),
		"a transport's mechanism": append([]byte{0x12}, wrapped[1:]...),
	} {
		if unwrap(wrapping, forged) == nil {
			t.Errorf("%s unwraps", name)
		}
	}
	if unwrap(other, wrapped) == nil {
		t.Error("under another key it unwraps")
	}
	if found, err := token.FindKeys(ctx, "forged", nil); err != nil || len(found) != 0 {
		t.Errorf("%d keys are left behind, %v", len(found), err)
	}
}

func TestTransportCarriesAKeyFromTokenToToken(t *testing.T) {
	t.Parallel()
	refs := pkcs11test.NewTokens(t, 3)
	from, to, third := openLoggedIn(t, refs[0], refs[0].Config()), openLoggedIn(t, refs[1], refs[1].Config()), openLoggedIn(t, refs[2], refs[2].Config())
	ctx := testContext(t)
	key := generate(t, from, dataKey)
	pair, err := to.MakeTransportKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := from.WrapForTransport(ctx, pair.Public, key)
	if err != nil {
		t.Fatal(err)
	}
	carried, err := to.UnwrapFromTransport(ctx, pair, wrapped, pkcs11.Template{Label: "carried", Token: true, Encrypt: true})
	if err != nil {
		t.Fatal(err)
	}
	if !same(t, from, key, to, carried) {
		t.Error("another key arrived")
	}
	strange, err := third.MakeTransportKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := third.UnwrapFromTransport(ctx, strange, wrapped, dataKey); err == nil {
		t.Error("another token unwraps it")
	}
	for _, h := range []pkcs11.Handle{pair.Private, pair.PublicHandle} {
		if err := to.Destroy(ctx, h); err != nil {
			t.Error(err)
		}
	}
	if _, err := to.UnwrapFromTransport(ctx, pair, wrapped, dataKey); err == nil {
		t.Error("a destroyed transport key unwraps")
	}
	if wrapped, err = from.WrapForTransport(ctx, strange.Public, key); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(wrapped)
	changed[len(changed)-1] ^= 1
	if _, err := third.UnwrapFromTransport(ctx, strange, changed, dataKey); err == nil {
		t.Error("a changed one arrives")
	}
}

func TestModulesThatMakeIVs(t *testing.T) {
	t.Parallel()
	for source, faults := range map[pkcs11.IVSource][]string{
		pkcs11.IVByModule: {"C_EncryptInit make-iv"},
		pkcs11.IVInOutput: {"C_EncryptInit make-iv", "C_Encrypt append-iv"},
	} {
		t.Run("source "+string(source), func(t *testing.T) {
			t.Parallel()
			b := newBroken(t, func(cfg *pkcs11.Config) { cfg.IV = source })
			b.faults.Set(t, faults...)
			seen := map[string]bool{}
			for _, plaintext := range [][]byte{nil, []byte("x"), make([]byte, 4096)} {
				sealed, err := b.EncryptGCM(testContext(t), b.key, plaintext, []byte("aad"))
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed.IV) != 12 || len(sealed.Ciphertext) != len(plaintext) || seen[string(sealed.IV)] {
					t.Errorf("it gave %d bytes with the IV %x", len(sealed.Ciphertext), sealed.IV)
				}
				seen[string(sealed.IV)] = true
				if opened, err := b.DecryptGCM(testContext(t), b.key, sealed, []byte("aad")); err != nil || !bytes.Equal(opened, plaintext) {
					t.Errorf("DecryptGCM: %v", err)
				}
			}
		})
	}
}

// SoftHSM2 has no IVs of its own: what it does instead must be noticed,
// since an IV that repeats gives the key away.
func TestSourcesOfIVs(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	for source, works := range map[pkcs11.IVSource]bool{
		pkcs11.IVByCaller: true, pkcs11.IVFromTokenRNG: true, pkcs11.IVByModule: false, pkcs11.IVInOutput: false,
	} {
		t.Run("source "+string(source), func(t *testing.T) {
			t.Parallel()
			cfg := ref.Config()
			cfg.IV = source
			token := openLoggedIn(t, ref, cfg)
			key := generate(t, token, dataKey)
			seen := map[string]bool{}
			for range 50 {
				sealed, err := token.EncryptGCM(testContext(t), key, []byte("x"), nil)
				if works != (err == nil) {
					t.Fatalf("EncryptGCM: %v", err)
				}
				if works && seen[string(sealed.IV)] {
					t.Fatal("an IV repeats")
				}
				seen[string(sealed.IV)] = true
			}
		})
	}
}
