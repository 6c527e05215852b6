package control

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// chunk is how many keys one record of a backup's content has, unless Config says otherwise: a wrapped key takes less than 1 KiB as JSON.
const chunk = 500

// content is a part of the keys of a backup. It is kept sealed for its place, so that parts are neither changed nor
// exchanged; that none is left out is seen from the first one, which is always there.
type content struct {
	Cluster string // whose keys these are
	All     int    // keys in all parts
	Keys    []hsm.WrappedKey
}

const contentPurpose = "cloudhsm backup content"

// saveContent writes the keys of a backup, a part to a record.
func (s *Service) saveContent(tx store.Tx, b *backupRecord, keys []hsm.WrappedKey) error {
	b.Keys, b.Chunks = len(keys), 0
	parts := slices.Collect(slices.Chunk(keys, cmp.Or(s.chunk, chunk)))
	if len(parts) == 0 {
		parts = append(parts, nil)
	}
	for _, part := range parts {
		at := b.contentPath(b.Chunks)
		text, err := json.Marshal(content{Cluster: b.Cluster, All: len(keys), Keys: part})
		if err != nil {
			return fmt.Errorf("writing the content of %s: %w", b.ID, err)
		}
		sealed, err := s.sealer.Seal(contentPurpose, at, text)
		if err != nil {
			return fmt.Errorf("sealing the content of %s: %w", b.ID, err)
		}
		if err := tx.Put(at, sealed); err != nil {
			return err
		}
		b.Chunks++
	}
	return nil
}

// loadContent gives the keys of a backup, all of them.
func (s *Service) loadContent(r store.Reader, b *backupRecord) (keys []hsm.WrappedKey, err error) {
	all := -1
	for n := range b.Chunks {
		part, err := s.loadPart(r, b, n)
		if err != nil {
			return nil, fmt.Errorf("reading part %d of the content of %s: %w", n, b.ID, err)
		}
		if part.Cluster != b.Cluster || n > 0 && part.All != all {
			return nil, fmt.Errorf("part %d of the content of %s does not belong there", n, b.ID)
		}
		all, keys = part.All, append(keys, part.Keys...)
	}
	if len(keys) != all || len(keys) != b.Keys {
		return nil, fmt.Errorf("%s has %d keys on record, and should have %d", b.ID, len(keys), max(all, b.Keys))
	}
	return keys, nil
}

func (s *Service) loadPart(r store.Reader, b *backupRecord, n int) (part content, err error) {
	at := b.contentPath(n)
	sealed, ok, err := r.Get(at)
	if err != nil {
		return part, err
	}
	if !ok {
		return part, errors.New("it is missing")
	}
	text, err := s.sealer.Open(contentPurpose, at, sealed)
	if err != nil {
		return part, err
	}
	return part, json.Unmarshal(text, &part)
}

func deleteContent(tx store.Tx, b *backupRecord) error {
	for n := range b.Chunks {
		if err := tx.Delete(b.contentPath(n)); err != nil {
			return err
		}
	}
	return tx.Delete(b.path())
}
