// Package identity tells whose credentials were used: accounts, their root,
// users, groups and roles, access keys, sessions, and whom roles may trust.
//
// A [Directory] is immutable; [Source] holds the one in force and swaps it when
// the configuration is reloaded. Looking up a key takes no lock and allocates nothing.
// What a session may do is worked out once, when its [Principal] is made.
//
// The package refuses ambiguity: an access key, a user, a role or an account that exists
// twice is an error, and so is a policy that cannot be evaluated, or one that
// is named and not there. It does not verify signatures; package sigv4 does.
package identity
