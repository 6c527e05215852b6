package xks

import (
	"fmt"
	"sync"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xaes"
)

const innerKeyPurpose = "inner key of an external key"

// innerKeyContext binds an inner key to its KMS key and its external key, so
// that a record in which one of them was exchanged does not open. An ARN has no blanks.
func innerKeyContext(arn, xksKeyID string) string { return arn + " " + xksKeyID }

// maxInnerKeys bounds how many inner keys are kept unsealed. Beyond it all are
// forgotten, which costs each one decryption and spares keeping their ages.
const maxInnerKeys = 4096

// innerKeys remembers unsealed inner keys. The zero value is empty.
type innerKeys struct {
	mu   sync.RWMutex
	keys map[innerKeyID]*xaes.AEAD
}

// innerKeyID is all that decides which inner key a key has.
type innerKeyID struct{ arn, xksKeyID, data string }

// open gives the inner key of a key, from memory where it can.
func (i *innerKeys) open(sealer rootkey.Sealer, key keystore.Key) (*xaes.AEAD, error) {
	i.mu.RLock()
	aead := i.keys[innerKeyID{key.ARN, key.XksKeyID, string(key.Data)}]
	i.mu.RUnlock()
	if aead != nil {
		return aead, nil
	}
	material, err := sealer.Open(innerKeyPurpose, innerKeyContext(key.ARN, key.XksKeyID), key.Data)
	if err != nil {
		return nil, fmt.Errorf("unsealing the inner key of %s: %w", key.ARN, err)
	}
	defer clear(material)
	if aead, err = xaes.New(material); err != nil {
		return nil, fmt.Errorf("unsealing the inner key of %s: %w", key.ARN, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil || len(i.keys) >= maxInnerKeys {
		i.keys = make(map[innerKeyID]*xaes.AEAD)
	}
	i.keys[innerKeyID{key.ARN, key.XksKeyID, string(key.Data)}] = aead
	return aead, nil
}

func (i *innerKeys) forget(key keystore.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, innerKeyID{key.ARN, key.XksKeyID, string(key.Data)})
}
