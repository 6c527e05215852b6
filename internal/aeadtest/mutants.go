// Package aeadtest makes of a sealed message all that must not open: what
// Wycheproof does to ciphertexts, for formats of our own. Tests of every
// package that decrypts use it, so that none has a shorter list than another.
//
// It refuses to give the message itself: a mutant is never the original.
package aeadtest

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
)

// Mutants gives changed copies of a message, each with the name of its change:
// every bit flipped, every length cut off at either end, bytes added at either
// end and in between, parts left out, doubled, exchanged, zeroed. cuts are where
// the parts of the format meet, in ascending order and without the ends. Each
// mutant is the caller's to keep.
func Mutants(sealed []byte, cuts ...int) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		give := func(name string, mutant []byte) bool {
			return bytes.Equal(mutant, sealed) || yield(name, mutant)
		}
		_ = flips(sealed, give) && lengths(sealed, give) && exchanges(split(sealed, cuts), give) &&
			give("all zeros", make([]byte, len(sealed))) && give("all ones", bytes.Repeat([]byte{0xff}, len(sealed))) &&
			give("twice", slices.Concat(sealed, sealed)) && give("backwards", reversed(sealed))
	}
}

type giver func(name string, mutant []byte) (more bool)

func flips(sealed []byte, give giver) bool {
	for i := range 8 * len(sealed) {
		mutant := bytes.Clone(sealed)
		mutant[i/8] ^= 1 << (i % 8)
		if !give(fmt.Sprintf("bit %d of byte %d flipped", i%8, i/8), mutant) {
			return false
		}
	}
	return true
}

func lengths(sealed []byte, give giver) bool {
	for n := range sealed {
		if !give(fmt.Sprintf("cut to %d bytes", n), bytes.Clone(sealed[:n])) || !give(fmt.Sprintf("the first %d bytes cut off", n), bytes.Clone(sealed[n:])) {
			return false
		}
	}
	for i := range len(sealed) + 1 {
		for _, b := range []byte{0, 0x80, 0xff} {
			if !give(fmt.Sprintf("a byte %#x put in at %d", b, i), slices.Insert(bytes.Clone(sealed), i, b)) {
				return false
			}
		}
	}
	return true
}

func exchanges(parts [][]byte, give giver) bool {
	for i := range parts {
		if !give(fmt.Sprintf("without part %d", i), slices.Concat(slices.Delete(slices.Clone(parts), i, i+1)...)) ||
			!give(fmt.Sprintf("part %d doubled", i), slices.Concat(slices.Insert(slices.Clone(parts), i, parts[i])...)) ||
			!give(fmt.Sprintf("part %d zeroed", i), slices.Concat(with(parts, i, make([]byte, len(parts[i])))...)) {
			return false
		}
		for j := range i {
			if !give(fmt.Sprintf("parts %d and %d exchanged", j, i), slices.Concat(with(with(parts, i, parts[j]), j, parts[i])...)) {
				return false
			}
		}
	}
	return true
}

func split(sealed []byte, cuts []int) (parts [][]byte) {
	from := 0
	for _, cut := range append(slices.Clone(cuts), len(sealed)) {
		parts = append(parts, sealed[from:cut])
		from = cut
	}
	return parts
}

func with(parts [][]byte, i int, part []byte) [][]byte {
	out := slices.Clone(parts)
	out[i] = part
	return out
}

func reversed(b []byte) []byte {
	out := bytes.Clone(b)
	slices.Reverse(out)
	return out
}
