// Package durable makes changes of directories last: a file that was made or
// renamed is found after a power failure only when its directory was synced too.
package durable

import (
	"errors"
	"os"
)

// SyncDirectory writes the names in a directory to the disk.
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
