package keyspec_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"go/ast"
	"go/parser"
	"go/token"
	"math/big"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gmsm "github.com/emmansun/gmsm/mlkem"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source parses a test file in the directory of a module that the build uses.
func source(t *testing.T, module, path string) *ast.File {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), path), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// valueOf finds what a variable of a file is set to.
func valueOf(t *testing.T, f *ast.File, name string) (value ast.Expr) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
			value = spec.Values[0]
		}
		return true
	})
	if value == nil {
		t.Fatalf("there is no %s", name)
	}
	return value
}

// cases reads a slice of structs whose fields are literals.
func cases(t *testing.T, f *ast.File, name string) (all []map[string]string) {
	t.Helper()
	list := valueOf(t, f, name).(*ast.CompositeLit)
	var fields []string
	for _, field := range list.Type.(*ast.ArrayType).Elt.(*ast.StructType).Fields.List {
		for _, n := range field.Names {
			fields = append(fields, n.Name)
		}
	}
	for _, element := range list.Elts {
		row := make(map[string]string)
		for i, e := range element.(*ast.CompositeLit).Elts {
			row[fields[i]] = text(t, e)
		}
		all = append(all, row)
	}
	if len(all) < 2 {
		t.Fatalf("%s has %d cases", name, len(all))
	}
	return all
}

func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.CallExpr:
		return text(t, e.Args[0])
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		return e.Value
	default:
		t.Fatalf("a %T", e)
		return ""
	}
}

const gmsmModule = "github.com/emmansun/gmsm"

// fromSeed opens the seed-only form of a seed.
func fromSeed(t *testing.T, s *keyspec.Spec, seed []byte) keyspec.Key {
	t.Helper()
	p := parsed[pkcs8](t, materialOf(s))
	p.PrivateKey = append(p.PrivateKey[:2:2], seed...)
	return open(t, s, der(t, p))
}

// encodedIn gives the bits of a public key.
func encodedIn(t *testing.T, spki []byte) []byte {
	t.Helper()
	return parsed[struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}](t, spki).PublicKey.Bytes
}

// withEncoded puts other bits into a public key of the same spec.
func withEncoded(t *testing.T, spki, encoded []byte) []byte {
	t.Helper()
	info := parsed[struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}](t, spki)
	info.PublicKey = bits(encoded)
	return der(t, info)
}

// TestKeysOfNIST makes keys of the seeds that NIST publishes (ACVP), ML-DSA and ML-KEM.
func TestKeysOfNIST(t *testing.T) {
	t.Parallel()
	for name, public := range map[string]string{
		"mldsa/mldsa44": "pk", "mldsa/mldsa65": "pk", "mldsa/mldsa87": "pk",
		"mlkem/mlkem512": "ek", "mlkem/mlkem768": "ek", "mlkem/mlkem1024": "ek",
	} {
		size := name[len("mldsa/mldsa"):]
		s := keyspec.Of(kmsapi.KeySpec(map[string]string{"pk": "ML_DSA_", "ek": "ML_KEM_"}[public] + size))
		for _, c := range cases(t, source(t, gmsmModule, name+"_test.go"), "kenGen"+size+"InternalProjectionCases") {
			k := fromSeed(t, s, unhex(t, c["seed"]))
			if !bytes.Equal(encodedIn(t, k.SPKI()), unhex(t, c[public])) {
				t.Errorf("%s: another public key", s.Name)
			}
		}
	}
}

