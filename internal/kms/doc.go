// Package kms is the domain: what the operations of AWS KMS do.
//
// [Service.Do] is its one door. It makes the call that every operation needs
// and that nothing else can make; the call resolves and authorizes keys, gives
// access to key stores only for keys it has authorized, and is written to the
// audit log whether it succeeded or not. [Operations] is the table of all
// operations: name, permission, key states, types.
//
// What is stored goes through package store; every process keeps a mirror of
// it in memory, so that using a key touches no storage. Custom key stores
// have a connection state machine (see connections.go, and work.go for what it
// does on the way) that survives the death of the process at any point.
//
// The package refuses to know any kind of key store: package keystore is the contract.
package kms
