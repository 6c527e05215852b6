package keywrap_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
)

// openssl is the command with its input, as people use it who import keys. Nothing
// here can be had from OpenSSL 1.1.
func openssl(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, stderr.Bytes())
	}
	return out
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "OpenSSL 3.") {
		t.Skipf("there is no OpenSSL 3: %q, %v", out, err)
	}
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// opensslKWP runs a cipher of RFC 5649; the magic goes where other ciphers have their IV.
func opensslKWP(t *testing.T, direction string, kek, input []byte) []byte {
	t.Helper()
	cipher := fmt.Sprintf("-id-aes%d-wrap-pad", 8*len(kek))
	return openssl(t, input, "enc", direction, cipher, "-K", hex.EncodeToString(kek), "-iv", "A65959A6")
}

// opensslPKEY encrypts or decrypts with the padding that an algorithm wants.
func opensslPKEY(t *testing.T, alg kmsapi.AlgorithmSpec, input []byte, args ...string) []byte {
	t.Helper()
	args = append([]string{"pkeyutl", "-keyform", "DER"}, args...)
	if alg != "SM2PKE" {
		hash := "sha256"
		if strings.HasSuffix(string(alg), "SHA_1") {
			hash = "sha1"
		}
		args = append(args, "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:"+hash, "-pkeyopt", "rsa_mgf1_md:"+hash)
	}
	return openssl(t, input, args...)
}

func isHybrid(alg kmsapi.AlgorithmSpec) bool { return strings.HasPrefix(string(alg), "RSA_AES") }

func TestOpenSSLAndWeUnwrapEachOther(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	for _, p := range pairs {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			k := key(p.spec)
			pkcs8, err := k.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			public, private := write(t, "public.der", k.PublicKey()), write(t, "private.der", pkcs8)
			material, kek := random(32), random(32)
			encrypt := func(input []byte) []byte {
				return opensslPKEY(t, p.alg, input, "-encrypt", "-pubin", "-inkey", public)
			}
			decrypt := func(input []byte) []byte { return opensslPKEY(t, p.alg, input, "-decrypt", "-inkey", private) }

			var theirs, ours []byte
			if isHybrid(p.alg) {
				material = random(1217)
				theirs = append(encrypt(kek), opensslKWP(t, "-e", kek, material)...)
				wrapped := wrap(t, p, k, material)
				half := len(wrapped) - len(material)/8*8 - 16
				ours = opensslKWP(t, "-d", decrypt(wrapped[:half]), wrapped[half:])
			} else {
				theirs = encrypt(material)
				ours = decrypt(wrap(t, p, k, material))
			}
			if got, err := k.Unwrap(p.alg, theirs); err != nil || !bytes.Equal(got, material) {
				t.Errorf("what OpenSSL has wrapped unwraps to %x, %v", got, err)
			}
			if !bytes.Equal(ours, material) {
				t.Errorf("OpenSSL unwraps %x, want %x", ours, material)
			}
		})
	}
}

func TestOpenSSLHasTheSameKWP(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	for _, kekSize := range []int{16, 24, 32} {
		for _, size := range []int{1, 7, 8, 9, 15, 16, 17, 32, 241, 4000} {
			kek, plaintext := random(kekSize), random(size)
			wrapped, err := keywrap.WrapKWP(kek, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			if theirs := opensslKWP(t, "-e", kek, plaintext); !bytes.Equal(theirs, wrapped) {
				t.Errorf("%d bytes under %d: %x, OpenSSL %x", size, kekSize, wrapped, theirs)
			}
		}
	}
}

func TestOpenSSLReadsOurKeysAndWeReadTheirs(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	for spec, args := range map[kmsapi.WrappingKeySpec][]string{
		"RSA_2048": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"SM2":      {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"},
	} {
		pkcs8, err := key(spec).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if public := openssl(t, pkcs8, "pkey", "-inform", "DER", "-pubout", "-outform", "DER"); !bytes.Equal(public, key(spec).PublicKey()) {
			t.Errorf("%s: the public key is %x, OpenSSL's %x", spec, key(spec).PublicKey(), public)
		}
		theirs := openssl(t, nil, append([]string{"genpkey", "-outform", "DER"}, args...)...)
		theirs = openssl(t, theirs, "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER")
		k, err := keywrap.Parse(spec, theirs)
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if public := openssl(t, theirs, "pkey", "-inform", "DER", "-pubout", "-outform", "DER"); !bytes.Equal(public, k.PublicKey()) {
			t.Errorf("%s: the public key is %x, OpenSSL's %x", spec, k.PublicKey(), public)
		}
	}
}
