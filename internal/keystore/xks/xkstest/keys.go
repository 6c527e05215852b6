package xkstest

import (
	"crypto/aes"
	"crypto/cipher"
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
	aead cipher.AEAD
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
	block, err := aes.NewCipher(k.Material)
	if err != nil {
		p.t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, p.opts.IVSize)
	if err != nil {
		p.t.Fatal(err)
	}
	p.keys[k.ID] = &key{k, aead}
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
	iv := randomBytes(k.aead.NonceSize())
	sealed := k.aead.Seal(nil, iv, in.Plaintext, aad)
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
	if err != nil || len(in.InitializationVector) != k.aead.NonceSize() {
		return nil, xksapi.InvalidCiphertextException
	}
	plaintext, err := k.aead.Open(nil, in.InitializationVector, append(slices.Clone(in.Ciphertext), in.AuthenticationTag...), aad)
	if err != nil {
		return nil, xksapi.InvalidCiphertextException
	}
	return &xksapi.DecryptResponse{Plaintext: plaintext}, ""
}
