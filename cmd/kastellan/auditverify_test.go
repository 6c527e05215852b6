package main

import (
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/audit/trail"
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

func TestOnlyWhatWasKeptElsewhereVouchesForALog(t *testing.T) {
	t.Parallel()
	fromConfig, fromLog := &trail.Report{}, &trail.Report{KeysFromLog: true}
	for name, test := range map[string]struct {
		cmd    auditVerifyCmd
		report *trail.Report
		want   bool
	}{
		"the key of the configuration":                     {auditVerifyCmd{}, fromConfig, true},
		"a key that was kept":                              {auditVerifyCmd{PublicKey: []string{"key"}}, fromConfig, false},
		"a checkpoint that was kept":                       {auditVerifyCmd{Checkpoint: []string{"file"}}, fromConfig, false},
		"the log's own keys, of which the report tells so": {auditVerifyCmd{}, fromLog, false},
	} {
		if got := test.cmd.trustsConfigAlone(test.report); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
