// Package soft is the key store that is always there: key material in
// software, sealed by the root key's key ring.
//
// The store keeps nothing itself. What it makes of a key, [keystore.Material],
// lies in the key's metadata record: the material in the form that package keyspec
// gives it, sealed for the purpose "key material" and bound to the key's ARN, so
// that a record that is moved to another key does not open. Deleting the
// record destroys the material.
//
// Ciphertexts of symmetric encryption keys are XAES-256-GCM under the
// material: nonce, ciphertext and tag, as package xaes draws them.
//
// Material stays unsealed in memory while it is in use, for a bounded
// number of keys. Whoever reads the memory of the process reads those keys:
// where that matters, keys belong into a custom key store.
package soft

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xaes"
)

const purpose = "key material"

// Store is the soft key store. It has no generator of its own: random bytes
// are the domain's business.
type Store struct {
	sealer  rootkey.Sealer
	ciphers *cache[xaes.AEAD]
	keys    *cache[keyspec.Key]
}

var _ keystore.Keyring = (*Store)(nil)

// New gives the store of the keys that sealer has sealed.
func New(sealer rootkey.Sealer) *Store {
	return &Store{sealer: sealer, ciphers: newCache[xaes.AEAD](4096), keys: newCache[keyspec.Key](4096)}
}

// CreateKey implements keystore.Store.
func (s *Store) CreateKey(ctx context.Context, _ keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if err := ctx.Err(); err != nil {
		return keystore.Material{}, err
	}
	spec, err := specOf(key.Spec)
	if err != nil {
		return keystore.Material{}, err
	}
	material, err := spec.Generate()
	if err != nil {
		return keystore.Material{}, fmt.Errorf("making the key material of %s: %w", key.ARN, err)
	}
	defer clear(material)
	return s.seal(spec, key, material)
}

// Import implements keystore.Keyring.
func (s *Store) Import(ctx context.Context, _ keystore.Call, key keystore.NewKey, material []byte) (keystore.Material, error) {
	if err := ctx.Err(); err != nil {
		return keystore.Material{}, err
	}
	spec, err := specOf(key.Spec)
	if err != nil {
		return keystore.Material{}, err
	}
	return s.seal(spec, key, material)
}

// Copy implements keystore.Keyring.
func (s *Store) Copy(ctx context.Context, _ keystore.Call, key keystore.Key, to keystore.NewKey) (keystore.Material, error) {
	if err := ctx.Err(); err != nil {
		return keystore.Material{}, err
	}
	if key.ID != to.ID {
		return keystore.Material{}, fmt.Errorf("the key material of %s is not to be copied to another key id", key.ARN)
	}
	spec, err := specOf(to.Spec)
	if err != nil {
		return keystore.Material{}, err
	}
	material, err := s.unseal(key)
	if err != nil {
		return keystore.Material{}, err
	}
	defer clear(material)
	return s.seal(spec, to, material)
}

func specOf(name kmsapi.KeySpec) (*keyspec.Spec, error) {
	spec := keyspec.Of(name)
	if spec == nil {
		return nil, fmt.Errorf("there is no key spec %q", name)
	}
	return spec, nil
}

// seal makes what is stored of material, once it has been found to be of the spec.
func (s *Store) seal(spec *keyspec.Spec, key keystore.NewKey, material []byte) (keystore.Material, error) {
	opened, err := spec.Open(material)
	if err != nil {
		return keystore.Material{}, err
	}
	id, err := materialID(key.ID, material)
	if err != nil {
		return keystore.Material{}, fmt.Errorf("naming the key material of %s: %w", key.ARN, err)
	}
	data, err := s.sealer.Seal(purpose, key.ARN, material)
	if err != nil {
		return keystore.Material{}, fmt.Errorf("sealing the key material of %s: %w", key.ARN, err)
	}
	return keystore.Material{Data: data, ID: id, PublicKey: opened.SPKI()}, nil
}

// materialID names key material without telling anything of it.
func materialID(keyID string, material []byte) (string, error) {
	id, err := hkdf.Key(sha256.New, material, nil, "kastellan key material id "+keyID, sha256.Size)
	return hex.EncodeToString(id), err
}

// Encrypt implements keystore.Store.
func (s *Store) Encrypt(ctx context.Context, _ keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	aead, err := s.cipher(ctx, key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, plaintext, aad), nil
}

// Decrypt implements keystore.Store.
func (s *Store) Decrypt(ctx context.Context, _ keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	aead, err := s.cipher(ctx, key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, sealed, aad)
	if err != nil {
		return nil, kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	return plaintext, nil
}

// DeleteKey implements keystore.Store: it forgets the unsealed material. The
// sealed one goes with the key's record.
func (s *Store) DeleteKey(_ context.Context, _ keystore.Call, key keystore.Key) error {
	id := entryID{key.ARN, string(key.Data)}
	s.ciphers.remove(id)
	s.keys.remove(id)
	return nil
}

// cipher gives the AEAD of a symmetric encryption key, from memory where it can.
func (s *Store) cipher(ctx context.Context, key keystore.Key) (*xaes.AEAD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if aead := s.ciphers.get(key.ARN, key.Data); aead != nil {
		return aead, nil
	}
	material, err := s.unseal(key)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	aead, err := xaes.New(material)
	if err != nil {
		return nil, fmt.Errorf("unsealing the key material of %s: %w", key.ARN, err)
	}
	s.ciphers.put(entryID{key.ARN, string(key.Data)}, aead)
	return aead, nil
}

// Open implements keystore.Keyring. Keys come from memory where they can.
func (s *Store) Open(ctx context.Context, _ keystore.Call, key keystore.Key, name kmsapi.KeySpec) (keyspec.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opened := s.keys.get(key.ARN, key.Data); opened != nil {
		return *opened, nil
	}
	spec, err := specOf(name)
	if err != nil {
		return nil, err
	}
	material, err := s.unseal(key)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	opened, err := spec.Open(material)
	if err != nil {
		return nil, fmt.Errorf("unsealing the key material of %s: it is not of the key spec %s", key.ARN, name)
	}
	s.keys.put(entryID{key.ARN, string(key.Data)}, &opened)
	return opened, nil
}

func (s *Store) unseal(key keystore.Key) ([]byte, error) {
	material, err := s.sealer.Open(purpose, key.ARN, key.Data)
	if err != nil {
		return nil, fmt.Errorf("unsealing the key material of %s: %w", key.ARN, err)
	}
	return material, nil
}
