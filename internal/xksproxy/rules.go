package xksproxy

import (
	"fmt"
	"slices"

	"kastellan.dev/internal/xksapi"
)

// Effect is what a rule does.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Rule is a line of a store's secondary authorization. It matches a request that
// matches each of its lists; an empty list matches everything. In patterns * stands
// for any characters and ? for one. Principals are compared as text: KMS also
// sends service principals and "AWS Internal", which are no ARNs.
type Rule struct {
	Name          string
	Effect        Effect
	Principals    []string // patterns of awsPrincipalArn
	Keys          []string // patterns of external key ids
	Operations    []string // GetKeyMetadata, Encrypt, Decrypt
	KMSOperations []string // patterns of kmsOperation
	KMSKeyARNs    []string // patterns of kmsKeyArn, which GetKeyMetadata does not have
}

// defaultRule is the name in the log of the decision that no rule made.
const defaultRule = "(default)"

func (r Rule) matches(op operation, keyID string, m *xksapi.RequestMetadata) bool {
	return (len(r.Operations) == 0 || slices.Contains(r.Operations, string(op))) &&
		matchAny(r.Keys, keyID) &&
		matchAny(r.Principals, m.AWSPrincipalARN) &&
		matchAny(r.KMSOperations, m.KMSOperation) &&
		matchAny(r.KMSKeyARNs, m.KMSKeyARN)
}

func (r Rule) check(path string) error {
	switch {
	case r.Name == "":
		return &FieldError{path + ".name", "a rule needs a name: it goes to the log"}
	case r.Effect != Allow && r.Effect != Deny:
		return &FieldError{path + ".effect", `"allow" or "deny"`}
	}
	for i, op := range r.Operations {
		switch operation(op) {
		case opMetadata, opEncrypt, opDecrypt:
		default:
			return &FieldError{fmt.Sprintf("%s.operations[%d]", path, i), "an operation is GetKeyMetadata, Encrypt or Decrypt"}
		}
	}
	return nil
}

// decide gives the first rule that matches, from top to bottom, or the default.
func decide(rules []Rule, otherwise Effect, op operation, keyID string, m *xksapi.RequestMetadata) (effect Effect, rule string) {
	for _, r := range rules {
		if r.matches(op, keyID, m) {
			return r.Effect, r.Name
		}
	}
	return otherwise, defaultRule
}

func matchAny(patterns []string, text string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if match(p, text) {
			return true
		}
	}
	return false
}

// match compares byte by byte and, where it fails, goes back to the last * only: its
// time is at most the product of both lengths.
func match(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
