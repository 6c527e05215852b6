// Package keyfile is a sealed file of AES-256 keys: the key ring of an XKS proxy
// that has no HSM.
//
// The file is one line of text that names the format, then one sealed blob:
//
//	"kastellan-xks-keys 1\n"
//	seal(purpose "xks proxy keys", context "key file 1", JSON)
//
// The JSON holds everything, states and usages included, so that somebody who
// can write the file but has not its key can neither read a key nor enable a
// disabled one; what such a person can do is put an older file back.
//
//	{"keys":[{"id":"…","enabled":true,"encrypt":true,"decrypt":true,
//	          "versions":[{"number":1,"created":"…","material":"…"}]}],
//	 "health":"…"}
//
// A key has versions: encryption uses the newest, decryption the one that the
// ciphertext names. Each message is encrypted under a key of its own, derived from
// the version's material as XAES-256-GCM (C2SP) does: of a 24-byte random nonce
// the first half derives the key and the second is the IV of AES-256-GCM. So no
// limit of 2³² messages binds a key. What the ciphertext must remember travels as
// XKS ciphertext metadata, 17 bytes:
//
//	byte  0       0x01: derived key
//	      1..4    version, big-endian
//	      5..16   first half of the nonce
//
// AES-GCM authenticates the caller's data and the first five of these bytes, in
// the layout of the XKS Proxy API; the rest is bound by the derivation.
//
// Files are replaced as a whole (temporary file, fsync, rename, fsync of the folder),
// never written in place. The package refuses to create a file over an
// existing one, and to delete or shorten a key: what a key encrypted stays readable.
package keyfile
