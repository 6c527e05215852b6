package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"kastellan.dev/internal/durable"
)

// Create makes an empty store in a new file, mode 0600, and opens it. A file
// that exists is an error that wraps fs.ErrExist.
//
// The file is made under another name and linked to path when it is complete
// and on disk, so that a crash leaves the whole store or none.
func Create(path string) (*Store, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("creating the metadata store: %w", err)
	}
	return Open(path)
}

func create(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	draft := f.Name()
	defer os.Remove(draft)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openFile(draft, true)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(initialise), db.Close()); err != nil {
		return err
	}
	if err := os.Link(draft, path); err != nil {
		return err
	}
	if err := os.Remove(draft); err != nil {
		return err
	}
	return durable.SyncDirectory(dir)
}

func initialise(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucket(dataBucket); err != nil {
		return err
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	if err := meta.Put(revisionKey, binary.BigEndian.AppendUint64(nil, 0)); err != nil {
		return err
	}
	return meta.Put(formatKey, []byte(format))
}
