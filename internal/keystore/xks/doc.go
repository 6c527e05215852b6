// Package xks keeps keys in external key stores: behind any proxy that speaks
// the XKS Proxy API, version 1, reached by a public endpoint or by a VPC endpoint
// service.
//
// Every plaintext is encrypted twice: here, with XAES-256-GCM under an inner key that
// KMS alone has (32 random bytes, sealed in the KMS key's record and bound
// to its ARN and its external key), and then by the proxy with the external key. So the
// proxy sees no plaintext, and neither side can decrypt without the other.
//
// Sealed bytes, as Encrypt returns them:
//
//	byte  0         version: 1
//	      1         i: length of the IV, 12 or 16
//	      2         m: length of the ciphertext metadata, 0 to 20
//	      3..       IV, i bytes
//	      ..        ciphertext metadata, m bytes
//	      ..        authentication tag, 16 bytes
//	      rest      ciphertext: as long as the inner one, which is 40 bytes
//	                longer than the plaintext; at most 4,300 bytes
//
// The longest plaintext of 4,096 bytes becomes 4,191 bytes at most, which leaves room for
// the envelope in a ciphertext blob of 6,144. The layout belongs to
// this store; the proxy sees the parts. Both layers authenticate the additional
// authenticated data; the inner one with the version byte in front of it.
//
// A call to the proxy may take 250 ms, connecting and TLS included. After a
// network timeout, and nothing else, it is made once more. A request that was sent on a pooled connection
// which turns out to be closed is sent on another one within its 250 ms:
// that is no second call, and Encrypt and Decrypt are safe to repeat.
// Answers are held against the specification before anything in them is used.
//
// What is refused: redirects, proxies from the environment, TLS below 1.2,
// TLS 1.2 suites other than the two that AWS allows, certificates whose name
// stands in the common name alone (Go looks at alternative names only; AWS's
// documentation speaks of the common name, public CAs fill in both), answers above
// 64 KiB. The suites of TLS 1.3 cannot be chosen in Go: TLS_AES_128_GCM_SHA256 is
// offered although it is not on AWS's list. AWS does not offer it, so that a proxy which
// prefers it takes another one; refusing it after the handshake would lock out
// proxies that AWS accepts. The evidence of connecting shows the suite in use.
//
// There is no circuit breaker: AWS asks a failing proxy again with every
// request, and so does this. What bounds the damage of a proxy that hangs is the number of calls
// that may be under way; further ones are throttled.
package xks
