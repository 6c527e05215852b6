// Package sts is the security token service: it gives out temporary credentials,
// for roles to those whom the roles trust and for users to themselves, and
// knows them again when requests are signed with them.
//
// A session token holds all that the session is, sealed under the root key, so
// that any node can verify a request without asking where sessions are kept:
// they are kept nowhere. The text of a token is, in base64 (RFC 4648, section 4),
// what the key ring seals for the purpose "session token" and the access key id
// as the context:
//
//	byte  0       version: 1
//	      1..30   random: in base64 these are the secret access key
//	     31..     claims: JSON, compressed (RFC 1951), and zeros if the
//	              caller wants a longer token
//
// What a token says is held against the accounts that are configured: the session of
// a role or user that is gone, or that has another unique id now, is as unknown as
// one that was made up. So is one that names another policy as its limit than there is:
// such a policy allows nothing.
//
// [Service.Do] is the one door, as that of package kms: it decides, by the caller's
// policies and the role's trust policy, and writes the audit record without which nothing is answered.
// The package refuses root as one who assumes roles, sessions as those who ask for sessions of users,
// and tokens of identity providers that are not signed with RSA or ECDSA.
package sts
