package keystoretest

import (
	"bytes"
	"context"
	"testing"

	"kastellan.dev/internal/keystore"
)

func testCancelled(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	sealed := f.encrypt(t, key, plaintext, aad)
	done, cancel := context.WithCancel(context.Background())
	cancel()

	prefix := randomBytes(20)
	dst := append(make([]byte, 0, 4096), prefix...)
	if _, err := f.store.Encrypt(done, callFor("Encrypt"), key, dst, plaintext, aad); err == nil {
		t.Error("Encrypt succeeded")
	}
	if !bytes.Equal(dst, prefix) {
		t.Error("Encrypt failed and changed what dst held")
	}
	if got, err := f.store.Decrypt(done, callFor("Decrypt"), key, sealed, aad); err == nil || len(got) != 0 {
		t.Errorf("Decrypt gave %d bytes, error %v", len(got), err)
	}
	nk := f.newKey()
	if _, err := f.store.CreateKey(done, callFor("CreateKey"), nk); err == nil {
		t.Error("CreateKey succeeded")
	}
	interrupted := keystore.Key{ID: nk.ID, ARN: nk.ARN, XksKeyID: nk.XksKeyID}
	if err := f.store.DeleteKey(f.context(t), callFor("CreateKey"), interrupted); err != nil {
		t.Errorf("DeleteKey after the CreateKey that failed: %v", err)
	}

	f.mustDecrypt(t, key, sealed, aad, plaintext)
	f.mustDecrypt(t, key, f.encrypt(t, key, plaintext, aad), aad, plaintext)
}

func testDelete(t *testing.T, f *fixture) {
	kept, _ := f.create(t)
	gone, _ := f.create(t)
	interrupted, _ := f.create(t)
	ctx := f.context(t)
	if !f.usable(t, gone) || !f.usable(t, interrupted) {
		t.Fatal("a key cannot be used before it is deleted")
	}

	unknown := interrupted
	unknown.Data = nil
	for _, d := range []struct {
		what string
		key  keystore.Key
	}{
		{"a key", gone},
		{"a key that was deleted", gone},
		{"a key whose data was never stored", unknown},
		{"a key whose data was never stored, again", unknown},
	} {
		if err := f.store.DeleteKey(ctx, callFor("ScheduleKeyDeletion"), d.key); err != nil {
			t.Errorf("deleting %s: %v", d.what, err)
		}
	}
	never := f.newKey()
	if err := f.store.DeleteKey(ctx, callFor("CreateKey"), keystore.Key{ID: never.ID, ARN: never.ARN, XksKeyID: never.XksKeyID}); err != nil {
		t.Errorf("deleting a key that was never made: %v", err)
	}

	if f.Destroys && (f.usable(t, gone) || f.usable(t, interrupted)) {
		t.Error("a deleted key can be used")
	}
	if !f.usable(t, kept) {
		t.Error("deleting other keys took this one too")
	}
}

func testRestart(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	sealed := f.encrypt(t, key, plaintext, aad)

	again := *f
	again.store = f.Restart(t, f.store)
	again.mustDecrypt(t, key, sealed, aad, plaintext)
	again.mustDecrypt(t, key, again.encrypt(t, key, plaintext, aad), aad, plaintext)
}
