package kms

import "kastellan.dev/internal/rootkey"

// For tests from outside.
var (
	GrantOperations = grantOperations
	CheckPrincipal  = checkPrincipalARN
)

// GrantBatch is how many grants are deleted at once.
const GrantBatch = grantBatch

// OpenGrantToken gives the storage key that a token holds.
func OpenGrantToken(sealer rootkey.Sealer, region, token string) (at string, ok bool) {
	return (&Service{sealer: sealer}).openGrantToken(region, token)
}
