package keyspec_test

import (
	"crypto/fips140"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// unapproved are the specs that GODEBUG=fips140=only refuses.
var unapproved = []kmsapi.KeySpec{
	kmsapi.ECCSecgP256k1, kmsapi.SM2, kmsapi.MLKEM512, kmsapi.MLDSA44, kmsapi.MLDSA65, kmsapi.MLDSA87,
}

// available lists the specs that work in the mode that the test runs in.
func available() (specs []*keyspec.Spec) {
	for _, s := range keyspec.All() {
		if !fips140.Enforced() || !slices.Contains(unapproved, s.Name) {
			specs = append(specs, s)
		}
	}
	return specs
}

// materials holds one key of each spec for all tests: RSA keys take seconds to make.
var materials = func() map[kmsapi.KeySpec]func() []byte {
	made := make(map[kmsapi.KeySpec]func() []byte)
	for _, s := range keyspec.All() {
		made[s.Name] = sync.OnceValue(func() []byte {
			material, err := s.Generate()
			if err != nil {
				panic(err)
			}
			return material
		})
	}
	return made
}()

func materialOf(s *keyspec.Spec) []byte { return slices.Clone(materials[s.Name]()) }

func keyOf(t testing.TB, name kmsapi.KeySpec) keyspec.Key {
	t.Helper()
	return open(t, keyspec.Of(name), materialOf(keyspec.Of(name)))
}

func open(t testing.TB, s *keyspec.Spec, material []byte) keyspec.Key {
	t.Helper()
	k, err := s.Open(material)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openPublic(t testing.TB, s *keyspec.Spec, spki []byte) keyspec.PublicKey {
	t.Helper()
	k, err := s.OpenPublic(spki)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantCode(t testing.TB, err error, code kmsapi.Code) {
	t.Helper()
	if got := kmsapi.CodeOf(err); got != code {
		t.Errorf("code %q, want %q: %v", got, code, err)
	}
}

// wantError checks a code and the whole text.
func wantError(t testing.TB, err error, code kmsapi.Code, text string) {
	t.Helper()
	e, ok := err.(*kmsapi.Error)
	if !ok || e.Code != code || e.Message != text {
		t.Errorf("%v, want %s: %s", err, code, text)
	}
}

// documented is what AWS documents: spec, usage, algorithms.
const documented = `
SYMMETRIC_DEFAULT ENCRYPT_DECRYPT SYMMETRIC_DEFAULT
HMAC_224 GENERATE_VERIFY_MAC HMAC_SHA_224
HMAC_256 GENERATE_VERIFY_MAC HMAC_SHA_256
HMAC_384 GENERATE_VERIFY_MAC HMAC_SHA_384
HMAC_512 GENERATE_VERIFY_MAC HMAC_SHA_512
RSA_2048 ENCRYPT_DECRYPT RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256
RSA_2048 SIGN_VERIFY RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512 RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512
RSA_3072 ENCRYPT_DECRYPT RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256
RSA_3072 SIGN_VERIFY RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512 RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512
RSA_4096 ENCRYPT_DECRYPT RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256
RSA_4096 SIGN_VERIFY RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512 RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512
ECC_NIST_P256 SIGN_VERIFY ECDSA_SHA_256
ECC_NIST_P256 KEY_AGREEMENT ECDH
ECC_NIST_P384 SIGN_VERIFY ECDSA_SHA_384
ECC_NIST_P384 KEY_AGREEMENT ECDH
ECC_NIST_P521 SIGN_VERIFY ECDSA_SHA_512
ECC_NIST_P521 KEY_AGREEMENT ECDH
ECC_SECG_P256K1 SIGN_VERIFY ECDSA_SHA_256
ECC_NIST_EDWARDS25519 SIGN_VERIFY ED25519_SHA_512 ED25519_PH_SHA_512
SM2 ENCRYPT_DECRYPT SM2PKE
SM2 SIGN_VERIFY SM2DSA
SM2 KEY_AGREEMENT ECDH
ML_DSA_44 SIGN_VERIFY ML_DSA_SHAKE_256
ML_DSA_65 SIGN_VERIFY ML_DSA_SHAKE_256
ML_DSA_87 SIGN_VERIFY ML_DSA_SHAKE_256
ML_KEM_512 ENCAPSULATE_DECAPSULATE ML_KEM
ML_KEM_768 ENCAPSULATE_DECAPSULATE ML_KEM
ML_KEM_1024 ENCAPSULATE_DECAPSULATE ML_KEM
`

// legal maps "spec usage" to the algorithms that are documented.
var legal = func() map[string][]string {
	rows := make(map[string][]string)
	for line := range strings.Lines(strings.TrimSpace(documented)) {
		words := strings.Fields(line)
		rows[words[0]+" "+words[1]] = words[2:]
	}
	return rows
}()

// does tells whether any usage of a spec has an algorithm.
func does(s *keyspec.Spec, algorithm string) bool {
	for cell, algorithms := range legal {
		if strings.HasPrefix(cell, string(s.Name)+" ") && slices.Contains(algorithms, algorithm) {
			return true
		}
	}
	return false
}

func TestTheTableIsWhatAWSDocuments(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, s := range keyspec.All() {
		if keyspec.Of(s.Name) != s {
			t.Errorf("%s is not found by its name", s.Name)
		}
		for _, u := range s.Usages() {
			fmt.Fprintf(&got, "%s %s", s.Name, u)
			for _, algorithm := range algorithmsOf(s, u) {
				fmt.Fprintf(&got, " %s", algorithm)
			}
			got.WriteString("\n")
		}
		for _, u := range kmsapi.KeyUsageType("").Values() {
			algorithms, allowed := legal[string(s.Name)+" "+u]
			if s.Allows(kmsapi.KeyUsageType(u)) != allowed {
				t.Errorf("%s allows %s: %v", s.Name, u, !allowed)
			}
			if len(algorithmsOf(s, kmsapi.KeyUsageType(u))) != len(algorithms) {
				t.Errorf("%s %s: %v", s.Name, u, algorithmsOf(s, kmsapi.KeyUsageType(u)))
			}
		}
	}
	if got.String() != documented[1:] {
		t.Errorf("the table:\n%s", got.String())
	}
	if keyspec.Of("RSA_1024") != nil || keyspec.Of("") != nil {
		t.Error("a spec that does not exist is found")
	}
}

// algorithmsOf puts all lists of a usage together: at most one has something.
func algorithmsOf(s *keyspec.Spec, u kmsapi.KeyUsageType) (all []string) {
	for _, a := range s.EncryptionAlgorithms(u) {
		all = append(all, string(a))
	}
	for _, a := range s.SigningAlgorithms(u) {
		all = append(all, string(a))
	}
	for _, a := range s.MacAlgorithms(u) {
		all = append(all, string(a))
	}
	for _, a := range s.KeyAgreementAlgorithms(u) {
		all = append(all, string(a))
	}
	for _, a := range s.EncapsulationAlgorithms(u) {
		all = append(all, string(a))
	}
	return all
}

func TestTheTableHasAllSpecsInOrder(t *testing.T) {
	t.Parallel()
	var names []string
	for _, s := range keyspec.All() {
		names = append(names, string(s.Name))
	}
	if want := kmsapi.KeySpec("").Values(); !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	keyspec.All()[0] = nil
	keyspec.Of(kmsapi.RSA2048).SigningAlgorithms(kmsapi.SignVerify)[0] = ""
	if keyspec.All()[0] == nil || keyspec.Of(kmsapi.RSA2048).SigningAlgorithms(kmsapi.SignVerify)[0] == "" {
		t.Error("callers can change the table")
	}
}

func TestKindsOfSpecs(t *testing.T) {
	t.Parallel()
	for _, s := range keyspec.All() {
		name := string(s.Name)
		symmetric, hmac := name == "SYMMETRIC_DEFAULT", strings.HasPrefix(name, "HMAC_")
		mldsa, mlkem := strings.HasPrefix(name, "ML_DSA_"), strings.HasPrefix(name, "ML_KEM_")
		if s.Symmetric() != symmetric || s.HMAC() != hmac || s.Asymmetric() == (symmetric || hmac) {
			t.Errorf("%s: symmetric %v, HMAC %v, asymmetric %v", name, s.Symmetric(), s.HMAC(), s.Asymmetric())
		}
		if s.DataKeyPair() == (symmetric || hmac || mldsa) {
			t.Errorf("%s: data key pair %v", name, s.DataKeyPair())
		}
		if s.Importable() == (mldsa || mlkem) {
			t.Errorf("%s: importable %v", name, s.Importable())
		}
		for region, china := range map[string]bool{"cn-north-1": true, "cn-northwest-1": true, "eu-central-1": false, "us-gov-west-1": false, "": false} {
			want := name != "SM2" && !mlkem || china == (name == "SM2")
			if s.AllowedIn(region) != want {
				t.Errorf("%s in %q: %v", name, region, !want)
			}
		}
	}
}

func TestWraps(t *testing.T) {
	t.Parallel()
	var fitting int
	for _, s := range keyspec.All() {
		for _, alg := range kmsapi.AlgorithmSpec("").Values() {
			for _, key := range kmsapi.WrappingKeySpec("").Values() {
				want := wraps(string(s.Name), alg, key)
				if want {
					fitting++
				}
				for _, region := range []string{"cn-north-1", "eu-central-1"} {
					want := want && (key != "SM2" || region == "cn-north-1")
					if s.Wraps(kmsapi.AlgorithmSpec(alg), kmsapi.WrappingKeySpec(key), region) != want {
						t.Errorf("%s under %s by %s in %s: %v", s.Name, key, alg, region, !want)
					}
				}
			}
		}
	}
	if want := 5*6 + 3*7 + 4*12 + 10 + 7; fitting != want {
		t.Errorf("%d cells fit, want %d", fitting, want)
	}
}

// wraps is what AWS documents, in other words.
func wraps(spec, alg, key string) bool {
	oaep := strings.HasPrefix(alg, "RSAES_OAEP") && key != "SM2"
	keyWrap := strings.HasPrefix(alg, "RSA_AES") && key != "SM2"
	pke := alg == "SM2PKE" && key == "SM2"
	switch {
	case spec == "SYMMETRIC_DEFAULT", strings.HasPrefix(spec, "HMAC"):
		return oaep
	case strings.HasPrefix(spec, "RSA"):
		return keyWrap || pke
	case spec == "ECC_NIST_P521":
		return keyWrap || oaep && key != "RSA_2048"
	case strings.HasPrefix(spec, "ECC"):
		return keyWrap || oaep
	case spec == "SM2":
		return oaep || pke
	default:
		return false
	}
}
