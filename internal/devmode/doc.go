// Package devmode is what `kastellan serve --dev` makes: a server on the
// loopback interface with one account, an HSM key store on two SoftHSM2 tokens
// and an external key store behind an XKS proxy of its own over TLS. Both
// are created and connected through the public API, as anybody would. For HSM
// clusters of the developer's own there are subnets, pools of SoftHSM2 tokens
// and a backup HSM.
//
// With a directory that is kept, a second start finds everything again.
// Where SoftHSM2 or cgo is missing the server runs without all that needs HSMs,
// and says why.
//
// The credentials are the same everywhere and public, so that lines can be
// pasted. The package therefore refuses every address but loopback ones: it must never
// guard a key that matters.
package devmode
