package kms_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func TestASnapshotThatBreaksOffHidesNoKey(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	encrypt := func() error {
		_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")})
		return err
	}
	var broken, mended atomic.Int32
	db.breakWatches(func(at string) error {
		if !strings.HasPrefix(at, "key/") {
			return nil
		}
		if broken.Add(1) == 1 {
			return errors.New("the storage went away")
		}
		mended.Store(1)
		return nil
	})
	polltest.Until(t, "a snapshot that breaks off", func() bool { return broken.Load() > 0 })
	for mended.Load() == 0 { // a new watch begins after a pause
		if err := encrypt(); err != nil {
			t.Fatalf("while the storage is away: %v", err)
		}
	}
	if err := encrypt(); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}
