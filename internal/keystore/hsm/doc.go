// Package hsm is the key store of the type AWS_CLOUDHSM: a cluster of PKCS#11
// tokens.
//
// Each KMS key is an AES-256 key object that one member of the cluster generates.
// Its label is the KMS key's ARN, its CKA_ID the bare key id. It never
// exists in clear outside of an HSM: it gets to the other members wrapped
// under the cluster key, which is itself made by a member and carried to the others
// under RSA keys that those make for the occasion; or the vendor's own
// replication takes it there. Members serve side by side. A call that a member fails is
// repeated on another one, and a member that comes back has its missing keys
// restored before it serves again. Members may join and leave while a store is
// connected.
//
// Keys also move without a key store: [Fill] prepares an HSM that joins a
// cluster, [Export] and [Import] carry the keys of a cluster through a backup into another one.
//
// The bytes that Encrypt gives:
//
//	0         1                13               29
//	┌─────────┬────────────────┬────────────────┬────────────────────────┐
//	│ 0x01    │ IV             │ tag            │ ciphertext             │
//	│ version │ 12 bytes       │ 16 bytes       │ as long as the plaintext│
//	└─────────┴────────────────┴────────────────┴────────────────────────┘
//
// They are AES-256-GCM under the key object, with the caller's authenticated
// data as they are. With the version 0x02 the IV has 16 bytes: so long are those that some modules make themselves. The bytes that CreateKey gives to be kept with the key:
//
//	┌─────────┬───┬───────┬───┬────┬───┬────────────┬───┬───────────────┐
//	│ 0x01    │ n │ label │ n │ id │ n │ cluster id │ n │ known answer  │
//	│ version │ 1 │ n     │ 1 │ n  │ 1 │ n          │ 1 │ n             │
//	└─────────┴───┴───────┴───┴────┴───┴────────────┴───┴───────────────┘
//
// The known answer is a fixed text, encrypted as above when the key was made.
// A key object is used only after it has decrypted that: an object that merely has the
// right label cannot produce ciphertexts that nobody will ever open.
//
// The package refuses: to make a cluster key while a member that may have one
// is away, to replace a cluster key that differs, to import a key that is not what was exported, to acknowledge a key that is not
// on two members, and to try passwords until the HSM locks its user.
package hsm
