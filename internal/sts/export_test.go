package sts

import (
	"kastellan.dev/internal/rootkey"
)

// TokenClaims are the claims of a token.
type TokenClaims = claims

// Issue makes a token.
func Issue(sealer rootkey.Sealer, c *TokenClaims) (accessKeyID, secret, token string, err error) {
	made, err := issue(sealer, c, 0)
	if err != nil {
		return "", "", "", err
	}
	return made.accessKeyID, made.secret.Reveal(), made.token.Reveal(), nil
}

// Open opens a token.
func Open(sealer rootkey.Sealer, accessKeyID, token string) (secret string, c *TokenClaims, err error) {
	made, c, err := open(sealer, accessKeyID, token)
	if err != nil {
		return "", nil, err
	}
	return made.secret.Reveal(), c, nil
}

// Purpose is what tokens are sealed for.
const Purpose = purpose

// MaxOpened is how many sessions are remembered at least.
const MaxOpened = maxOpened

// Remembered is how many sessions are remembered.
func (s *Service) Remembered() int { return len(s.opened.young) + len(s.opened.old) }
