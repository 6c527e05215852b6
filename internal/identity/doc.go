// Package identity tells whose credentials were used: accounts, their root and
// users, access keys.
//
// A [Directory] is immutable; [Source] holds the one in force and swaps it when
// the configuration is reloaded. Looking up a key takes no lock and allocates nothing.
//
// The package refuses ambiguity: an access key, a user or an account that exists
// twice is an error, and so is a policy that cannot be evaluated fully. It does
// not verify signatures; package sigv4 does.
package identity