// TestRepresentativesOfNIST verifies NIST's signatures (ACVP) of representatives μ,
// and of messages with a context, whose μ is made here.
func TestRepresentativesOfNIST(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"44", "65", "87"} {
		s := keyspec.Of(kmsapi.KeySpec("ML_DSA_" + size))
		spki := keyOf(t, s.Name).SPKI()
		f := source(t, gmsmModule, "mldsa/mldsa"+size+"_test.go")
		verify := func(public, mu, signature []byte) error {
			return openPublic(t, s, withEncoded(t, spki, public)).Verify(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, mu, signature)
		}
		for _, c := range cases(t, f, "sigGen"+size+"InternalProjectionCases") {
			mu, signature := unhex(t, c["mu"]), unhex(t, c["sig"])
			if err := verify(unhex(t, c["pk"]), mu, signature); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			for _, i := range []int{0, len(signature) / 2, len(signature) - 1} {
				signature[i] ^= 1
				wantError(t, verify(unhex(t, c["pk"]), mu, signature), kmsapi.KMSInvalidSignature, "")
				signature[i] ^= 1
			}
			mu[63] ^= 1
			wantError(t, verify(unhex(t, c["pk"]), mu, signature), kmsapi.KMSInvalidSignature, "")
		}
		for _, c := range cases(t, f, "sigVer"+size+"InternalProjectionCases") {
			mu := representative(unhex(t, c["pk"]), unhex(t, c["context"]), unhex(t, c["message"]))
			if err := verify(unhex(t, c["pk"]), mu, unhex(t, c["sig"])); (err == nil) != (c["passed"] == "true") {
				t.Errorf("%s: %v, passed: %s", s.Name, err, c["passed"])
			}
		}
	}
}

// representative is μ of FIPS 204.
func representative(public, context, message []byte) []byte {
	tr := sha3.SumSHAKE256(public, 64)
	return sha3.SumSHAKE256(append(append(append(tr, 0, byte(len(context))), context...), message...), 64)
}

// TestRepresentativesAndMessagesAgree signs one way and verifies the other: the
// library on one side, mldsaverify.go on the other.
func TestRepresentativesAndMessagesAgree(t *testing.T) {
	t.Parallel()
	for _, name := range []kmsapi.KeySpec{kmsapi.MLDSA44, kmsapi.MLDSA65, kmsapi.MLDSA87} {
		k := keyOf(t, name)
		public := encodedIn(t, k.SPKI())
		for i := range 50 {
			message := bytes.Repeat([]byte{byte(i)}, 1+i)
			mu := representative(public, nil, message)
			ofMessage, err := k.Sign(kmsapi.MLDSAShake256, kmsapi.MessageRaw, message)
			if err != nil || k.Verify(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, mu, ofMessage) != nil {
				t.Errorf("%s: a message's signature does not verify with μ: %v", name, err)
			}
			ofMu, err := k.Sign(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, mu)
			if err != nil || k.Verify(kmsapi.MLDSAShake256, kmsapi.MessageRaw, message, ofMu) != nil {
				t.Errorf("%s: a signature of μ does not verify with the message: %v", name, err)
			}
		}
	}
}

// TestKeysOfRFC9881 opens the RFC's examples, as they stand in the library's tests.
func TestKeysOfRFC9881(t *testing.T) {
	t.Parallel()
	f := source(t, "filippo.io/mldsa", "x509/x509_test.go")
	for _, size := range []string{"44", "65", "87"} {
		private, _ := pem.Decode([]byte(strings.ReplaceAll(text(t, valueOf(t, f, "rfc9881ExamplePrivateKeyMLDSA"+size)), "TESTING", "PRIVATE")))
		public, _ := pem.Decode([]byte(text(t, valueOf(t, f, "rfc9881ExamplePublicKeyMLDSA"+size))))
		k := open(t, keyspec.Of(kmsapi.KeySpec("ML_DSA_"+size)), private.Bytes)
		if !bytes.Equal(k.SPKI(), public.Bytes) {
			t.Errorf("ML_DSA_%s: another public key", size)
		}
	}
}

