package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnEmptyPublicKeyIsNotNone(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", " ", empty} {
		if o, err := (&auditVerifyCmd{PublicKey: []string{key}}).options(nil); err == nil {
			t.Errorf("%q gives the keys %q", key, o.Keys)
		}
	}
}
