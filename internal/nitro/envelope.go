package nitro

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
)

// Sizes of RSA keys that answers are encrypted for, in bits.
const (
	minKeyBits = 2048
	maxKeyBits = 4096
)

const (
	contentKeySize = 32   // AES-256
	chunkSize      = 1024 // of encrypted content in one OCTET STRING
)

// The two octets that begin a constructed element of indefinite length, and
// those that end it.
var (
	openSequence = []byte{0x30, 0x80}
	openContext0 = []byte{0xa0, 0x80}
	endOfContent = []byte{0x00, 0x00}
)

// Object identifiers of RFC 5652, RFC 8017 and NIST.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidRSAESOAEP     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// oaepParameters is RSAES-OAEP-params of RFC 8017; there is no label.
type oaepParameters struct {
	Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	Mask maskAlgorithm            `asn1:"explicit,tag:1"`
}

type maskAlgorithm struct {
	Algorithm asn1.ObjectIdentifier
	Hash      pkix.AlgorithmIdentifier
}

// keyTransport is KeyTransRecipientInfo of RFC 5652, for a recipient who is
// known by a key identifier.
type keyTransport struct {
	Version      int
	KeyID        []byte `asn1:"tag:0"`
	Algorithm    keyEncryption
	EncryptedKey []byte
}

type keyEncryption struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters oaepParameters
}

type contentEncryption struct {
	Algorithm asn1.ObjectIdentifier
	IV        []byte
}

// EncryptFor encrypts an answer for the key in the document: the
// CiphertextForRecipient of AWS KMS, in the shape that the SDKs for enclaves
// look for. It is CMS (RFC 5652), in BER:
//
//	ContentInfo, indefinite
//	  id-envelopedData
//	  [0], indefinite
//	    EnvelopedData, indefinite
//	      version 2
//	      SET of one KeyTransRecipientInfo, DER
//	        version 2
//	        [0] subjectKeyIdentifier, 32 bytes
//	        RSAES-OAEP with SHA-256 and MGF1 with SHA-256, nothing left to defaults
//	        the encrypted key
//	      EncryptedContentInfo, indefinite
//	        id-data
//	        AES-256-CBC and its IV
//	        [0], indefinite, of OCTET STRINGs: the ciphertext of PKCS #7 padded plaintext
//
// The key identifier is the SHA-256 of the key's SubjectPublicKeyInfo: AWS does
// not say what its own is, and enclaves do not look. How long the OCTET STRINGs
// are is a choice too. The error is [ErrPublicKey] if the document has no key.
func (a *Attestation) EncryptFor(plaintext []byte) ([]byte, error) {
	if err := checkPublicKey(a.PublicKey); err != nil {
		return nil, err
	}
	contentKey := make([]byte, contentKeySize)
	defer clear(contentKey)
	rand.Read(contentKey)
	recipient, err := transport(a.PublicKey, contentKey)
	if err != nil {
		return nil, err
	}
	content, ciphertext, err := encryptContent(contentKey, plaintext)
	if err != nil {
		return nil, err
	}
	var w berWriter
	w.raw(openSequence)
	w.der(oidEnvelopedData, "")
	w.raw(openContext0, openSequence)
	w.der(2, "")
	w.der([]keyTransport{recipient}, "set")
	w.raw(openSequence)
	w.der(oidData, "")
	w.der(content, "")
	w.raw(openContext0)
	for chunk := range slices.Chunk(ciphertext, chunkSize) {
		w.der(chunk, "")
	}
	w.raw(endOfContent, endOfContent, endOfContent, endOfContent, endOfContent)
	return w.out, w.err
}

// berWriter collects an encoding, and the first error of it.
type berWriter struct {
	out []byte
	err error
}

func (w *berWriter) raw(octets ...[]byte) { w.out = append(w.out, slices.Concat(octets...)...) }

func (w *berWriter) der(value any, parameters string) {
	encoded, err := asn1.MarshalWithParams(value, parameters)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("nitro: encoding the answer: %w", err)
	}
	w.raw(encoded)
}

// transport encrypts the content key.
func transport(recipient *rsa.PublicKey, contentKey []byte) (keyTransport, error) {
	spki, err := x509.MarshalPKIXPublicKey(recipient)
	if err != nil {
		return keyTransport{}, fmt.Errorf("nitro: encoding the recipient's key: %w", err)
	}
	encrypted, err := encryptKey(recipient, contentKey)
	if err != nil {
		return keyTransport{}, err
	}
	id := sha256.Sum256(spki)
	hash := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	parameters := oaepParameters{Hash: hash, Mask: maskAlgorithm{oidMGF1, hash}}
	return keyTransport{Version: 2, KeyID: id[:], Algorithm: keyEncryption{oidRSAESOAEP, parameters}, EncryptedKey: encrypted}, nil
}

// encryptContent pads and encrypts under a key that is used once.
func encryptContent(key, plaintext []byte) (contentEncryption, []byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return contentEncryption{}, nil, fmt.Errorf("nitro: %w", err)
	}
	padding := aes.BlockSize - len(plaintext)%aes.BlockSize
	content := slices.Concat(plaintext, bytes.Repeat([]byte{byte(padding)}, padding))
	iv := make([]byte, aes.BlockSize)
	rand.Read(iv)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)
	return contentEncryption{oidAES256CBC, iv}, content, nil
}

// checkPublicKey says whether answers can be encrypted for a key of that size. AWS
// documents 2048 bits; longer keys are as good.
func checkPublicKey(key *rsa.PublicKey) error {
	if key == nil || key.N == nil {
		return ErrPublicKey
	}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return fmt.Errorf("%w: it is an RSA key of %d bits, want %d to %d", ErrPublicKey, bits, minKeyBits, maxKeyBits)
	}
	return nil
}

// encryptKey encrypts the content key. The library refuses weak moduli and exponents, more of
// them where all cryptography must be approved.
func encryptKey(recipient *rsa.PublicKey, contentKey []byte) ([]byte, error) {
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, recipient, contentKey, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPublicKey, err)
	}
	return encrypted, nil
}
