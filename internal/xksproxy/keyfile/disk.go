package keyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"kastellan.dev/internal/durable"
	"kastellan.dev/internal/rootkey"
)

const (
	header  = "kastellan-xks-keys 1\n"
	purpose = "xks proxy keys"
	context = "key file 1"
	maxSize = 64 << 20 // of a file, bytes
)

// ErrOpen: the file cannot be opened with this file key, or was changed by
// somebody who has not got it.
var ErrOpen = errors.New("keyfile: the file does not open with this file key, or was tampered with")

type fileJSON struct {
	Keys   []keyJSON `json:"keys"`
	Health []byte    `json:"health"`
}

type keyJSON struct {
	ID       string        `json:"id"`
	Enabled  bool          `json:"enabled"`
	Encrypt  bool          `json:"encrypt"`
	Decrypt  bool          `json:"decrypt"`
	Versions []versionJSON `json:"versions"`
}

type versionJSON struct {
	Number   uint32    `json:"number"`
	Created  time.Time `json:"created"`
	Material []byte    `json:"material"`
}

// Create writes a new file without keys. It fails with fs.ErrExist when there
// is a file already.
func Create(path string, sealer rootkey.Sealer) error {
	f, err := New()
	if err != nil {
		return err
	}
	unlock, err := lock(path)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("creating key file %s: %w", path, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("creating key file: %w", err)
	}
	return store(path, f, sealer)
}

// Load reads a file.
func Load(path string, sealer rootkey.Sealer) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("reading key file %s: it has more than %d bytes", path, maxSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	f, err := Parse(data, sealer)
	if err != nil {
		return nil, fmt.Errorf("reading key file %s: %w", path, err)
	}
	return f, nil
}

// Update reads the file, lets change alter it, and writes it back whole. Two
// processes that update at once take turns. If change fails, the file stays as it was.
func Update(path string, sealer rootkey.Sealer, change func(*File) error) error {
	unlock, err := lock(path)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := Load(path, sealer)
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	return store(path, f, sealer)
}

// Parse opens the bytes of a file.
func Parse(data []byte, sealer rootkey.Sealer) (*File, error) {
	sealed, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		return nil, errors.New("keyfile: not a key file of format 1")
	}
	plain, err := sealer.Open(purpose, context, sealed)
	if err != nil {
		return nil, ErrOpen
	}
	defer clear(plain)
	return decode(plain)
}

// Bytes gives what a file of this content looks like on disk.
func (f *File) Bytes(sealer rootkey.Sealer) ([]byte, error) {
	plain, err := f.encode()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	sealed, err := sealer.Seal(purpose, context, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing key file: %w", err)
	}
	return append([]byte(header), sealed...), nil
}

func (f *File) encode() ([]byte, error) {
	out := fileJSON{Keys: []keyJSON{}, Health: f.health.material.Reveal()}
	for _, k := range f.Keys() {
		j := keyJSON{ID: k.ID, Enabled: k.Enabled, Encrypt: k.Encrypt, Decrypt: k.Decrypt}
		for _, v := range k.versions {
			j.Versions = append(j.Versions, versionJSON{v.Number, v.Created, v.material.Reveal()})
		}
		out.Keys = append(out.Keys, j)
	}
	return json.Marshal(out)
}

// errContent has no details: the content is secret.
var errContent = errors.New("keyfile: the content is not that of format 1")

func decode(plain []byte) (*File, error) {
	var in fileJSON
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, errContent
	}
	health, err := versionOf(1, time.Time{}, in.Health)
	if err != nil {
		return nil, err
	}
	f := &File{keys: map[string]*Key{}, health: health}
	for _, j := range in.Keys {
		k, err := decodeKey(j)
		if err != nil {
			return nil, err
		}
		if _, twice := f.keys[k.ID]; twice {
			return nil, errContent
		}
		f.keys[k.ID] = k
	}
	return f, nil
}

func decodeKey(j keyJSON) (*Key, error) {
	if !idPattern.MatchString(j.ID) || len(j.Versions) == 0 {
		return nil, errContent
	}
	k := &Key{ID: j.ID, Enabled: j.Enabled, Encrypt: j.Encrypt, Decrypt: j.Decrypt}
	for i, v := range j.Versions {
		if uint64(v.Number) != uint64(i)+1 {
			return nil, errContent
		}
		version, err := versionOf(v.Number, v.Created, v.Material)
		if err != nil {
			return nil, err
		}
		k.versions = append(k.versions, version)
	}
	return k, nil
}

// store replaces the file in one step that a crash cannot split.
func store(path string, f *File, sealer rootkey.Sealer) (err error) {
	data, err := f.Bytes(sealer)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing key file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("writing key file %s: %w", path, err)
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = keepOwner(tmp, path); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return durable.SyncDirectory(dir)
}

// keepOwner gives the new file the mode and the owner of the one that it replaces: whoever
// rotates a key as root must not take the file away from the proxy.
func keepOwner(f *os.File, path string) error {
	old, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Chmod(old.Mode().Perm()); err != nil {
		return err
	}
	made, err := f.Stat()
	if err != nil {
		return err
	}
	was, ok1 := old.Sys().(*syscall.Stat_t)
	is, ok2 := made.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}
