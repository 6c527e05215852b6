package rules_test

import (
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if !saysWhatItIs(p) {
			t.Errorf("%s has no package comment that says what it is", p.name())
		}
	}
}

func saysWhatItIs(p pkg) bool {
	return len(p.GoFiles)+len(p.CgoFiles) == 0 || len(strings.Fields(p.Doc)) >= 5
}

func TestAPackageWithoutACommentIsFound(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]bool{"": false, "Package a.": false, "Package a holds what b needs.": true} {
		if got := saysWhatItIs(pkg{Doc: doc, GoFiles: []string{"a.go"}}); got != want {
			t.Errorf("%q: %v", doc, got)
		}
	}
}

func TestTheModuleReplacesNothing(t *testing.T) {
	t.Parallel()
	for _, f := range files(t) {
		if f.path == "go.mod" {
			if line := replacement(f.text); line != "" {
				t.Errorf("go.mod: %s", line)
			}
			return
		}
	}
	t.Error("there is no go.mod")
}

func replacement(mod string) string {
	for line := range strings.Lines(mod) {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func TestAReplacementIsFound(t *testing.T) {
	t.Parallel()
	if replacement("module a\n\nreplace b => ../b\n") == "" || replacement("module replaced\n") != "" {
		t.Error("replacements are not told from other lines")
	}
}
