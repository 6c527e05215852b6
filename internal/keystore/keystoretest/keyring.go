package keystoretest

import (
	"bytes"
	"crypto/fips140"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// RunKeyring runs what every implementation of keystore.Keyring passes beside
// [Run]: keys of every spec, material that comes from elsewhere, copies.
func RunKeyring(t *testing.T, ring keystore.Keyring) {
	for _, spec := range keyspec.All() {
		t.Run(string(spec.Name), func(t *testing.T) {
			t.Parallel()
			if _, err := spec.Open(nil); unapproved(err) {
				t.Skip(err)
			}
			testMadeKey(t, ring, spec)
			testImportedKey(t, ring, spec)
		})
	}
}

// unapproved tells a refusal of what FIPS 140-3 does not approve, in a process
// that is held to it.
func unapproved(err error) bool {
	return fips140.Enforced() && kmsapi.CodeOf(err) == kmsapi.UnsupportedOperation
}

func keyOfSpec(spec *keyspec.Spec) keystore.NewKey {
	nk := RandomKey()
	nk.Spec = spec.Name
	return nk
}

func named(nk keystore.NewKey, m keystore.Material) keystore.Key {
	return keystore.Key{ID: nk.ID, ARN: nk.ARN, Data: m.Data}
}

// testMadeKey uses a key, and its copy under another name, as one.
func testMadeKey(t *testing.T, ring keystore.Keyring, spec *keyspec.Spec) {
	nk := keyOfSpec(spec)
	made, err := ring.CreateKey(t.Context(), callFor("CreateKey"), nk)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Asymmetric() != (len(made.PublicKey) > 0) {
		t.Errorf("the public key has %d bytes", len(made.PublicKey))
	}
	replica := nk
	replica.ARN = kmsapi.KeyARN("eu-west-1", "111122223333", nk.ID)
	copied, err := ring.Copy(t.Context(), callFor("ReplicateKey"), named(nk, made), replica)
	if err != nil {
		t.Fatal(err)
	}
	if copied.ID != made.ID || !bytes.Equal(copied.PublicKey, made.PublicKey) {
		t.Errorf("the copy is %s, the original %s", copied.ID, made.ID)
	}
	mustAgree(t, ring, spec, named(nk, made), named(replica, copied))
	if _, err := ring.Open(t.Context(), callFor("Sign"), named(replica, made), spec.Name); err == nil {
		t.Error("the material opens under another name than the one it was made for")
	}
	other := keyOfSpec(spec)
	if _, err := ring.Copy(t.Context(), callFor("ReplicateKey"), named(nk, made), other); err == nil {
		t.Error("the material was copied to another key")
	}
	ring.DeleteKey(t.Context(), callFor("DeleteKey"), named(nk, made))
}

// testImportedKey imports the same material twice, and then what is none.
func testImportedKey(t *testing.T, ring keystore.Keyring, spec *keyspec.Spec) {
	material, err := spec.Generate()
	if err != nil {
		t.Fatal(err)
	}
	given := bytes.Clone(material)
	nk := keyOfSpec(spec)
	first, err := ring.Import(t.Context(), callFor("ImportKeyMaterial"), nk, material)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(material, given) {
		t.Error("the material was changed")
	}
	clear(material)
	again, err := ring.Import(t.Context(), callFor("ImportKeyMaterial"), nk, given)
	if err != nil || again.ID != first.ID {
		t.Errorf("the second import gives %s, the first gave %s: %v", again.ID, first.ID, err)
	}
	elsewhere, err := ring.Import(t.Context(), callFor("ImportKeyMaterial"), keyOfSpec(spec), given)
	if err != nil || elsewhere.ID == first.ID {
		t.Errorf("the same material has the same name in two keys: %v", err)
	}
	mustAgree(t, ring, spec, named(nk, first), named(nk, again))
	for _, broken := range [][]byte{nil, given[1:], append([]byte{0}, given...)} {
		if _, err := ring.Import(t.Context(), callFor("ImportKeyMaterial"), nk, broken); kmsapi.CodeOf(err) != kmsapi.IncorrectKeyMaterial {
			t.Errorf("%d bytes of %d are imported: %v", len(broken), len(given), err)
		}
	}
}

// mustAgree wants two keys to be the same.
func mustAgree(t *testing.T, ring keystore.Keyring, spec *keyspec.Spec, a, b keystore.Key) {
	t.Helper()
	if spec.Symmetric() {
		sealed, err := ring.Encrypt(t.Context(), callFor("Encrypt"), a, nil, []byte("plaintext"), []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		opened, err := ring.Decrypt(t.Context(), callFor("Decrypt"), b, sealed, []byte("aad"))
		if err != nil || string(opened) != "plaintext" {
			t.Errorf("%q, %v", opened, err)
		}
		return
	}
	one, err := ring.Open(t.Context(), callFor("Sign"), a, spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ring.Open(t.Context(), callFor("Verify"), b, spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Asymmetric() && !bytes.Equal(one.SPKI(), two.SPKI()) {
		t.Error("the public keys differ")
	}
	for _, alg := range spec.MacAlgorithms(kmsapi.GenerateVerifyMac) {
		mac, err := one.MAC(alg, []byte("message"))
		if err == nil {
			err = two.VerifyMAC(alg, []byte("message"), mac)
		}
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	for _, alg := range spec.EncryptionAlgorithms(kmsapi.EncryptDecrypt) {
		ciphertext, err := one.Encrypt(alg, []byte("plaintext"))
		if unapproved(err) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if opened, err := two.Decrypt(alg, ciphertext); err != nil || string(opened) != "plaintext" {
			t.Errorf("%s: %q, %v", alg, opened, err)
		}
	}
	for _, alg := range spec.SigningAlgorithms(kmsapi.SignVerify) {
		message, as := []byte("message"), kmsapi.MessageRaw
		if alg == kmsapi.Ed25519phSHA512 {
			message, as = bytes.Repeat([]byte{1}, 64), kmsapi.MessageDigest
		}
		signature, err := one.Sign(alg, as, message)
		if err == nil {
			err = two.Verify(alg, as, message, signature)
		}
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if spec.Allows(kmsapi.EncapsulateDecapsulate) {
		shared, ciphertext, err := one.Encapsulate()
		if err != nil {
			t.Fatal(err)
		}
		if found, err := two.Decapsulate(ciphertext); err != nil || !bytes.Equal(found, shared) {
			t.Errorf("the shared secrets differ: %v", err)
		}
	}
}