// TestEncapsulatedByOthers decapsulates what other code encapsulated.
func TestEncapsulatedByOthers(t *testing.T) {
	t.Parallel()
	random := sha256.Sum256([]byte("random"))
	for name, encapsulate := range map[kmsapi.KeySpec]func(public []byte) (shared, ciphertext []byte, err error){
		kmsapi.MLKEM512: func(public []byte) (shared, ciphertext []byte, err error) {
			k, err := gmsm.NewEncapsulationKey512(public)
			if err != nil {
				return nil, nil, err
			}
			shared, ciphertext = k.EncapsulateInternal(&random)
			return shared, ciphertext, nil
		},
		kmsapi.MLKEM768: func(public []byte) (shared, ciphertext []byte, err error) {
			k, err := mlkem.NewEncapsulationKey768(public)
			if err != nil {
				return nil, nil, err
			}
			return mlkemtest.Encapsulate768(k, random[:])
		},
		kmsapi.MLKEM1024: func(public []byte) (shared, ciphertext []byte, err error) {
			k, err := mlkem.NewEncapsulationKey1024(public)
			if err != nil {
				return nil, nil, err
			}
			return mlkemtest.Encapsulate1024(k, random[:])
		},
	} {
		k := keyOf(t, name)
		shared, ciphertext, err := encapsulate(encodedIn(t, k.SPKI()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decapsulate(ciphertext); err != nil || !bytes.Equal(got, shared) {
			t.Errorf("%s: another secret: %v", name, err)
		}
	}
	// And the other way round, by code that shares nothing with the standard library's.
	k768 := keyOf(t, kmsapi.MLKEM768)
	theirs, err := gmsm.NewDecapsulationKeyFromSeed768(parsed[pkcs8](t, materialOf(k768.Spec())).PrivateKey[2:])
	if err != nil {
		t.Fatal(err)
	}
	shared, ciphertext, err := k768.Encapsulate()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := theirs.Decapsulate(ciphertext); err != nil || !bytes.Equal(got, shared) {
		t.Errorf("another secret: %v", err)
	}
}

// sm2Key opens a scalar alone.
func sm2Key(t *testing.T, scalar string) keyspec.Key {
	t.Helper()
	s := keyspec.Of(kmsapi.SM2)
	p := parsed[pkcs8](t, materialOf(s))
	p.PrivateKey = der(t, ecKey{Version: 1, PrivateKey: unhex(t, scalar)})
	return open(t, s, der(t, p))
}

// TestSM2OfTheStandard uses the examples of GM/T 0003.5.
func TestSM2OfTheStandard(t *testing.T) {
	t.Parallel()
	k := sm2Key(t, "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
	point := encodedIn(t, k.SPKI())
	if want := unhex(t, "04"+
		"09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"+
		"CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"); !bytes.Equal(point, want) {
		t.Errorf("public key %x", point)
	}
	number := func(s string) *big.Int { return new(big.Int).SetBytes(unhex(t, s)) }
	signature := der(t, struct{ R, S *big.Int }{
		number("F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"),
		number("B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"),
	})
	if err := k.Verify(kmsapi.SM2DSA, kmsapi.MessageRaw, []byte("message digest"), signature); err != nil {
		t.Error(err)
	}
	e := unhex(t, "F0B43E94BA45ACCAACE692ED534382EB17E6AB5A19CE7B31F4486FDFC0D28640")
	if err := k.Verify(kmsapi.SM2DSA, kmsapi.MessageDigest, e, signature); err != nil {
		t.Error(err)
	}
	ciphertext := der(t, struct {
		X, Y         *big.Int
		Hash, Cipher []byte
	}{
		number("04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"),
		number("E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"),
		unhex(t, "59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766"),
		unhex(t, "21886CA989CA9C7D58087307CA93092D651EFA"),
	})
	if got, err := k.Decrypt(kmsapi.SM2PKE, ciphertext); err != nil || string(got) != "encryption standard" {
		t.Errorf("%q, %v", got, err)
	}
	raw := append(bytes.Clone(point), ciphertext...)
	if _, err := k.Decrypt(kmsapi.SM2PKE, raw); kmsapi.CodeOf(err) != kmsapi.InvalidCiphertext {
		t.Errorf("a ciphertext that is not ASN.1: %v", err)
	}
}

// TestSM2Agreement compares with schoolbook arithmetic.
func TestSM2Agreement(t *testing.T) {
	t.Parallel()
	number := func(s string) *big.Int { return new(big.Int).SetBytes(unhex(t, s)) }
	c := &elliptic.CurveParams{
		P:       number("FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF"),
		N:       number("FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123"),
		B:       number("28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"),
		Gx:      number("32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"),
		Gy:      number("BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"),
		BitSize: 256,
	}
	const scalar = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8"
	peer := encodedIn(t, keyOf(t, kmsapi.SM2).SPKI())
	x, _ := c.ScalarMult(new(big.Int).SetBytes(peer[1:33]), new(big.Int).SetBytes(peer[33:]), unhex(t, scalar))
	got, err := sm2Key(t, scalar).SharedSecret(keyOf(t, kmsapi.SM2).SPKI())
	if err != nil || !bytes.Equal(got, x.FillBytes(make([]byte, 32))) {
		t.Errorf("another secret: %v", err)
	}
}
