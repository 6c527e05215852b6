package nitrotest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// Envelope is what an enclave needs of a CiphertextForRecipient.
type Envelope struct {
	KeyID        []byte // the subjectKeyIdentifier of the recipient
	EncryptedKey []byte
	IV           []byte
	Chunks       [][]byte // the ciphertext, as it was cut
}

// Identifier octets, and the parts that are always the same, as hexadecimal DER.
const (
	sequence    = 0x30
	set         = 0x31
	octetString = 0x04
	context0    = 0x80
	constructed = constructedBit

	versionTwo    = "020102"
	envelopedData = "06092a864886f70d010703"
	data          = "06092a864886f70d010701"
	aes256CBC     = "060960864801650304012a"
	sha256DER     = "300d06096086480165030402010500"
	mgf1SHA256    = "301a06092a864886f70d010108" + sha256DER
	oaepSHA256    = "303c06092a864886f70d010107302fa00f" + sha256DER + "a11c" + mgf1SHA256
)

// ParseEnvelope reads the CMS that AWS KMS answers with. It wants the algorithms
// written out as AWS does, one recipient, and indefinite lengths where AWS has
// them. The ciphertext may be one primitive [0], as AWS has also been seen to write.
func ParseEnvelope(ciphertext []byte) (*Envelope, error) {
	root, err := parseBER(ciphertext)
	if err != nil {
		return nil, fmt.Errorf("nitrotest: reading BER: %w", err)
	}
	r := reader{}
	info := r.parts("ContentInfo", root, sequence, 2)
	r.same("content type", info[0], envelopedData)
	wrapped := r.parts("content", info[1], context0|constructed, 1)
	enveloped := r.parts("EnvelopedData", wrapped[0], sequence, 3)
	r.same("version of EnvelopedData", enveloped[0], versionTwo)
	recipients := r.parts("RecipientInfos", enveloped[1], set, 1)
	content := r.parts("EncryptedContentInfo", enveloped[2], sequence, 3)
	for _, e := range []element{root, info[1], wrapped[0], enveloped[2]} {
		r.want(e.indefinite, "an outer element has a definite length")
	}
	var out Envelope
	r.recipient(recipients[0], &out)
	r.content(content, &out)
	if r.err != nil {
		return nil, fmt.Errorf("nitrotest: reading CMS: %w", r.err)
	}
	return &out, nil
}

// reader notes the first thing that is wrong.
type reader struct{ err error }

func (r *reader) want(ok bool, format string, args ...any) {
	if !ok && r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// parts gives the n elements of a constructed one; elements of nothing if it is another.
func (r *reader) parts(name string, e element, identifier byte, n int) []element {
	ok := e.identifier == identifier && len(e.children) == n
	r.want(ok, "%s is not the element %#x with %d parts", name, identifier, n)
	if !ok {
		return make([]element, n)
	}
	return e.children
}

func (r *reader) primitive(name string, e element, identifier byte, size int) []byte {
	r.want(e.identifier == identifier && len(e.content) == size, "%s is not the element %#x of %d bytes", name, identifier, size)
	return e.content
}

func (r *reader) same(name string, e element, want string) {
	r.want(hex.EncodeToString(e.encode()) == want, "%s is not %s", name, want)
}

func (r *reader) recipient(e element, out *Envelope) {
	transport := r.parts("KeyTransRecipientInfo", e, sequence, 4)
	r.same("version of KeyTransRecipientInfo", transport[0], versionTwo)
	out.KeyID = r.primitive("subjectKeyIdentifier", transport[1], context0, sha256.Size)
	r.same("key encryption algorithm", transport[2], oaepSHA256)
	out.EncryptedKey = r.primitive("encrypted key", transport[3], octetString, len(transport[3].content))
}

func (r *reader) content(parts []element, out *Envelope) {
	r.same("type of the content", parts[0], data)
	algorithm := r.parts("content encryption algorithm", parts[1], sequence, 2)
	r.same("content encryption algorithm", algorithm[0], aes256CBC)
	out.IV = r.primitive("IV", algorithm[1], octetString, aes.BlockSize)
	if parts[2].identifier == context0 {
		out.Chunks = [][]byte{parts[2].content}
		return
	}
	r.want(parts[2].identifier == context0|constructed && parts[2].indefinite, "encryptedContent is not [0] of indefinite length")
	for _, chunk := range parts[2].children {
		out.Chunks = append(out.Chunks, r.primitive("a part of encryptedContent", chunk, octetString, len(chunk.content)))
	}
}

// Open opens a CiphertextForRecipient with the enclave's private key.
func (e *Enclave) Open(ciphertext []byte) ([]byte, error) {
	envelope, err := ParseEnvelope(ciphertext)
	if err != nil {
		return nil, err
	}
	return envelope.Open(e.Key)
}

// Open decrypts with the private key of the recipient. The key identifier must
// be the SHA-256 of the SubjectPublicKeyInfo.
func (v *Envelope) Open(key *rsa.PrivateKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("nitrotest: encoding the enclave's key: %w", err)
	}
	if id := sha256.Sum256(spki); !bytes.Equal(id[:], v.KeyID) {
		return nil, errors.New("nitrotest: the answer is for another key")
	}
	contentKey, err := rsa.DecryptOAEP(sha256.New(), nil, key, v.EncryptedKey, nil)
	if err != nil {
		return nil, fmt.Errorf("nitrotest: decrypting the key: %w", err)
	}
	if len(contentKey) != 32 {
		return nil, fmt.Errorf("nitrotest: the content key has %d bytes, want 32", len(contentKey))
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, fmt.Errorf("nitrotest: %w", err)
	}
	padded := bytes.Join(v.Chunks, nil)
	if len(padded) == 0 || len(padded)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("nitrotest: %d bytes of ciphertext are not whole blocks", len(padded))
	}
	cipher.NewCBCDecrypter(block, v.IV).CryptBlocks(padded, padded)
	n := int(padded[len(padded)-1])
	if n == 0 || n > aes.BlockSize || !bytes.HasSuffix(padded, bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, errors.New("nitrotest: the padding is wrong")
	}
	return padded[:len(padded)-n], nil
}
