package kms

import (
	"maps"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
)

// grantable tells whether grants can bear on what was asked: not on what no grant can
// allow, nor on keys without grants.
func (c *call) grantable() bool {
	q := &c.asked
	_, ok := grantedBy[q.permission]
	return ok && (len(c.presented) > 0 || c.s.mirror.countGrants(q.key.Region, q.key.ID) > 0)
}

// operationSet is a set of operations that can be granted: a bit for each, as a
// principal can have thousands of grants to look through.
type operationSet uint32

// grantedBy leads from permissions to the operations of grants that give them. RetireGrant
// is not among them: mayRetire decides about it.
var grantedBy = func() map[string]operationSet {
	out := make(map[string]operationSet)
	for i, name := range kmsapi.GrantOperation("").Values() {
		if kmsapi.GrantOperation(name) != kmsapi.GrantRetireGrant {
			out["kms:"+name] = 1 << i
		}
	}
	return out
}()

func setOf(operations []kmsapi.GrantOperation) (all operationSet) {
	for _, op := range operations {
		all |= grantedBy["kms:"+string(op)]
	}
	return all
}

// granted tells whether a grant on the key allows what is asked: one that every process
// has seen, or one whose token the caller presents.
func (q *question) granted() bool {
	c, op := q.call, grantedBy[q.permission]
	allows := func(g *grantEntry) bool { return g.allows&op != 0 && q.meets(&g.grantRecord) }
	for _, g := range c.presented {
		if g.KeyID == q.key.ID && g.Account == q.key.Account && c.isGrantee(g) && allows(g) {
			return true
		}
	}
	for _, name := range c.grantees() {
		if c.s.mirror.anyGrant(q.key, name, allows) {
			return true
		}
	}
	account := accountARN(c.caller.Region, c.caller.Account)
	return c.s.mirror.anyGrant(q.key, account, allows) && q.delegated()
}

// grantees are the names under which grants can be for the caller itself.
func (c *call) grantees() []string {
	if role := c.caller.Subject().Role; role != "" {
		return []string{c.caller.ARN, role}
	}
	return []string{c.caller.ARN}
}

// isGrantee tells whether a grant is for the caller.
func (c *call) isGrantee(g *grantEntry) bool {
	if slices.Contains(c.grantees(), g.Grantee) {
		return true
	}
	return g.Grantee == accountARN(c.caller.Region, c.caller.Account) && c.asked.delegated()
}

// delegated tells whether the caller's account lets it do what a grant lets the account do.
func (q *question) delegated() bool {
	in := q.call.caller.Inputs()
	in.Owner = q.call.caller.Account
	return policy.IdentityAllows(&in, q.call.request()) == policy.Allow
}

// meets tells whether what is asked is within the constraints of a grant. Those on the
// encryption context bind the operations that have one; whoever makes a grant by
// the power of another one cannot give more than that.
func (q *question) meets(g *grantRecord) bool {
	limits := g.Constraints
	if limits != nil && limits.SourceArn != "" && !q.comesFrom(limits.SourceArn) {
		return false
	}
	if child, ok := q.call.in.(*kmsapi.CreateGrantRequest); ok {
		return g.covers(child)
	}
	if limits == nil {
		return true
	}
	context, has := q.encryptionContext()
	return !has || withinConstraint(limits, context)
}

// comesFrom tells whether the request is made on behalf of a resource.
func (q *question) comesFrom(arn string) bool {
	source, ok := q.Lookup("aws:sourcearn")
	return ok && slices.Contains(source, arn)
}

func withinConstraint(limits *kmsapi.GrantConstraints, context map[string]string) bool {
	if limits.EncryptionContextEquals != nil && !maps.Equal(limits.EncryptionContextEquals, context) {
		return false
	}
	return includes(context, limits.EncryptionContextSubset)
}

// includes tells whether a context has all pairs.
func includes(context, pairs map[string]string) bool {
	for k, v := range pairs {
		if have, ok := context[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// covers tells whether a grant that allows CreateGrant allows to make another one: with
// no operations and no contexts beyond its own.
func (g *grantRecord) covers(child *kmsapi.CreateGrantRequest) bool {
	for _, op := range child.Operations {
		if !slices.Contains(g.Operations, op) {
			return false
		}
	}
	limits := g.Constraints
	if limits == nil {
		return true
	}
	own := child.Constraints
	if own == nil {
		return false
	}
	switch {
	case limits.SourceArn != "" && own.SourceArn != limits.SourceArn:
		return false
	case limits.EncryptionContextEquals != nil && !maps.Equal(own.EncryptionContextEquals, limits.EncryptionContextEquals):
		return false
	}
	return includes(own.EncryptionContextEquals, limits.EncryptionContextSubset) || includes(own.EncryptionContextSubset, limits.EncryptionContextSubset)
}

// anyGrant tells whether one of a grantee's grants on a key is as wanted.
func (m *mirror) anyGrant(k *keyEntry, grantee string, wanted func(*grantEntry) bool) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for g := range m.grants.ofGrantee[onKey{keyIndex(k.Region, k.ID), grantee}].after("") {
		if wanted(g) {
			return true
		}
	}
	return false
}

// operationOf is the name of the operation that a permission is for: "ReEncryptFrom".
func operationOf(permission string) string { return strings.TrimPrefix(permission, "kms:") }
