package keyspec_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

func enforced() bool { return fips140.Enforced() }

// TestWithFIPS runs tests of this package again, in a process that only has
// approved cryptography. They know by themselves what is refused there.
func TestWithFIPS(t *testing.T) {
	t.Parallel()
	if enforced() {
		t.Skip("this is that process")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v",
		"-test.run=^(TestEveryCell|TestTextsOfRefusals|TestKeysPrintAsTheirSpec|TestRoundTrips|TestRefusedByFIPS|TestForeignMaterial|TestSmallExponents)$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, ran := range []string{"TestEveryCell/RSA_2048", "TestEveryCell/ML_KEM_768", "TestRoundTrips/ECC_NIST_P521", "TestRefusedByFIPS", "TestSmallExponents"} {
		if !strings.Contains(string(out), "--- PASS: "+ran) {
			t.Errorf("%s did not run:\n%s", ran, out)
		}
	}
}

func TestRefusedByFIPS(t *testing.T) {
	t.Parallel()
	if !enforced() {
		t.Skip("all cryptography is allowed")
	}
	for _, s := range keyspec.All() {
		if !slices.Contains(unapproved, s.Name) {
			continue
		}
		text := "Key spec " + string(s.Name) + " is not available where only FIPS 140-3 approved cryptography is allowed."
		_, err := s.Generate()
		wantError(t, err, kmsapi.UnsupportedOperation, text)
		_, err = s.Open(nil)
		wantError(t, err, kmsapi.UnsupportedOperation, text)
		_, err = s.OpenPublic(nil)
		wantError(t, err, kmsapi.UnsupportedOperation, text)
	}
}
