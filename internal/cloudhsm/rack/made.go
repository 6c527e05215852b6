package rack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kastellan.dev/internal/durable"
	"kastellan.dev/internal/pkcs11"
)

// made is a token of SoftHSM2 that is made on demand:
//
//	DIRECTORY/token-…/softhsm2.conf
//	DIRECTORY/token-…/tokens/        what SoftHSM2 writes
//	DIRECTORY/token-…/uri            the token's URI, once it is prepared
//
// What SoftHSM2 writes is encrypted under the token's PINs.
type made struct {
	*SoftHSM2
	name string
}

const namePrefix = "token-"

// newName makes a name that no token ever had: 128 random bits at least.
func newName() string { return namePrefix + strings.ToLower(rand.Text()) }

// isMade tells the names of newName from URIs, and from whatever would lead out of the directory.
func isMade(name string) bool {
	random, ok := strings.CutPrefix(name, namePrefix)
	return ok && len(random) == 26 && strings.Trim(random, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func (m made) dir() string     { return filepath.Join(m.Directory, m.name) }
func (m made) conf() string    { return filepath.Join(m.dir(), "softhsm2.conf") }
func (m made) mark() string    { return filepath.Join(m.dir(), "uri") }
func (m made) objects() string { return filepath.Join(m.dir(), "tokens") }
func (m made) env() []string   { return []string{"SOFTHSM2_CONF=" + m.conf()} }

func (m made) prepare(ctx context.Context, label string, pins PINs) (Prepared, error) {
	if err := m.wipe(ctx); err != nil {
		return Prepared{}, err
	}
	if err := os.MkdirAll(m.objects(), 0o700); err != nil {
		return Prepared{}, err
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", m.objects())
	if err := os.WriteFile(m.conf(), []byte(conf), 0o600); err != nil {
		return Prepared{}, err
	}
	info, err := pkcs11.InitToken(ctx, pkcs11.ProvisionConfig{
		ModulePath: m.Module, Env: m.env(), Label: label, SOPIN: pins.SO, UserPIN: pins.User,
	})
	if err != nil {
		return Prepared{}, fmt.Errorf("initialising the token: %w", err)
	}
	uri := pkcs11.URI{Token: label, Serial: info.Serial, ModulePath: m.Module}
	if err := m.commit(uri); err != nil {
		return Prepared{}, err
	}
	return m.reach(pins)
}

// commit makes what was written last, and then writes the mark.
func (m made) commit(uri pkcs11.URI) error {
	if err := syncTree(m.dir()); err != nil {
		return err
	}
	if err := os.WriteFile(m.mark()+".new", []byte(uri.String()), 0o600); err != nil {
		return err
	}
	if err := syncPath(m.mark() + ".new"); err != nil {
		return err
	}
	if err := os.Rename(m.mark()+".new", m.mark()); err != nil {
		return err
	}
	return errors.Join(durable.SyncDirectory(m.dir()), durable.SyncDirectory(m.Directory))
}

// syncTree writes all files and names below a directory to the disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}

// syncPath works for files as for directories.
func syncPath(path string) error { return durable.SyncDirectory(path) }

func (m made) reach(pins PINs) (Prepared, error) {
	text, err := os.ReadFile(m.mark())
	if errors.Is(err, fs.ErrNotExist) {
		return Prepared{}, fmt.Errorf("%w: %s", ErrNotPrepared, m.name)
	}
	if err != nil {
		return Prepared{}, err
	}
	uri, err := pkcs11.ParseURI(string(text))
	if err != nil {
		return Prepared{}, err
	}
	uri.ModulePath = m.Module // it may have moved since
	return Prepared{
		Config: pkcs11.Config{URI: uri, Env: m.env(), Sessions: m.Sessions, CallTimeout: m.CallTimeout},
		PIN:    pins.User,
	}, nil
}

// blank is what a token that is yet to be made always is.
func (m made) blank(context.Context) error { return nil }

// vanished believes what is seen only where the pool itself is: its directory may not be mounted. Nobody else ever knew
// the PINs, so a token that refuses them, or has another serial number, was initialised again.
func (m made) vanished(why error) bool {
	if _, err := os.Stat(m.Directory); err != nil {
		return false
	}
	if _, err := os.Stat(m.mark()); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	left, err := os.ReadDir(m.objects())
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(left) == 0 ||
		errors.Is(why, ErrPIN) || errors.Is(why, pkcs11.ErrNoToken)
}

// wipe removes the mark first, so that what is half removed is not taken for prepared.
func (m made) wipe(context.Context) error {
	if _, err := os.Stat(m.Directory); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(m.mark()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(m.dir()); err != nil {
		return err
	}
	return durable.SyncDirectory(m.Directory)
}
