// Package xksproxy is a proxy for AWS KMS external key stores (XKS Proxy API,
// version 1): it answers GetKeyMetadata, Encrypt, Decrypt and GetHealthStatus
// with keys that stay in PKCS#11 tokens or in a sealed key file.
//
// A [Proxy] is an http.Handler; a [Server] puts TLS, limits and a second
// listener for metrics around it. One proxy serves several stores, told apart by the
// prefix of the URI path; each has its own credentials, keys, rules and
// limits. A store's keys live in one [Ring].
//
// Every request goes through the same checks in this order: path, method,
// size of the body, signature, limits of the store, form of the message, rules,
// existence of the key, its state, its usage, sizes, and then the
// cryptography. The first that fails decides the answer.
//
// The configuration is immutable while it is in use. Reload builds a new state
// beside the old one and swaps them; requests that run finish on the old.
//
// The proxy refuses: requests that are not signed, query strings, tokens' keys
// that the configuration does not name, IVs of other lengths than 12 and 16 bytes,
// plain HTTP off the loopback interface, and an HSM that does not answer in
// time. It never logs nor echoes a plaintext, a ciphertext or a secret. A body that takes
// longer than two seconds to arrive is refused, and bodies that are arriving have a limit of
// their own, so that strangers cannot take the places of those who have sent.
package xksproxy
