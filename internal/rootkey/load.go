package rootkey

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"kastellan.dev/internal/durable"
)

// Source tells where the root key is. Exactly one of its fields is set.
type Source struct {
	File string // path of a file
	Env  string // name of an environment variable
}

// Load reads the root key: 32 bytes in base64 or hexadecimal.
//
// A file must be a regular one that belongs to the user of the process or to root
// and that neither group nor others can access in any way. A variable is
// removed from the environment of the process, so that children do not inherit
// it; what the kernel shows of the environment that the process started with
// stays as it is, hence a file is the better choice.
func Load(src Source) (Key, error) {
	switch {
	case src.File != "" && src.Env != "":
		return Key{}, errors.New("root key: a file and an environment variable are given, want one of them")
	case src.File != "":
		return loadFile(src.File)
	case src.Env != "":
		return loadEnv(src.Env)
	default:
		return Key{}, errors.New("root key: neither a file nor an environment variable is given")
	}
}

func loadEnv(name string) (Key, error) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return Key{}, fmt.Errorf("root key: the environment variable %s is not set", name)
	}
	if err := os.Unsetenv(name); err != nil {
		return Key{}, fmt.Errorf("root key: removing %s from the environment: %w", name, err)
	}
	key, err := decode([]byte(text))
	if err != nil {
		return Key{}, fmt.Errorf("root key: the environment variable %s is %w", name, err)
	}
	return key, nil
}

func loadFile(path string) (Key, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, fmt.Errorf("root key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("root key: %w", err)
	}
	if err := checkFile(info, os.Getuid()); err != nil {
		return Key{}, fmt.Errorf("root key: %s %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return Key{}, fmt.Errorf("root key: %w", err)
	}
	key, err := decode(text)
	if err != nil {
		return Key{}, fmt.Errorf("root key: the content of %s is %w", path, err)
	}
	return key, nil
}

// checkFile tells why a file is not fit to hold a key for the user uid.
func checkFile(info os.FileInfo, uid int) error {
	if !info.Mode().IsRegular() {
		return errors.New("is not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("has mode %04o: group and others must not have access (chmod 600)", mode)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 && int(owner.Uid) != uid {
		return errors.New("belongs to somebody else than this user or root")
	}
	return nil
}

// Generate makes a root key and writes it to a new file, in base64 with mode
// 0600. It refuses to replace a file. When it returns nil the file is on disk.
func Generate(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making a root key: %w", err)
	}
	var key [KeySize]byte
	rand.Read(key[:])
	text := append(base64.StdEncoding.AppendEncode(nil, key[:]), '\n')
	clear(key[:])
	defer clear(text)
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("making a root key: %w", errors.Join(err, os.Remove(path)))
	}
	if err := durable.SyncDirectory(filepath.Dir(path)); err != nil {
		return fmt.Errorf("making a root key: %w", err)
	}
	return nil
}
