package keywrap_test

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emmansun/gmsm/smx509"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys has two wrapping keys of each kind for all tests, made when they are first
// asked for.
var keys = func() map[kmsapi.WrappingKeySpec]func() []*keywrap.PrivateKey {
	all := make(map[kmsapi.WrappingKeySpec]func() []*keywrap.PrivateKey)
	for _, spec := range specs {
		all[spec] = sync.OnceValue(func() []*keywrap.PrivateKey {
			two := make([]*keywrap.PrivateKey, 2)
			for i := range two {
				var err error
				if two[i], err = keywrap.Generate(spec); err != nil {
					panic(err)
				}
			}
			return two
		})
	}
	return all
}()

func key(spec kmsapi.WrappingKeySpec) *keywrap.PrivateKey { return keys[spec]()[0] }

var specs = wordsOf[kmsapi.WrappingKeySpec](kmsapi.WrappingKeySpec("").Values())

func wordsOf[T ~string](values []string) (all []T) {
	for _, v := range values {
		all = append(all, T(v))
	}
	return all
}

// pair is a wrapping algorithm with a kind of key that it goes with.
type pair struct {
	alg  kmsapi.AlgorithmSpec
	spec kmsapi.WrappingKeySpec
}

func (p pair) String() string { return fmt.Sprintf("%s under %s", string(p.alg), string(p.spec)) }

// pairs are all that there must be.
var pairs = func() (all []pair) {
	for _, alg := range []kmsapi.AlgorithmSpec{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"} {
		for _, spec := range []kmsapi.WrappingKeySpec{"RSA_2048", "RSA_3072", "RSA_4096"} {
			all = append(all, pair{alg, spec})
		}
	}
	all = append(all, pair{"SM2PKE", "SM2"})
	return slices.DeleteFunc(all, func(p pair) bool {
		return fips140.Enforced() && !strings.HasSuffix(string(p.alg), "SHA_256")
	})
}()

// longest is the most material that a pair takes, in bytes.
func (p pair) longest() int {
	bytes := map[kmsapi.WrappingKeySpec]int{"RSA_2048": 256, "RSA_3072": 384, "RSA_4096": 512}[p.spec]
	switch p.alg {
	case "RSAES_OAEP_SHA_1":
		return bytes - 42
	case "RSAES_OAEP_SHA_256":
		return bytes - 66
	case "SM2PKE":
		return 1024
	default:
		return keywrap.MaxSize - bytes - 8
	}
}

