package keyspec

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"slices"

	"kastellan.dev/internal/kmsapi"
)

// PublicKey is what anybody may do with a key. It may be used from many
// goroutines at once. Operations that the key spec does not have are refused
// with InvalidKeyUsageException.
type PublicKey interface {
	// Spec is the key's row of the table.
	Spec() *Spec

	// SPKI is the DER SubjectPublicKeyInfo, nil for keys without a public half.
	SPKI() []byte

	// Verify checks a signature; one that does not match is a
	// KMSInvalidSignatureException. Messages are refused as by Sign.
	Verify(alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType, message, signature []byte) error

	// Encrypt encrypts from 1 byte up to as many as the algorithm has room for;
	// others are a ValidationException.
	Encrypt(alg kmsapi.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error)

	// Encapsulate makes a shared secret of 32 bytes, and the ciphertext that leads to it.
	Encapsulate() (shared, ciphertext []byte, err error)
}

// Key is opened key material. It does what its spec can, never shows the
// material, and prints as the name of its spec.
type Key interface {
	PublicKey

	// Sign signs a message, a digest of one or its representative μ; the empty
	// type is RAW. A type that the algorithm does not take, and a length that does
	// not fit, are a ValidationException.
	Sign(alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType, message []byte) ([]byte, error)

	// Decrypt undoes Encrypt; whatever does not decrypt is an InvalidCiphertextException.
	Decrypt(alg kmsapi.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error)

	// MAC is the HMAC of a message.
	MAC(alg kmsapi.MacAlgorithmSpec, message []byte) ([]byte, error)

	// VerifyMAC checks what MAC gave, in constant time; another one is a KMSInvalidMacException.
	VerifyMAC(alg kmsapi.MacAlgorithmSpec, message, mac []byte) error

	// SharedSecret agrees with the owner of a public key, given as DER
	// SubjectPublicKeyInfo, on the x-coordinate of the common point. A key that is
	// not on the same curve is a ValidationException.
	SharedSecret(peerSPKI []byte) ([]byte, error)

	// Decapsulate finds the shared secret of a ciphertext. A wrong length is an
	// InvalidCiphertextException; other damage gives another secret (FIPS 203).
	Decapsulate(ciphertext []byte) ([]byte, error)
}

// opened is what a family makes of material: the halves of a key. Each has those
// of the interfaces below, of crypto.Signer, crypto.Encapsulator and
// crypto.Decapsulator that its algorithms need.
type opened struct {
	spki            []byte
	public, private any
}

type (
	// verifier is a public half that checks signatures of what form.prepare gave.
	verifier interface {
		verify(prepared, signature []byte, opts crypto.SignerOpts) bool
	}
	// encrypter is a public half that encrypts up to limit bytes.
	encrypter interface {
		limit(alg kmsapi.EncryptionAlgorithmSpec) int
		encrypt(alg kmsapi.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error)
	}
	// decrypter is a private half; its errors all say that the ciphertext is bad.
	decrypter interface {
		decrypt(alg kmsapi.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error)
	}
	// authenticator is a key that makes MACs.
	authenticator interface {
		mac(message []byte) []byte
	}
	// agreer is a private half; its errors all say that the public key is bad.
	agreer interface {
		agree(peerSPKI []byte) ([]byte, error)
	}
)

type publicKey struct {
	spec   *Spec
	spki   []byte
	public any
}

type key struct {
	publicKey
	private any
}

// Spec implements [PublicKey].
func (k *publicKey) Spec() *Spec { return k.spec }

// SPKI implements [PublicKey].
func (k *publicKey) SPKI() []byte { return bytes.Clone(k.spki) }

