// Package control is the control plane of HSM clusters: it speaks the CloudHSM v2 API,
// makes clusters out of the tokens of pools, and keeps them as they are meant to be.
//
// A request changes a record and is answered; a reconciler does what the record
// asks for: it prepares and wipes tokens, fills a new HSM with the keys of the others before
// that turns ACTIVE, takes backups, notices HSMs that are lost and replaces them. Each
// step may be interrupted at any point and is begun anew. Everything that the reconciler
// needs to know is on record, so a restart goes on where the process before it ended.
//
// The users of an HSM are records too: a PKCS#11 token knows one user, and that is this
// service (see package rack). Key stores and people log in as a cluster's users through
// [Service.Open] and the extension operations.
//
// The package refuses: to call an HSM ACTIVE that lacks a key which another one has, to wipe the last
// HSM of a cluster before its keys are in a backup, and to give a token to a cluster before it was wiped.
package control