func wrap(t testing.TB, p pair, k *keywrap.PrivateKey, material []byte) []byte {
	t.Helper()
	wrapped, err := keywrap.Wrap(p.alg, k.PublicKey(), material)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func TestAlgorithmsGoWithTheirKeysOnly(t *testing.T) {
	t.Parallel()
	allowed := 0
	for _, alg := range append(wordsOf[kmsapi.AlgorithmSpec](kmsapi.AlgorithmSpec("").Values()), "", "ROT13") {
		for _, spec := range append(slices.Clone(specs), "", "RSA_1024") {
			p := pair{alg, spec}
			err := keywrap.Allowed(alg, spec)
			if slices.Contains(pairs, p) {
				allowed++
				if err != nil {
					t.Errorf("%s: %v", p, err)
				}
			} else if kmsapi.CodeOf(err) != kmsapi.UnsupportedOperation {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
	if allowed != len(pairs) {
		t.Errorf("%d pairs are allowed, want %d", allowed, len(pairs))
	}
}

// shortest is the size of the shortest material that keys have, that of HMAC_224.
// The library of SM2PKE loses a plaintext of n bytes with a probability of 2/256^n.
const shortest = 28

func TestWhatIsWrappedUnwraps(t *testing.T) {
	t.Parallel()
	for _, p := range pairs {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			k := key(p.spec)
			rapid.Check(t, func(t *rapid.T) {
				size := rapid.IntRange(shortest, p.longest()).Draw(t, "size")
				material := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "material"), size/8+1)[:size]
				wrapped, err := keywrap.Wrap(p.alg, k.PublicKey(), material)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.Unwrap(p.alg, wrapped); err != nil || !bytes.Equal(got, material) {
					t.Fatalf("%x comes back as %x, %v", material, got, err)
				}
			})
			longest := random(p.longest())
			if got, err := k.Unwrap(p.alg, wrap(t, p, k, longest)); err != nil || !bytes.Equal(got, longest) {
				t.Errorf("the longest material: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestWrapRefusesWhatItCannotWrap(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 1024+512)
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := key("RSA_2048").PublicKey()
	for name, c := range map[string]struct {
		alg      kmsapi.AlgorithmSpec
		public   []byte
		material []byte
	}{
		"no material":          {"RSAES_OAEP_SHA_1", public, nil},
		"too long for OAEP":    {"RSAES_OAEP_SHA_256", public, random(191)},
		"too long for KMS":     {"RSA_AES_KEY_WRAP_SHA_256", public, random(6144 - 256 - 7)},
		"PKCS #1 v1.5":         {"RSAES_PKCS1_V1_5", public, random(32)},
		"no public key":        {"RSAES_OAEP_SHA_256", nil, random(32)},
		"a public key and one": {"RSAES_OAEP_SHA_256", append(public, 0), random(32)},
		"SM2 under RSA":        {"SM2PKE", public, random(32)},
		"RSA under SM2":        {"RSA_AES_KEY_WRAP_SHA_1", key("SM2").PublicKey(), random(32)},
		"a key of 1536 bits":   {"RSAES_OAEP_SHA_256", small, random(32)},
	} {
		if got, err := keywrap.Wrap(c.alg, c.public, c.material); err == nil || got != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func refuses(t *testing.T, k *keywrap.PrivateKey, alg kmsapi.AlgorithmSpec, wrapped []byte, what string) {
	t.Helper()
	if got, err := k.Unwrap(alg, wrapped); err != keywrap.ErrUnwrap || got != nil {
		t.Errorf("%s, %s: %d bytes, %v", alg, what, len(got), err)
	}
}

func TestEveryChangeOfWrappedMaterialIsTheSameError(t *testing.T) {
	t.Parallel()
	if code := kmsapi.CodeOf(keywrap.ErrUnwrap); code != kmsapi.InvalidCiphertext {
		t.Errorf("the error is %s", code)
	}
	for _, p := range pairs {
		if p.spec != "RSA_2048" && p.spec != "SM2" {
			continue
		}
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			k := key(p.spec)
			cut := map[kmsapi.WrappingKeySpec]int{"RSA_2048": 256, "SM2": 70}[p.spec]
			wrapped := wrap(t, p, k, random(32))
			for change, mutant := range aeadtest.Mutants(wrapped, min(cut, len(wrapped)-1)) {
				refuses(t, k, p.alg, mutant, change)
			}
			refuses(t, keys[p.spec]()[1], p.alg, wrapped, "another key")
			refuses(t, new(keywrap.PrivateKey), p.alg, wrapped, "no key")
			refuses(t, k, p.alg, make([]byte, keywrap.MaxSize+1), "too many zeros")
			for _, alg := range kmsapi.AlgorithmSpec("").Values() {
				if alg != string(p.alg) {
					refuses(t, k, kmsapi.AlgorithmSpec(alg), wrapped, "wrapped with "+string(p.alg))
				}
			}
		})
	}
}

// A ciphertext that begins with a zero is the same number without it.
func TestShorterRSACiphertextsAreRefused(t *testing.T) {
	t.Parallel()
	k := key("RSA_2048")
	for {
		if wrapped := wrap(t, pair{"RSAES_OAEP_SHA_256", "RSA_2048"}, k, random(32)); wrapped[0] == 0 {
			refuses(t, k, "RSAES_OAEP_SHA_256", wrapped[1:], "without its leading zero")
			return
		}
	}
}

func TestAESKeysOfAllSizesWrap(t *testing.T) {
	t.Parallel()
	k, material := key("RSA_2048"), random(1217)
	for alg, hash := range map[kmsapi.AlgorithmSpec]crypto.Hash{"RSA_AES_KEY_WRAP_SHA_1": crypto.SHA1, "RSA_AES_KEY_WRAP_SHA_256": crypto.SHA256} {
		if keywrap.Allowed(alg, "RSA_2048") != nil {
			continue
		}
		public, err := x509.ParsePKIXPublicKey(k.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 8, 15, 16, 17, 23, 24, 25, 31, 32, 33, 64} {
			kek := random(size)
			wrapped, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public.(*rsa.PublicKey), kek, nil)
			if err != nil {
				t.Fatal(err)
			}
			aes := size == 16 || size == 24 || size == 32
			if !aes { // then the zeros that stand in for the key must not be the way in
				kek = make([]byte, 32)
			}
			padded, err := keywrap.WrapKWP(kek, material)
			if err != nil {
				t.Fatal(err)
			}
			wrapped = append(wrapped, padded...)
			if !aes {
				refuses(t, k, alg, wrapped, fmt.Sprintf("an AES key of %d bytes", size))
			} else if got, err := k.Unwrap(alg, wrapped); err != nil || !bytes.Equal(got, material) {
				t.Errorf("an AES key of %d bytes: %v", size, err)
			}
		}
	}
}

// Zeros stand in for an AES key that is not there: that must open nothing either.
func TestNoAESKeyIsNoWayIn(t *testing.T) {
	t.Parallel()
	k := key("RSA_2048")
	padded, err := keywrap.WrapKWP(make([]byte, 32), random(32))
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, k, "RSA_AES_KEY_WRAP_SHA_256", append(make([]byte, 256), padded...), "zeros in front")
	refuses(t, k, "RSA_AES_KEY_WRAP_SHA_256", append(random(256), padded...), "anything in front")
	refuses(t, k, "RSA_AES_KEY_WRAP_SHA_256", padded, "nothing in front")
}

func TestKeysAreKeptInPKCS8(t *testing.T) {
	t.Parallel()
	for _, spec := range specs {
		k := key(spec)
		pkcs8, err := k.Marshal()
		if err != nil || len(pkcs8) > 2400 || k.Spec() != spec {
			t.Fatalf("%s: %d bytes, %v", spec, len(pkcs8), err)
		}
		again, err := keywrap.Parse(spec, pkcs8)
		if err != nil || again.Spec() != spec || !bytes.Equal(again.PublicKey(), k.PublicKey()) {
			t.Fatalf("%s: %v", spec, err)
		}
		if public, err := smx509.ParsePKIXPublicKey(again.PublicKey()); err != nil {
			t.Errorf("%s: the public key %v: %v", spec, public, err)
		}
		for _, other := range append(slices.Clone(specs), "") {
			if _, err := keywrap.Parse(other, pkcs8); (err == nil) != (other == spec) {
				t.Errorf("%s as %s: %v", spec, other, err)
			}
		}
		if _, err := keywrap.Parse(spec, append(bytes.Clone(pkcs8), 0)); err == nil {
			t.Errorf("%s: a key and a byte more are a key", spec)
		}
		for n := range pkcs8 {
			if _, err := keywrap.Parse(spec, pkcs8[:n]); err == nil {
				t.Fatalf("%s: the first %d bytes are a key", spec, n)
			}
		}
	}
	if _, err := new(keywrap.PrivateKey).Marshal(); err == nil {
		t.Error("no key is encoded")
	}
	if _, err := keywrap.Generate("RSA_1024"); kmsapi.CodeOf(err) != kmsapi.Validation {
		t.Error(err)
	}
}

func TestKeysDoNotShow(t *testing.T) {
	t.Parallel()
	k := key("SM2")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%#v", k), fmt.Sprintf("%x", *k), log.String()} {
		if !strings.Contains(text, secret.Redacted) || len(text) > 100 {
			t.Errorf("it shows %s", text)
		}
	}
}
