package sts_test

import (
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/sts"
)

var update = flag.Bool("update", false, "write the golden token anew; older versions must still be able to open it")

func example() *sts.TokenClaims {
	return &sts.TokenClaims{
		Kind: "role", Issuer: "arn:aws:iam::111122223333:role/svc/app", IssuerID: "AROAIA6ONWR5JYLXGONH3", Name: "deploy",
		Issued: 1764300000, Expires: 1764303600, Policy: allowing("kms:Encrypt"), PolicyARNs: []string{"arn:aws:iam::111122223333:policy/Lists"},
		Tags: map[string]string{"team": "eu", "case": "42"}, Transitive: []string{"case"}, SourceID: "alice",
		Provider: "arn:aws:iam::111122223333:oidc-provider/issuer.example.test", Claims: map[string]string{"issuer.example.test:sub": "x"},
	}
}

// golden is a file of testdata/v1.
func golden(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// goldenKey is the key that the golden token is sealed under; it guards nothing.
func goldenKey(t testing.TB) rootkey.Sealer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := os.WriteFile(path, []byte(golden(t, "root.key")), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := rootkey.Load(rootkey.Source{File: path})
	if err != nil {
		t.Fatal(err)
	}
	return key.Direct()
}

func TestTheGoldenTokenIsStillOpened(t *testing.T) {
	t.Parallel()
	sealer := goldenKey(t)
	if *update {
		id, secret, token, err := sts.Issue(sealer, example())
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"access-key-id": id, "secret": secret, "token": token} {
			if err := os.WriteFile(filepath.Join("testdata", "v1", name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	secret, claims, err := sts.Open(sealer, golden(t, "access-key-id"), golden(t, "token"))
	if err != nil {
		t.Fatal(err)
	}
	if secret != golden(t, "secret") {
		t.Error("the secret is another one")
	}
	if diff := cmp.Diff(example(), claims); diff != "" {
		t.Error(diff)
	}
}

func TestCredentialsHaveTheFormOfAWS(t *testing.T) {
	t.Parallel()
	sealer := rootkey.Random().Direct()
	ids := make(map[string]bool)
	for range 100 {
		id, secret, token, err := sts.Issue(sealer, &sts.TokenClaims{Kind: "user"})
		if err != nil {
			t.Fatal(err)
		}
		if len(id) != 20 || !strings.HasPrefix(id, "ASIA") || len(secret) != 40 || ids[id] || ids[secret] {
			t.Fatalf("%q, a secret of %d characters", id, len(secret))
		}
		ids[id], ids[secret] = true, true
		if _, _, err := sts.Open(sealer, id, token); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSealedBytesThatAreNoTokensAreRefused(t *testing.T) {
	t.Parallel()
	const id = "ASIA0123456789ABCDEF"
	sealer := rootkey.Random().Direct()
	for name, plain := range map[string][]byte{
		"nothing":                nil,
		"less than a secret":     append([]byte{1}, make([]byte, 29)...),
		"another version":        append([]byte{2}, make([]byte, 60)...),
		"claims that are chaos":  append(append([]byte{1}, make([]byte, 30)...), 0xff, 0xff, 0xff),
		"claims that are absent": append([]byte{1}, make([]byte, 30)...),
	} {
		sealed, err := sealer.Seal(sts.Purpose, id, plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := sts.Open(sealer, id, base64.StdEncoding.EncodeToString(sealed)); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
	sealed, _ := sealer.Seal("key material", id, append([]byte{1}, make([]byte, 60)...))
	if _, _, err := sts.Open(sealer, id, base64.StdEncoding.EncodeToString(sealed)); err == nil {
		t.Error("what was sealed for another purpose is opened")
	}
}

func FuzzOpenToken(f *testing.F) {
	sealer := goldenKey(f)
	id, token := golden(f, "access-key-id"), golden(f, "token")
	f.Add(id, token)
	f.Add(id, token[:40])
	f.Add(id, token+"\n")
	f.Add("ASIA", "")
	f.Fuzz(func(t *testing.T, gotID, gotToken string) {
		_, _, err := sts.Open(sealer, gotID, gotToken)
		if same := gotID == id && gotToken == token; same != (err == nil) {
			t.Errorf("the token is opened: %v; it is the one that was made: %v", err == nil, same)
		}
	})
}

// FuzzClaims opens what only somebody with the root key could have sealed.
func FuzzClaims(f *testing.F) {
	const id = "ASIA0123456789ABCDEF"
	sealer := rootkey.Random().Direct()
	f.Add(append([]byte{1}, make([]byte, 40)...))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, err := sealer.Seal(sts.Purpose, id, plain)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = sts.Open(sealer, id, base64.StdEncoding.EncodeToString(sealed)) // does not panic
	})
}
