package kms

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/store"
)

// The sizes of pages of grants.
const (
	grantPage    = 50
	maxGrantPage = 100
)

func (c *call) listGrants(_ context.Context, in *kmsapi.ListGrantsRequest) (*kmsapi.ListGrantsResponse, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	if in.GranteeServicePrincipal != "" {
		return nil, invalid("GranteeServicePrincipal can be used by service principals only.")
	}
	after, err := openMarker(in.Marker, grantPath(k.Account, k.Region, k.ID, ""))
	if err != nil {
		return nil, err
	}
	size := pageSize(in.Limit)
	var found []*grantEntry
	if in.GrantID == "" {
		found = c.s.mirror.grantsOf(k.Region, k.ID, in.GranteePrincipal, after, size+1)
	} else if found, err = c.oneGrant(k, in); err != nil {
		return nil, err
	}
	entries, next := grantEntries(found, size)
	return &kmsapi.ListGrantsResponse{Grants: entries, NextMarker: next, Truncated: next != ""}, nil
}

// oneGrant gives the grant that a list is narrowed to, or none.
func (c *call) oneGrant(k *keyEntry, in *kmsapi.ListGrantsRequest) ([]*grantEntry, error) {
	if !isGrantID(in.GrantID) {
		return nil, invalidGrantID()
	}
	g := c.s.mirror.grant(grantPath(k.Account, k.Region, k.ID, in.GrantID))
	if g == nil || in.GranteePrincipal != "" && in.GranteePrincipal != g.Grantee {
		return nil, nil
	}
	return []*grantEntry{g}, nil
}

func pageSize(limit *int32) int {
	if limit == nil {
		return grantPage
	}
	return min(int(*limit), maxGrantPage)
}

// grantEntries gives a page of the size and the marker of the next one; found
// has one more if there is a next one.
func grantEntries(found []*grantEntry, size int) (entries []kmsapi.GrantListEntry, next string) {
	if len(found) > size {
		found = found[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(found[size-1].at))
	}
	for _, g := range found {
		entries = append(entries, g.entry())
	}
	return entries, next
}

// listRetirableGrants lists grants on the keys of all accounts. What it decides
// about is, as on AWS, the retiring principal, who must be of the caller's account.
func (c *call) listRetirableGrants(_ context.Context, in *kmsapi.ListRetirableGrantsRequest) (*kmsapi.ListRetirableGrantsResponse, error) {
	switch {
	case (in.RetiringPrincipal == "") == (in.RetiringServicePrincipal == ""):
		return nil, invalid("Specify either RetiringPrincipal or RetiringServicePrincipal, but not both.")
	case in.RetiringServicePrincipal != "":
		return nil, invalid("RetiringServicePrincipal can be used by service principals only.")
	}
	if err := checkPrincipalARN(in.RetiringPrincipal, c.caller.Region); err != nil {
		return nil, err
	}
	if err := c.authorize(c.op.Permission, in.RetiringPrincipal); err != nil {
		return nil, err
	}
	if who, _ := kmsapi.ParseARN(in.RetiringPrincipal); who.Account != c.caller.Account {
		return nil, kmsapi.Errorf(kmsapi.AccessDenied,
			"User: %s is not authorized to perform: %s on resource: %s because it belongs to another account",
			c.caller.ARN, c.op.Permission, in.RetiringPrincipal)
	}
	after, err := openMarker(in.Marker, grantPrefix)
	if err != nil {
		return nil, err
	}
	size := pageSize(in.Limit)
	entries, next := grantEntries(c.s.mirror.retirableBy(c.caller.Region, in.RetiringPrincipal, after, size+1), size)
	return &kmsapi.ListRetirableGrantsResponse{Grants: entries, NextMarker: next, Truncated: next != ""}, nil
}

