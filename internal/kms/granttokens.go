package kms

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// A grant token names a grant, and nothing more: it is sealed so that nobody
// but this service can make one, in any process that has the same root key,
// and needs no record. The layout is in docs/formats.md.
const (
	grantTokenPurpose = "grant token" // of the seal; its context is the Region
	grantTokenVersion = 1
	grantTokenFixed   = 1 + 32 + 12 // before the key id
)

// grantToken makes a token of a grant. Each one is different.
func (s *Service) grantToken(g *grantRecord) (string, error) {
	id, err := hex.DecodeString(g.ID)
	if err != nil {
		return "", fmt.Errorf("making a grant token: %w", err)
	}
	plain := append([]byte{grantTokenVersion}, id...)
	plain = append(plain, g.Account...)
	plain = append(plain, g.KeyID...)
	sealed, err := s.sealer.Seal(grantTokenPurpose, g.Region, plain)
	if err != nil {
		return "", fmt.Errorf("making a grant token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// openGrantToken gives the storage key of the grant that a token of a Region names.
func (s *Service) openGrantToken(region, token string) (at string, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", false
	}
	plain, err := s.sealer.Open(grantTokenPurpose, region, sealed)
	if err != nil || len(plain) <= grantTokenFixed || plain[0] != grantTokenVersion {
		return "", false
	}
	account, keyID := string(plain[33:grantTokenFixed]), string(plain[grantTokenFixed:])
	return grantPath(account, region, keyID, hex.EncodeToString(plain[1:33])), true
}

// grantOf gives the grant that a token names.
func (c *call) grantOf(ctx context.Context, token string) (*grantEntry, error) {
	at, ok := c.s.openGrantToken(c.caller.Region, token)
	if ok {
		g, err := c.s.grant(ctx, at)
		if err != nil || g != nil {
			return g, err
		}
	}
	return nil, kmsapi.Errorf(kmsapi.InvalidGrantToken, "The grant token does not belong to any grant.")
}

// checkGrantTokens takes the tokens of a request, and refuses those that are not of grants.
// It does not matter on which key the grants are.
func (c *call) checkGrantTokens(ctx context.Context, tokens []string) error {
	for _, token := range tokens {
		g, err := c.grantOf(ctx, token)
		if err != nil {
			return err
		}
		c.presented = append(c.presented, g)
	}
	return nil
}

// grant finds a grant by its storage key; it is nil when there is none. A grant
// that another process has made a moment ago may not be in the mirror yet, but
// its token can be here already: what the mirror lacks is looked for in the store.
func (s *Service) grant(ctx context.Context, at string) (*grantEntry, error) {
	if g := s.mirror.grant(at); g != nil {
		return g, nil
	}
	var rec *grantRecord
	err := s.db.View(ctx, func(r store.Reader) (err error) {
		rec, err = load[grantRecord](r, at)
		return err
	})
	if err != nil || rec == nil {
		return nil, err
	}
	return newGrantEntry(rec, at), nil
}
