// Package rootkey is how the process gets its own key, and how secrets are
// sealed under it before they are stored.
//
// The root key comes from outside ([Load]) and encrypts key-encryption keys
// (KEKs) only, which lie in the metadata store; those seal everything else
// ([Keyring]). A new root key therefore rewraps a few records ([Rewrap]), not
// every secret. All encryption is XAES-256-GCM; integers are big-endian.
//
// A KEK's record, under the key "kek/<n>", n in decimal from 1:
//
//	byte  0       version: 1
//	      1..16   id of the root key that encrypted it: HKDF-SHA256 of the key
//	     17..40   nonce
//	     41..88   the KEK, 32 bytes, encrypted, and tag
//
// Authenticated with it: "kastellan key-encryption key" ‖ uint32(n) ‖ bytes 0..16.
//
// Sealed bytes:
//
//	byte  0       version: 1
//	      1..4    n of the KEK
//	      5..28   nonce
//	     29..     ciphertext and tag
//
// Authenticated with them: "kastellan sealed" ‖ bytes 0..4 ‖
// uint32(len(purpose)) ‖ purpose ‖ uint32(len(context)) ‖ context.
//
// What lies outside the metadata store is sealed under a root key itself
// ([Key.Direct]):
//
//	byte  0       version: 1
//	      1..16   id of the root key
//	     17..40   nonce
//	     41..     ciphertext and tag
//
// Authenticated with it: "kastellan sealed directly" ‖ bytes 0..16 ‖ purpose
// and context as above.
//
// The package refuses a key file that others can read, a root key of another
// length than 32 bytes, and a root key that is not the one the store was made
// with. Losing the root key loses every secret: there is no second way in.
package rootkey
