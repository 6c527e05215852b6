package pkcs11test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

// Module is where Debian keeps SoftHSM2.
const Module = "/usr/lib/softhsm/libsofthsm2.so"

// TokenRef says how to reach a token made for a test, and its PINs.
type TokenRef struct {
	URI   pkcs11.URI
	Env   []string // SOFTHSM2_CONF
	SOPIN string
	PIN   string
	Label string
	Dir   string // holds the configuration and the token's objects
}

// Config is a configuration that reaches the token.
func (r TokenRef) Config() pkcs11.Config { return pkcs11.Config{URI: r.URI, Env: r.Env} }

// Require skips the test where SoftHSM2 or cgo is missing, or fails it when
// KASTELLAN_REQUIRE_SOFTHSM=1 is set.
func Require(t testing.TB) {
	t.Helper()
	missing := ""
	if _, err := os.Stat(Module); err != nil {
		missing = "SoftHSM2 is not installed"
	}
	if !pkcs11.Available() {
		missing = "this binary is built without cgo"
	}
	switch {
	case missing == "":
	case os.Getenv("KASTELLAN_REQUIRE_SOFTHSM") == "1":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// NewTokens makes n initialised tokens with a user PIN each. It calls Require.
// The package's TestMain must call pkcs11.WorkerMain.
func NewTokens(t testing.TB, n int) []TokenRef {
	t.Helper()
	tokens := make([]TokenRef, n)
	for i := range tokens {
		tokens[i] = NewToken(t, fmt.Sprintf("test-%d", i+1), "1234")
	}
	return tokens
}

// NewToken makes one token; with an empty pin its user PIN stays
// uninitialised.
func NewToken(t testing.TB, label, pin string) TokenRef {
	t.Helper()
	Require(t)
	dir := t.TempDir()
	ref := TokenRef{
		URI:   pkcs11.URI{ModulePath: Module, Token: label},
		Env:   []string{"SOFTHSM2_CONF=" + writeConf(t, dir)},
		SOPIN: "12345678",
		PIN:   pin,
		Label: label,
		Dir:   dir,
	}
	info, err := pkcs11.InitToken(context.Background(), pkcs11.ProvisionConfig{
		ModulePath: Module,
		Env:        ref.Env,
		Label:      label,
		SOPIN:      secret.NewText(ref.SOPIN),
		UserPIN:    secret.NewText(pin),
	})
	if err != nil {
		t.Fatalf("initialising a token: %v", err)
	}
	ref.URI.Serial = info.Serial
	return ref
}

// writeConf writes a configuration of SoftHSM2 that keeps its objects in dir.
func writeConf(t testing.TB, dir string) string {
	t.Helper()
	objects := filepath.Join(dir, "tokens")
	if err := os.Mkdir(objects, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := "directories.tokendir = " + objects + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}
