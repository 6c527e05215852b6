package keyfile

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock keeps other processes from updating the file until unlock is called. The
// lock is on a file beside it, since the file itself is replaced; it dies with the process.
func lock(path string) (unlock func(), err error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking key file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking key file %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
