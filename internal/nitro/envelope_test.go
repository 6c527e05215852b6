package nitro_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/nitro/nitrotest"
)

func TestTheEnclaveOpensWhatIsEncryptedForIt(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	a, err := v.Verify(e.Document(t, now), now)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "plaintext")
		kept := bytes.Clone(plaintext)
		ciphertext, err := a.EncryptFor(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plaintext, kept) {
			t.Fatal("the plaintext was changed")
		}
		opened, err := e.Open(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened %d bytes of %d, or other ones", len(opened), len(plaintext))
		}
	})
}

func TestKeysOfAllSizes(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 3072, 4096} {
		if testing.Short() && bits > 2048 {
			continue
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext, err := (&nitro.Attestation{PublicKey: &key.PublicKey}).EncryptFor([]byte("plaintext"))
		if err != nil {
			t.Fatalf("%d bits: %v", bits, err)
		}
		envelope, err := nitrotest.ParseEnvelope(ciphertext)
		if err != nil {
			t.Fatalf("%d bits: %v", bits, err)
		}
		if opened, err := envelope.Open(key); err != nil || string(opened) != "plaintext" {
			t.Errorf("%d bits: opened %q, %v", bits, opened, err)
		}
	}
}

func TestKeysThatNobodyEncryptsFor(t *testing.T) {
	t.Parallel()
	odd := func(bits int) *big.Int { return new(big.Int).SetBit(big.NewInt(1), bits-1, 1) }
	for name, key := range map[string]*rsa.PublicKey{
		"none":         nil,
		"empty":        {},
		"2047 bits":    {N: odd(2047), E: 65537},
		"4097 bits":    {N: odd(4097), E: 65537},
		"even modulus": {N: new(big.Int).Lsh(big.NewInt(3), 2047), E: 65537},
		"exponent 1":   {N: odd(2048), E: 1},
		"exponent 0":   {N: odd(2048)},
	} {
		ciphertext, err := (&nitro.Attestation{PublicKey: key}).EncryptFor([]byte("plaintext"))
		if ciphertext != nil || !errors.Is(err, nitro.ErrPublicKey) {
			t.Errorf("%s: got %x and %v", name, ciphertext, err)
		}
	}
}

func TestNothingIsUsedTwice(t *testing.T) {
	t.Parallel()
	e, _ := newEnclave(t)
	a := nitro.Attestation{PublicKey: &e.Key.PublicKey}
	seen := make(map[string]bool)
	for range 20 {
		ciphertext, err := a.EncryptFor(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := nitrotest.ParseEnvelope(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		contentKey, err := rsa.DecryptOAEP(sha256.New(), nil, e.Key, envelope.EncryptedKey, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, random := range [][]byte{contentKey, envelope.EncryptedKey, envelope.IV, bytes.Join(envelope.Chunks, nil)} {
			if seen[string(random)] {
				t.Fatalf("%x was there before", random)
			}
			seen[string(random)] = true
		}
	}
}

// The shape of answers of AWS KMS to an enclave with a key of 2048 bits, with
// zeros in place of what differs from answer to answer.
const (
	goldenHead = "3080" + "06092a864886f70d010703" + "a080" + "3080" + "020102" +
		"3182016b" + "30820167" + "020102" + "8020{key id}" +
		"303c" + "06092a864886f70d010107" + "302f" + "a00f300d06096086480165030402010500" +
		"a11c" + "301a" + "06092a864886f70d010108" + "300d06096086480165030402010500" +
		"04820100{encrypted key}" +
		"3080" + "06092a864886f70d010701" + "301d" + "060960864801650304012a" + "0410{iv}"
	goldenTail = "0000" + "0000" + "0000" + "0000" + "0000"
)

func TestTheShapeIsThatOfAWS(t *testing.T) {
	t.Parallel()
	e, _ := newEnclave(t)
	a := nitro.Attestation{PublicKey: &e.Key.PublicKey}
	for size, chunks := range map[int]string{
		0:    "0410{0}",
		32:   "0430{0}",
		1023: "04820400{0}",
		1024: "04820400{0}" + "0410{1}",
		2500: "04820400{0}" + "04820400{1}" + "048201d0{2}",
	} {
		ciphertext, err := a.EncryptFor(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := nitrotest.ParseEnvelope(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		fill := []string{"{key id}", hex.EncodeToString(envelope.KeyID), "{encrypted key}", hex.EncodeToString(envelope.EncryptedKey), "{iv}", hex.EncodeToString(envelope.IV)}
		for i, chunk := range envelope.Chunks {
			fill = append(fill, "{"+string(rune('0'+i))+"}", hex.EncodeToString(chunk))
		}
		want := strings.NewReplacer(fill...).Replace(goldenHead + "a080" + chunks + goldenTail)
		if got := hex.EncodeToString(ciphertext); got != want {
			t.Errorf("%d bytes:\n got %s\nwant %s", size, got, want)
		}
	}
}

func TestOpenSSLOpensIt(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	e, _ := newEnclave(t)
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(e.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := writeFile(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, size := range []int{1, 16, 32, 1024, 5000} {
		plaintext := make([]byte, size)
		rand.Read(plaintext)
		ciphertext, err := (&nitro.Attestation{PublicKey: &e.Key.PublicKey}).EncryptFor(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		in := writeFile(t, dir, "answer.ber", ciphertext)
		var out, complaints bytes.Buffer
		cmd := exec.Command(openssl, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", in, "-inkey", key)
		cmd.Stdout, cmd.Stderr = &out, &complaints
		if err := cmd.Run(); err != nil {
			t.Fatalf("openssl: %v: %s", err, complaints.String())
		}
		if !bytes.Equal(out.Bytes(), plaintext) {
			t.Errorf("openssl read %d bytes of %d, or other ones", out.Len(), size)
		}
	}
}

func writeFile(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The floor of Verify is one signature to check for each certificate but the
// root, and one for the document.
func BenchmarkVerify(b *testing.B) {
	e, v := newEnclave(b)
	document := e.Document(b, now)
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Verify(document, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		digest := sha512.Sum384(document)
		signature, err := ecdsa.SignASN1(rand.Reader, e.Signer.Key, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			for range len(e.Bundle) + 1 {
				if !ecdsa.VerifyASN1(&e.Signer.Key.PublicKey, digest[:], signature) {
					b.Fatal("the signature does not match")
				}
			}
		}
	})
}

// The floor of EncryptFor is RSA-OAEP of a key and AES-CBC of the plaintext.
func BenchmarkEncryptFor(b *testing.B) {
	e, _ := newEnclave(b)
	a := nitro.Attestation{PublicKey: &e.Key.PublicKey}
	plaintext := make([]byte, 32)
	b.Run("answer", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.EncryptFor(plaintext); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		key, iv := make([]byte, 32), make([]byte, 16)
		for b.Loop() {
			if _, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, a.PublicKey, key, nil); err != nil {
				b.Fatal(err)
			}
			block, err := aes.NewCipher(key)
			if err != nil {
				b.Fatal(err)
			}
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(plaintext, plaintext)
		}
	})
}
