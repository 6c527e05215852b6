package xkstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"slices"

	"kastellan.dev/internal/xksapi"
)

// Key describes an external key. The zero value of a field means what a usable key has.
type Key struct {
	ID     string
	Spec   string   // AES_256
	Status string   // ENABLED
	Usage  []string // ENCRYPT, DECRYPT
	// Material is the AES-256 key of a new external key; random, if nil.
	Material []byte
}

type key struct {
	Key
	aead gcm
}

// AddKey makes a usable external key.
func (p *Proxy) AddKey(id string) { p.SetKey(Key{ID: id}) }

// SetKey makes an external key, or changes what is told of one; its material stays.
func (p *Proxy) SetKey(k Key) {
	p.t.Helper()
	if k.Spec == "" {
		k.Spec = xksapi.KeySpecAES256
	}
	if k.Status == "" {
		k.Status = xksapi.KeyEnabled
	}
	if k.Usage == nil {
		k.Usage = []string{xksapi.UsageEncrypt, xksapi.UsageDecrypt}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.keys[k.ID]; old != nil {
		p.keys[k.ID] = &key{k, old.aead}
		return
	}
	if k.Material == nil {
		k.Material = randomBytes(32)
	}
	aead, err := newGCM(k.Material, p.opts.IVSize)
	if err != nil && fips140.Enforced() {
		p.t.Skip(err)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.keys[k.ID] = &key{k, aead}
}

// gcm is AES-256-GCM that draws its IVs and puts them before what it seals.
type gcm struct {
	cipher.AEAD
	ivSize int
}

func newGCM(material []byte, ivSize int) (gcm, error) {
	block, err := aes.NewCipher(material)
	if err != nil {
		return gcm{}, err
	}
	if ivSize == 12 { // the only size that FIPS 140-3 approves of
		aead, err := cipher.NewGCMWithRandomNonce(block)
		return gcm{aead, ivSize}, err
	}
	aead, err := cipher.NewGCMWithNonceSize(block, ivSize)
	return gcm{prefixing{aead}, ivSize}, err
}

// prefixing makes an AEAD do what that of cipher.NewGCMWithRandomNonce does.
type prefixing struct{ cipher.AEAD }

func (p prefixing) Seal(_, _, plaintext, aad []byte) []byte {
	iv := randomBytes(p.NonceSize())
	return p.AEAD.Seal(iv, iv, plaintext, aad)
}

func (p prefixing) Open(_, _, sealed, aad []byte) ([]byte, error) {
	return p.AEAD.Open(nil, sealed[:p.NonceSize()], sealed[p.NonceSize():], aad)
}

// RemoveKey destroys an external key.
func (p *Proxy) RemoveKey(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, id)
}

func (p *Proxy) key(id string) *key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[id]
}

// usable tells whether the key may be used, as the error that it must not.
func (k *key) usable(usages ...string) xksapi.ErrorName {
	if k.Status != xksapi.KeyEnabled {
		return xksapi.InvalidStateException
	}
	for _, u := range usages {
		if !slices.Contains(k.Usage, u) {
			return xksapi.InvalidKeyUsageException
		}
	}
	return ""
}

func (k *key) encrypt(in *xksapi.EncryptRequest, metadata string) (*xksapi.EncryptResponse, xksapi.ErrorName) {
	usages := []string{xksapi.UsageEncrypt}
	if in.CiphertextDataIntegrityValueAlgorithm != "" {
		usages = append(usages, xksapi.UsageDecrypt)
	}
	if name := k.usable(usages...); name != "" {
		return nil, name
	}
	aad, err := xksapi.GCMAAD(in.AdditionalAuthenticatedData, []byte(metadata))
	if err != nil {
		return nil, xksapi.UnsupportedOperationException
	}
	sealed := k.aead.Seal(nil, nil, in.Plaintext, aad)
	iv, sealed := sealed[:k.aead.ivSize], sealed[k.aead.ivSize:]
	out := &xksapi.EncryptResponse{
		Ciphertext: sealed[:len(in.Plaintext)], AuthenticationTag: sealed[len(in.Plaintext):],
		InitializationVector: iv, CiphertextMetadata: []byte(metadata),
	}
	if in.CiphertextDataIntegrityValueAlgorithm != "" {
		out.CiphertextDataIntegrityValue = xksapi.IntegrityValue(
			in.AdditionalAuthenticatedData, out.CiphertextMetadata, iv, out.Ciphertext, out.AuthenticationTag)
	}
	return out, ""
}

func (k *key) decrypt(in *xksapi.DecryptRequest) (*xksapi.DecryptResponse, xksapi.ErrorName) {
	if name := k.usable(xksapi.UsageDecrypt); name != "" {
		return nil, name
	}
	aad, err := xksapi.GCMAAD(in.AdditionalAuthenticatedData, in.CiphertextMetadata)
	if err != nil || len(in.InitializationVector) != k.aead.ivSize {
		return nil, xksapi.InvalidCiphertextException
	}
	plaintext, err := k.aead.Open(nil, nil, slices.Concat(in.InitializationVector, in.Ciphertext, in.AuthenticationTag), aad)
	if err != nil {
		return nil, xksapi.InvalidCiphertextException
	}
	return &xksapi.DecryptResponse{Plaintext: plaintext}, ""
}
