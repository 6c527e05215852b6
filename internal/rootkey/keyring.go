package rootkey

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync/atomic"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/xaes"
)

const (
	sealedVersion    = 1
	sealedHeaderSize = 1 + 4
)

// errSealed is all that is told of sealed bytes that do not open.
var errSealed = errors.New("rootkey: the sealed bytes were changed, or sealed for another purpose or context")

// Keyring seals with the newest key-encryption key of a store and opens with
// any. It may be used from many goroutines at once.
type Keyring struct {
	keks atomic.Pointer[ring]
}

// ring is the set of KEKs. It is never changed, only replaced.
type ring struct {
	byNumber map[uint32]*xaes.AEAD
	newest   uint32
}

var _ Sealer = (*Keyring)(nil)

// OpenKeyring reads the key-encryption keys of a store, and makes the first one
// in a store that has none. It fails with [ErrWrongRootKey] if root is not
// the key that they are encrypted under.
func OpenKeyring(ctx context.Context, root Key, db store.Store) (*Keyring, error) {
	k := new(Keyring)
	if err := k.load(ctx, root, db, func(r ring) bool { return r.newest == 0 }); err != nil {
		return nil, fmt.Errorf("opening the key ring: %w", err)
	}
	return k, nil
}

// Renew makes a new key-encryption key, with which this Keyring seals from now
// on. A Keyring of another process cannot open what is sealed with it until it
// is opened anew.
func (k *Keyring) Renew(ctx context.Context, root Key, db store.Store) error {
	if err := k.load(ctx, root, db, func(ring) bool { return true }); err != nil {
		return fmt.Errorf("renewing the key ring: %w", err)
	}
	return nil
}

// load reads all KEKs, makes one more if grow says so, and takes them into use.
func (k *Keyring) load(ctx context.Context, root Key, db store.Store, grow func(ring) bool) error {
	if err := root.check(); err != nil {
		return err
	}
	var keks ring
	_, err := db.Update(ctx, func(tx store.Tx) error {
		stored, err := loadKEKs(tx)
		if err != nil {
			return err
		}
		if keks, err = newRing(root, stored); err != nil || !grow(keks) {
			return err
		}
		rec, err := keks.grow(root)
		if err != nil {
			return err
		}
		return tx.Put(kekPath(rec.number), rec.value)
	})
	if err != nil {
		return err
	}
	k.keks.Store(&keks)
	return nil
}

func newRing(root Key, stored []kek) (ring, error) {
	r := ring{byNumber: make(map[uint32]*xaes.AEAD)}
	for _, rec := range stored {
		material, err := rec.open(root)
		if err != nil {
			return ring{}, err
		}
		if err := r.add(rec.number, material); err != nil {
			return ring{}, err
		}
	}
	return r, nil
}

// grow makes a KEK, takes it into the ring and gives the record to store.
func (r *ring) grow(root Key) (kek, error) {
	if r.newest == math.MaxUint32 {
		return kek{}, errors.New("there are too many key-encryption keys")
	}
	material := make([]byte, xaes.KeySize)
	rand.Read(material)
	rec := sealKEK(root, r.newest+1, material)
	return rec, r.add(rec.number, material)
}

// add takes a KEK into the ring and clears material.
func (r *ring) add(number uint32, material []byte) error {
	defer clear(material)
	aead, err := xaes.New(material)
	if err != nil {
		return err
	}
	r.byNumber[number] = aead
	r.newest = max(r.newest, number)
	return nil
}

// Seal implements [Sealer]. It cannot fail.
func (k *Keyring) Seal(purpose, context string, plaintext []byte) ([]byte, error) {
	keks := k.keks.Load()
	sealed := make([]byte, 0, sealedHeaderSize+len(plaintext)+xaes.Overhead)
	sealed = append(sealed, sealedVersion)
	sealed = binary.BigEndian.AppendUint32(sealed, keks.newest)
	return keks.byNumber[keks.newest].Seal(sealed, plaintext, sealedAAD(sealed, purpose, context)), nil
}

// Open implements [Sealer].
func (k *Keyring) Open(purpose, context string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealedHeaderSize+xaes.Overhead || sealed[0] != sealedVersion {
		return nil, errSealed
	}
	header, rest := sealed[:sealedHeaderSize], sealed[sealedHeaderSize:]
	number := binary.BigEndian.Uint32(header[1:])
	kek := k.keks.Load().byNumber[number]
	if kek == nil {
		return nil, errors.New("rootkey: there is no key-encryption key " + strconv.FormatUint(uint64(number), 10))
	}
	plaintext, err := kek.Open(nil, rest, sealedAAD(header, purpose, context))
	if err != nil {
		return nil, errSealed
	}
	return plaintext, nil
}

func sealedAAD(header []byte, purpose, context string) []byte {
	return appendUse(slices.Concat([]byte("kastellan sealed"), header), purpose, context)
}

// appendUse appends what binds sealed bytes to their use: lengths keep the two
// texts apart.
func appendUse(aad []byte, purpose, context string) []byte {
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(purpose)))
	aad = append(aad, purpose...)
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(context)))
	return append(aad, context...)
}
