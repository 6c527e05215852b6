package kms

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// word is a record whose storage key is itself.
type word string

func (w word) path() string { return string(w) }

func TestOrderedIsASortedSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var o ordered[word]
		model := make(map[word]bool)
		key := rapid.StringMatching(`[a-p]{1,4}`)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			// Many at once, so that stretches are parted and emptied.
			from, n := rapid.IntRange(0, 900).Draw(t, "from"), rapid.IntRange(1, 900).Draw(t, "n")
			put := rapid.Bool().Draw(t, "put")
			for i := from; i < from+n; i++ {
				w := word([]byte{byte('a' + i*7%16), byte('a' + i/16%16), byte('a' + i/256%16)})
				if put {
					o.put(w)
					model[w] = true
				} else {
					o.remove(w.path())
					delete(model, w)
				}
			}
		}
		want := slices.Sorted(maps.Keys(model))
		if got := slices.Collect(o.after("")); !slices.Equal(got, want) || o.len() != len(want) {
			t.Fatalf("%d records, %d counted, want %d", len(got), o.len(), len(want))
		}
		at := key.Draw(t, "at")
		rest := slices.DeleteFunc(want, func(w word) bool { return w.path() <= at })
		if got := slices.Collect(o.after(at)); !slices.Equal(got, rest) {
			t.Fatalf("behind %q: %d records, want %d", at, len(got), len(rest))
		}
		if _, found := o.get(at); found != model[word(at)] {
			t.Fatalf("%q found: %v", at, found)
		}
		for _, s := range o.stretches {
			if len(s) == 0 || len(s) > stretch {
				t.Fatalf("a stretch of %d records", len(s))
			}
		}
	})
}

func TestOrderedReplaces(t *testing.T) {
	t.Parallel()
	var o ordered[*grantEntry]
	first, second := &grantEntry{at: "a"}, &grantEntry{at: "a"}
	o.put(first)
	o.put(second)
	if got, _ := o.get("a"); got != second || o.len() != 1 {
		t.Error("the old record is still there")
	}
	var none *ordered[*grantEntry]
	if _, found := none.get("a"); found || none.len() != 0 || len(slices.Collect(none.after(""))) != 0 {
		t.Error("nil is not empty")
	}
}
