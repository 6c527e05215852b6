// Package soft is the key store that is always there: key material in
// software, sealed by the root key's key ring.
//
// The store keeps nothing itself. What it makes of a key, [keystore.Material],
// lies in the key's metadata record: 32 random bytes, sealed for the purpose
// "key material" and bound to the key's ARN, so that a record that is moved to
// another key does not open. Deleting the record destroys the material.
//
// Ciphertexts are XAES-256-GCM under the material: nonce, ciphertext and tag,
// as package xaes draws them.
//
// Material stays unsealed in memory while it is in use, for a bounded
// number of keys. Whoever reads the memory of the process reads those keys:
// where that matters, keys belong into a custom key store.
package soft

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xaes"
)

const purpose = "key material"

// Store is the soft key store. It has no generator of its own: random bytes
// are the domain's business.
type Store struct {
	sealer rootkey.Sealer
	cache  *cache
}

var _ keystore.Store = (*Store)(nil)

// New gives the store of the keys that sealer has sealed.
func New(sealer rootkey.Sealer) *Store {
	return &Store{sealer: sealer, cache: newCache(4096)}
}

// CreateKey implements keystore.Store.
func (s *Store) CreateKey(ctx context.Context, _ keystore.Call, key keystore.NewKey) (keystore.Material, error) {
	if err := ctx.Err(); err != nil {
		return keystore.Material{}, err
	}
	var material [xaes.KeySize]byte
	rand.Read(material[:])
	defer clear(material[:])
	id, err := materialID(key.ID, material[:])
	if err != nil {
		return keystore.Material{}, fmt.Errorf("naming the key material of %s: %w", key.ARN, err)
	}
	data, err := s.sealer.Seal(purpose, key.ARN, material[:])
	if err != nil {
		return keystore.Material{}, fmt.Errorf("sealing the key material of %s: %w", key.ARN, err)
	}
	return keystore.Material{Data: data, ID: id}, nil
}

// materialID names key material without telling anything of it.
func materialID(keyID string, material []byte) (string, error) {
	id, err := hkdf.Key(sha256.New, material, nil, "kastellan key material id "+keyID, sha256.Size)
	return hex.EncodeToString(id), err
}

// Encrypt implements keystore.Store.
func (s *Store) Encrypt(ctx context.Context, _ keystore.Call, key keystore.Key, dst, plaintext, aad []byte) ([]byte, error) {
	aead, err := s.unseal(ctx, key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, plaintext, aad), nil
}

// Decrypt implements keystore.Store.
func (s *Store) Decrypt(ctx context.Context, _ keystore.Call, key keystore.Key, sealed, aad []byte) ([]byte, error) {
	aead, err := s.unseal(ctx, key)
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
	s.cache.remove(entryID{key.ARN, string(key.Data)})
	return nil
}

// unseal gives the AEAD of a key, from memory where it can.
func (s *Store) unseal(ctx context.Context, key keystore.Key) (*xaes.AEAD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if aead := s.cache.get(key.ARN, key.Data); aead != nil {
		return aead, nil
	}
	material, err := s.sealer.Open(purpose, key.ARN, key.Data)
	if err != nil {
		return nil, fmt.Errorf("unsealing the key material of %s: %w", key.ARN, err)
	}
	defer clear(material)
	aead, err := xaes.New(material)
	if err != nil {
		return nil, fmt.Errorf("unsealing the key material of %s: %w", key.ARN, err)
	}
	s.cache.put(entryID{key.ARN, string(key.Data)}, aead)
	return aead, nil
}
