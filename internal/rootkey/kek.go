package rootkey

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/xaes"
)

// ErrWrongRootKey says that the stored key-encryption keys are encrypted
// under another root key.
var ErrWrongRootKey = errors.New("the store was made with another root key")

const (
	kekPrefix     = "kek/"
	kekVersion    = 1
	kekHeaderSize = 1 + keyIDSize
	kekSize       = kekHeaderSize + xaes.KeySize + xaes.Overhead
)

// kek is the record of one key-encryption key, as drawn in the package comment.
type kek struct {
	number uint32
	value  []byte
}

func kekPath(number uint32) string { return kekPrefix + strconv.FormatUint(uint64(number), 10) }

// loadKEKs gives the records of all key-encryption keys.
func loadKEKs(r store.Reader) ([]kek, error) {
	var keks []kek
	for entry, err := range r.Scan(kekPrefix) {
		if err != nil {
			return nil, err
		}
		rec, err := parseKEK(entry)
		if err != nil {
			return nil, err
		}
		keks = append(keks, rec)
	}
	return keks, nil
}

func parseKEK(e store.Entry) (kek, error) {
	number, err := strconv.ParseUint(strings.TrimPrefix(e.Key, kekPrefix), 10, 32)
	if err != nil || number == 0 || kekPath(uint32(number)) != e.Key || len(e.Value) != kekSize || e.Value[0] != kekVersion {
		return kek{}, fmt.Errorf("the record %q is no key-encryption key", e.Key)
	}
	return kek{number: uint32(number), value: e.Value}, nil
}

func sealKEK(root Key, number uint32, material []byte) kek {
	header := append([]byte{kekVersion}, root.id[:]...)
	return kek{number: number, value: root.aead.Seal(header, material, kekAAD(header, number))}
}

func (k kek) open(root Key) ([]byte, error) {
	if !k.under(root) {
		return nil, ErrWrongRootKey
	}
	header := k.value[:kekHeaderSize]
	material, err := root.aead.Open(nil, k.value[kekHeaderSize:], kekAAD(header, k.number))
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key %d was changed in the store", k.number)
	}
	return material, nil
}

// under tells whether the key-encryption key is encrypted under root.
func (k kek) under(root Key) bool { return bytes.Equal(k.value[1:kekHeaderSize], root.id[:]) }

func kekAAD(header []byte, number uint32) []byte {
	aad := binary.BigEndian.AppendUint32([]byte("kastellan key-encryption key"), number)
	return append(aad, header...)
}

// Rewrap replaces the root key: it encrypts all key-encryption keys that are
// under old anew under next, all or none. It may be repeated. Processes that have the
// store open go on; from their next start on they need next. It fails with
// [ErrWrongRootKey] if a key-encryption key is under neither.
func Rewrap(ctx context.Context, old, next Key, db store.Store) error {
	if err := errors.Join(old.check(), next.check()); err != nil {
		return fmt.Errorf("replacing the root key: %w", err)
	}
	_, err := db.Update(ctx, func(tx store.Tx) error {
		keks, err := loadKEKs(tx)
		if err != nil {
			return err
		}
		if len(keks) == 0 {
			return errors.New("the store has no key-encryption keys")
		}
		for _, rec := range keks {
			if err := rec.rewrap(old, next, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replacing the root key: %w", err)
	}
	return nil
}

func (k kek) rewrap(old, next Key, tx store.Tx) error {
	if k.under(next) {
		_, err := k.open(next)
		return err
	}
	material, err := k.open(old)
	if err != nil {
		return err
	}
	defer clear(material)
	return tx.Put(kekPath(k.number), sealKEK(next, k.number, material).value)
}
