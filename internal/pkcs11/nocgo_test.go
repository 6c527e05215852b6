//go:build !cgo || !unix

package pkcs11_test

import (
	"errors"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

// actAsParent is for tests of processes, which there are none of here.
func actAsParent() {}

func TestWithoutCgoOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if pkcs11.Available() {
		t.Error("modules are said to be available")
	}
	_, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: pkcs11.URI{ModulePath: "/usr/lib/softhsm/libsofthsm2.so", Token: "t"}}, nil)
	if !errors.Is(err, pkcs11.ErrNoCgo) {
		t.Errorf("Open: %v", err)
	}
}