func (c *call) retireGrant(ctx context.Context, in *kmsapi.RetireGrantRequest) (*kmsapi.Empty, error) {
	byToken, byID := in.GrantToken != "", in.KeyID != "" || in.GrantID != ""
	if byToken == byID || byID && (in.KeyID == "" || in.GrantID == "") {
		return nil, invalid("Specify either GrantToken, or both KeyId and GrantId.")
	}
	var g *grantEntry
	var err error
	if byToken {
		g, err = c.grantOf(ctx, in.GrantToken)
	} else {
		g, err = c.grantNamed(ctx, in.KeyID, in.GrantID)
	}
	if err != nil {
		return nil, err
	}
	c.retiring = g
	if err := c.mayRetire(g); err != nil {
		return nil, err
	}
	c.about(keyResource(g.Account, g.keyARN()))
	c.note("grantId", g.ID)
	return none, c.removeGrant(ctx, g.at, in.DryRun)
}

// grantNamed finds a grant for a caller who wants to retire it. That it does
// not exist is told only to those who may retire whatever the account issued.
func (c *call) grantNamed(ctx context.Context, keyID, id string) (*grantEntry, error) {
	name, err := c.parse(keyID)
	if err != nil {
		return nil, err
	}
	if !isGrantID(id) {
		return nil, invalidGrantID()
	}
	key := strings.TrimPrefix(name.Resource, "key/")
	g, err := c.s.grant(ctx, grantPath(name.Account, name.Region, key, id))
	if err != nil || g != nil {
		return g, err
	}
	if name.Account != c.caller.Account || c.authorize(c.op.Permission, name.String()) != nil {
		return nil, c.hidden(c.op.Permission)
	}
	if _, err := c.lookup(name); err != nil {
		return nil, err
	}
	return nil, grantNotFound(id)
}

// mayRetire decides about RetireGrant, which the grant itself allows: to the
// retiring principal, to the grantee if retiring is among its operations, and to the
// account that issued it. Policies of callers can deny it; the key's policy has no say.
func (c *call) mayRetire(g *grantEntry) error {
	q := question{permission: c.op.Permission, resource: g.keyARN(), key: c.s.mirror.key(g.Region, g.KeyID), byIAM: true}
	outcome := c.decide(q)
	if outcome.Decision != policy.ExplicitDeny {
		own := outcome.Decision == policy.Allow
		issued := g.IssuingAccount == c.caller.Account && own
		grantee := slices.Contains(g.Operations, kmsapi.GrantRetireGrant) && c.speaksFor(g.Grantee, own)
		if issued || grantee || c.speaksFor(g.Retiring, own) {
			return nil
		}
	}
	if g.Account == c.caller.Account && outcome.Decision != policy.Allow {
		return c.refusal(q, outcome)
	}
	return c.hidden(c.op.Permission)
}

func (c *call) revokeGrant(ctx context.Context, in *kmsapi.RevokeGrantRequest) (*kmsapi.Empty, error) {
	k, err := c.manage(in.KeyID)
	if err != nil {
		return nil, err
	}
	if !isGrantID(in.GrantID) {
		return nil, invalidGrantID()
	}
	return none, c.removeGrant(ctx, grantPath(k.Account, k.Region, k.ID, in.GrantID), in.DryRun)
}

// removeGrant deletes a grant that the caller may delete.
func (c *call) removeGrant(ctx context.Context, at string, dry bool) error {
	return c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[grantRecord](tx, at)
		switch {
		case err != nil:
			return err
		case rec == nil:
			_, _, _, id := splitGrantPath(at)
			return grantNotFound(id)
		case dry:
			return dryRun()
		}
		return rec.remove(tx)
	})
}

func grantNotFound(id string) error {
	return kmsapi.Errorf(kmsapi.NotFound, "Grant '%s' does not exist", id)
}

func invalidGrantID() error {
	return kmsapi.Errorf(kmsapi.InvalidGrantID, "A grant id is 64 hexadecimal digits.")
}
