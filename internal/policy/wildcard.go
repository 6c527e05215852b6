package policy

import "strings"

// selector is a compiled Action, NotAction, Resource or NotResource. The zero
// value, an absent element, matches nothing.
type selector struct {
	patterns []string
	not      bool
	folded   bool // patterns are in lower case, and so must the text be taken
}

// newSelector compiles patterns; fold is nil where case matters.
func newSelector(patterns []string, not bool, fold func(string) string) selector {
	s := selector{patterns: patterns, not: not, folded: fold != nil}
	for i, p := range patterns {
		for strings.Contains(p, "**") { // means the same as one
			p = strings.ReplaceAll(p, "**", "*")
		}
		if fold != nil {
			p = fold(p)
		}
		patterns[i] = p
	}
	return s
}

func (s *selector) matches(text string) bool {
	if s.patterns == nil {
		return false
	}
	for _, p := range s.patterns {
		if wildcardMatch(p, text, s.folded) {
			return !s.not
		}
	}
	return s.not
}

// wildcardMatch tells whether pattern covers the whole text: "*" stands for
// any bytes, "?" for one byte (ARNs and actions are ASCII). When a byte does
// not fit it goes back to the last "*" only, since giving an earlier one
// more could not help. So it takes at most len(pattern) × len(text) steps,
// and one pass where each part between stars fits at its first place.
func wildcardMatch(pattern, text string, folded bool) bool {
	p, t := 0, 0
	star, resume := -1, 0 // the last star, and where the text goes on after it
	for t < len(text) {
		c := text[t]
		if folded {
			c = lower(c)
		}
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
			if p == len(pattern) {
				return true
			}
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == c):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// foldASCII is strings.ToLower for ASCII alone: Unicode has letters, such as
// the Kelvin sign, that would become an ASCII one.
func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