// Format implements fmt.Formatter: keys print as their spec.
func (k *publicKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%s key", k.spec.Name) }

// Verify implements [PublicKey].
func (k *publicKey) Verify(alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType, message, signature []byte) error {
	f, err := k.spec.formOf(alg, as, message)
	if err != nil {
		return err
	}
	if !k.public.(verifier).verify(f.prepare(message), signature, f.opts) {
		return &kmsapi.Error{Code: kmsapi.KMSInvalidSignature}
	}
	return nil
}

// Sign implements [Key].
func (k *key) Sign(alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType, message []byte) ([]byte, error) {
	f, err := k.spec.formOf(alg, as, message)
	if err != nil {
		return nil, err
	}
	signature, err := k.private.(crypto.Signer).Sign(rand.Reader, f.prepare(message), f.opts)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", alg, err)
	}
	return signature, nil
}

// Encrypt implements [PublicKey].
func (k *publicKey) Encrypt(alg kmsapi.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error) {
	if err := k.spec.encryptsWith(alg); err != nil {
		return nil, err
	}
	e, ok := k.public.(encrypter)
	if !ok {
		return nil, errElsewhere
	}
	if limit := e.limit(alg); len(plaintext) > limit {
		return nil, kmsapi.Errorf(kmsapi.Validation, "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", alg, k.spec.Name, limit)
	}
	if len(plaintext) == 0 {
		return nil, kmsapi.Errorf(kmsapi.Validation, "There is no data to encrypt.")
	}
	ciphertext, err := e.encrypt(alg, plaintext)
	if err != nil {
		return nil, fmt.Errorf("encrypting with %s: %w", alg, err)
	}
	return ciphertext, nil
}

// Decrypt implements [Key].
func (k *key) Decrypt(alg kmsapi.EncryptionAlgorithmSpec, ciphertext []byte) ([]byte, error) {
	if err := k.spec.encryptsWith(alg); err != nil {
		return nil, err
	}
	d, ok := k.private.(decrypter)
	if !ok {
		return nil, errElsewhere
	}
	opened, err := d.decrypt(alg, ciphertext)
	if err != nil {
		return nil, invalidCiphertext()
	}
	return opened, nil
}

// MAC implements [Key].
func (k *key) MAC(alg kmsapi.MacAlgorithmSpec, message []byte) ([]byte, error) {
	if !slices.Contains(k.spec.use(kmsapi.GenerateVerifyMac).mac, alg) {
		return nil, incompatible(alg, k.spec)
	}
	return k.private.(authenticator).mac(message), nil
}

// VerifyMAC implements [Key].
func (k *key) VerifyMAC(alg kmsapi.MacAlgorithmSpec, message, mac []byte) error {
	want, err := k.MAC(alg, message)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, mac) != 1 {
		return &kmsapi.Error{Code: kmsapi.KMSInvalidMac}
	}
	return nil
}

// SharedSecret implements [Key].
func (k *key) SharedSecret(peerSPKI []byte) ([]byte, error) {
	if !k.spec.Allows(kmsapi.KeyAgreement) {
		return nil, incompatible(kmsapi.ECDH, k.spec)
	}
	shared, err := k.private.(agreer).agree(peerSPKI)
	if err != nil {
		return nil, &kmsapi.Error{Code: kmsapi.Validation}
	}
	return shared, nil
}

// Encapsulate implements [PublicKey].
func (k *publicKey) Encapsulate() (shared, ciphertext []byte, err error) {
	if !k.spec.Allows(kmsapi.EncapsulateDecapsulate) {
		return nil, nil, incompatible(kmsapi.MLKEM, k.spec)
	}
	shared, ciphertext = k.public.(crypto.Encapsulator).Encapsulate()
	return shared, ciphertext, nil
}

// Decapsulate implements [Key].
func (k *key) Decapsulate(ciphertext []byte) ([]byte, error) {
	if !k.spec.Allows(kmsapi.EncapsulateDecapsulate) {
		return nil, incompatible(kmsapi.MLKEM, k.spec)
	}
	shared, err := k.private.(crypto.Decapsulator).Decapsulate(ciphertext)
	if err != nil {
		return nil, invalidCiphertext()
	}
	return shared, nil
}
