package aeadtest_test

import (
	"bytes"
	"testing"

	"kastellan.dev/internal/aeadtest"
)

func TestMutantsAreMany(t *testing.T) {
	t.Parallel()
	sealed := []byte("abcdefgh")
	seen := make(map[string]string)
	for name, mutant := range aeadtest.Mutants(sealed, 2, 5) {
		if bytes.Equal(mutant, sealed) {
			t.Errorf("%s: the original", name)
		}
		seen[string(mutant)] = name
	}
	for _, want := range []string{"", "a", "abcdefg", "bcdefgh", "h", "`bcdefgh", "abcdefg\xe8", "abcdefgh\x00", "\xffabcdefgh",
		"cdefgh", "abfgh", "abcde", "cdeabfgh", "fghcdeab", "abababcdefgh"[2:], "ab\x00\x00\x00fgh", "abcdefghabcdefgh", "hgfedcba"} {
		if seen[want] == "" {
			t.Errorf("%q is not among them", want)
		}
	}
	if want := 8 * 8; len(seen) < want {
		t.Errorf("%d mutants, want more than %d", len(seen), want)
	}
}

func TestMutantsShareNoMemory(t *testing.T) {
	t.Parallel()
	sealed := []byte("abcdefgh")
	for name, mutant := range aeadtest.Mutants(sealed, 4) {
		clear(mutant)
		if string(sealed) != "abcdefgh" {
			t.Fatalf("%s: changing the mutant changes the original", name)
		}
	}
}

func TestMutantsEndWhenNobodyAsksForMore(t *testing.T) {
	t.Parallel()
	all := 0
	for range aeadtest.Mutants([]byte("abcdefgh"), 2) {
		all++
	}
	for stop := range all {
		n := 0
		for range aeadtest.Mutants([]byte("abcdefgh"), 2) {
			if n++; n > stop {
				break
			}
		}
		if n != stop+1 {
			t.Fatalf("%d instead of %d", n, stop+1)
		}
	}
}
