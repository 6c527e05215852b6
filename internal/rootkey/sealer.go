package rootkey

// Sealer seals secrets for storage. It may be used from many goroutines at once.
//
// purpose separates uses ("key material", "custom key store password"), and
// context binds the sealed bytes to where they belong (e.g.
// "keys/<account>/<region>/<id>"): opening with another of either fails.
// Both are public and end up in no output.
type Sealer interface {
	// Seal encrypts and authenticates plaintext. Sealing twice gives different bytes.
	Seal(purpose, context string, plaintext []byte) ([]byte, error)

	// Open undoes Seal. Bytes that are not an untouched result of Seal for
	// the same purpose and context give an error.
	Open(purpose, context string, sealed []byte) ([]byte, error)
}
