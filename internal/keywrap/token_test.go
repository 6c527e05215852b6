package keywrap_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
)

const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123_000_000, time.UTC)

var _ keywrap.Sealer = rootkey.Sealer(nil)

// plainSealer hides nothing, so that golden files and tests can put together what is
// sealed: uint32(len(purpose)) ‖ purpose ‖ uint32(len(context)) ‖ context ‖ plaintext ‖
// SHA-256 of all that.
type plainSealer struct{}

func plainPrefix(purpose, context string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(purpose)))
	b = append(b, purpose...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(context)))
	return append(b, context...)
}

func (plainSealer) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	b := append(plainPrefix(purpose, context), plaintext...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

func (plainSealer) Open(purpose, context string, sealed []byte) ([]byte, error) {
	if len(sealed) < sha256.Size {
		return nil, errors.New("too short")
	}
	b, sum := sealed[:len(sealed)-sha256.Size], sealed[len(sealed)-sha256.Size:]
	plaintext, ok := bytes.CutPrefix(b, plainPrefix(purpose, context))
	if want := sha256.Sum256(b); !ok || !bytes.Equal(sum, want[:]) {
		return nil, errors.New("not sealed like this")
	}
	return bytes.Clone(plaintext), nil
}

func sealToken(t testing.TB, sealer keywrap.Sealer, token keywrap.Token) []byte {
	t.Helper()
	sealed, err := token.Seal(sealer)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestTokensCarryTheWrappingKey(t *testing.T) {
	t.Parallel()
	sealer := rootkey.Random().Direct()
	for _, p := range pairs {
		k := key(p.spec)
		sealed := sealToken(t, sealer, keywrap.Token{KeyARN: arn, Algorithm: p.alg, Key: k, NotAfter: noon.Add(24*time.Hour + 999*time.Microsecond)})
		if len(sealed) > keywrap.MaxTokenSize {
			t.Errorf("%s: %d bytes", p, len(sealed))
		}
		token, err := keywrap.OpenToken(sealer, sealed, arn, noon)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if token.KeyARN != arn || token.Algorithm != p.alg || token.Key.Spec() != p.spec || !token.NotAfter.Equal(noon.Add(24*time.Hour)) {
			t.Errorf("%s comes back as %s, %s, %s, %s", p, token.KeyARN, token.Algorithm, token.Key.Spec(), token.NotAfter)
		}
		material := random(32)
		if got, err := token.Key.Unwrap(token.Algorithm, wrap(t, p, k, material)); err != nil || !bytes.Equal(got, material) {
			t.Errorf("%s: the key from the token unwraps %x, %v", p, got, err)
		}
	}
}

func TestTokensExpire(t *testing.T) {
	t.Parallel()
	sealer := rootkey.Random().Direct()
	end := noon.Add(24 * time.Hour)
	sealed := sealToken(t, sealer, keywrap.Token{KeyARN: arn, Algorithm: "SM2PKE", Key: key("SM2"), NotAfter: end})
	for at, want := range map[time.Time]kmsapi.Code{
		noon:                      "",
		end:                       "",
		end.Add(time.Nanosecond):  kmsapi.ExpiredImportToken,
		end.Add(1000 * time.Hour): kmsapi.ExpiredImportToken,
	} {
		token, err := keywrap.OpenToken(sealer, sealed, arn, at)
		if kmsapi.CodeOf(err) != want || (token == nil) != (err != nil) {
			t.Errorf("at %s: %v, %v", at, token, err)
		}
	}
}

// invalid wants the one answer to all that is no token of the key, and nothing in it
// that the caller should not see.
func invalid(t *testing.T, sealer keywrap.Sealer, sealed []byte, keyARN, what string) {
	t.Helper()
	token, err := keywrap.OpenToken(sealer, sealed, keyARN, noon)
	var answer *kmsapi.Error
	if !errors.As(err, &answer) || answer.Code != kmsapi.InvalidImportToken || token != nil ||
		answer.Message != "The import token is invalid, or it was issued for another KMS key." {
		t.Errorf("%s: %v, %v", what, token, err)
	}
}

func TestTokensThatWereChangedOrAreOfAnotherKeyAreRefused(t *testing.T) {
	t.Parallel()
	root := rootkey.Random()
	sealer := root.Direct()
	for _, p := range []pair{{"SM2PKE", "SM2"}, {"RSA_AES_KEY_WRAP_SHA_256", "RSA_2048"}} {
		token := keywrap.Token{KeyARN: arn, Algorithm: p.alg, Key: key(p.spec), NotAfter: noon}
		sealed := sealToken(t, sealer, token)
		for change, mutant := range aeadtest.Mutants(sealed, 1, 17, 41, 52) {
			invalid(t, sealer, mutant, arn, change)
		}
		invalid(t, sealer, sealed, arn[:len(arn)-1]+"c", "another key")
		invalid(t, sealer, sealed, "", "no key")
		invalid(t, rootkey.Random().Direct(), sealed, arn, "another root key")
		invalid(t, sealer, bytes.Repeat([]byte{1}, keywrap.MaxTokenSize+1), arn, "more than the API carries")
		other, err := sealer.Seal("key material", arn, []byte("material"))
		if err != nil {
			t.Fatal(err)
		}
		invalid(t, sealer, other, arn, "sealed for another purpose")
	}
}

// What is sealed was made here, but maybe by another version.
func TestSealedBytesThatAreNoTokenAreRefused(t *testing.T) {
	t.Parallel()
	whole, err := plainSealer{}.Open("import token", arn,
		sealToken(t, plainSealer{}, keywrap.Token{KeyARN: arn, Algorithm: "SM2PKE", Key: key("SM2"), NotAfter: noon}))
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, value byte) []byte {
		b := bytes.Clone(whole)
		b[at] = value
		return b
	}
	wrong := map[string][]byte{"nothing": nil, "a byte more": append(bytes.Clone(whole), 0)}
	for name, b := range map[string][]byte{
		"version 0": with(0, 0), "version 2": with(0, 2), "algorithm 0": with(1, 0), "algorithm 6": with(1, 6),
		"RSA under SM2": with(1, 1), "kind 0": with(2, 0), "kind 5": with(2, 5), "kind RSA": with(2, 1),
	} {
		wrong[name] = b
	}
	for n := range whole {
		wrong[fmt.Sprintf("cut to %d bytes", n)] = whole[:n]
	}
	for name, plaintext := range wrong {
		sealed, err := plainSealer{}.Seal("import token", arn, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		invalid(t, plainSealer{}, sealed, arn, name)
	}
}

// brokenSealer cannot seal, or makes too much of it.
type brokenSealer struct {
	plainSealer
	sealed []byte
	err    error
}

func (b brokenSealer) Seal(string, string, []byte) ([]byte, error) { return b.sealed, b.err }

func TestWhatIsNoTokenIsNotSealed(t *testing.T) {
	t.Parallel()
	good := keywrap.Token{KeyARN: arn, Algorithm: "SM2PKE", Key: key("SM2"), NotAfter: noon}
	for name, change := range map[string]func(*keywrap.Token) keywrap.Sealer{
		"no KMS key":             func(t *keywrap.Token) keywrap.Sealer { t.KeyARN = ""; return plainSealer{} },
		"no wrapping key":        func(t *keywrap.Token) keywrap.Sealer { t.Key = nil; return plainSealer{} },
		"an empty wrapping key":  func(t *keywrap.Token) keywrap.Sealer { t.Key = new(keywrap.PrivateKey); return plainSealer{} },
		"another algorithm":      func(t *keywrap.Token) keywrap.Sealer { t.Algorithm = "RSAES_OAEP_SHA_1"; return plainSealer{} },
		"a sealer that fails":    func(*keywrap.Token) keywrap.Sealer { return brokenSealer{err: errors.New("broken")} },
		"a sealer that is large": func(*keywrap.Token) keywrap.Sealer { return brokenSealer{sealed: make([]byte, 6145)} },
	} {
		token := good
		sealer := change(&token)
		if sealed, err := token.Seal(sealer); err == nil || sealed != nil {
			t.Errorf("%s: %d bytes, %v", name, len(sealed), err)
		}
	}
}

type golden struct {
	KeyARN         string                 `json:"keyArn"`
	Algorithm      kmsapi.AlgorithmSpec   `json:"algorithm"`
	Spec           kmsapi.WrappingKeySpec `json:"spec"`
	NotAfterMillis int64                  `json:"notAfterMillis"`
	PublicKey      []byte                 `json:"publicKey"`
	Token          []byte                 `json:"token"` // sealed with plainSealer
	Wrapped        []byte                 `json:"wrapped"`
	Material       []byte                 `json:"material"`
}

func goldens(t testing.TB) (all []golden) {
	t.Helper()
	text, err := os.ReadFile("testdata/token-1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The golden tokens, and what was wrapped for them, were made by another
// implementation, with keys of OpenSSL. Every later version must open them.
func TestGoldenTokens(t *testing.T) {
	t.Parallel()
	var seen []kmsapi.AlgorithmSpec
	for _, g := range goldens(t) {
		seen = append(seen, g.Algorithm)
		notAfter := time.UnixMilli(g.NotAfterMillis)
		token, err := keywrap.OpenToken(plainSealer{}, g.Token, g.KeyARN, notAfter)
		if err != nil {
			t.Errorf("%s: %v", g.Algorithm, err)
			continue
		}
		if token.KeyARN != g.KeyARN || token.Algorithm != g.Algorithm || token.Key.Spec() != g.Spec || !token.NotAfter.Equal(notAfter) || !bytes.Equal(token.Key.PublicKey(), g.PublicKey) {
			t.Errorf("%s: it opens as %s, %s, %s, %s, %x", g.Algorithm, token.KeyARN, token.Algorithm, token.Key.Spec(), token.NotAfter, token.Key.PublicKey())
		}
		if material, err := token.Key.Unwrap(token.Algorithm, g.Wrapped); err != nil || !bytes.Equal(material, g.Material) {
			t.Errorf("%s: it unwraps %x, %v", g.Algorithm, material, err)
		}
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 5 {
		t.Errorf("there are golden tokens of %q only", seen)
	}
}
