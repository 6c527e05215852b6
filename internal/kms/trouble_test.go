package kms_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
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

func TestAnAttemptIsNotRepeatedBecauseItsOutcomeCannotBeStored(t *testing.T) {
	t.Parallel()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		db := newMemory()
		w := newWorldOn(t, db)
		id := w.createHSM("hsm", cluster)
		attempts := 0
		w.hsm.inConnect(func(context.Context, keystore.Passwords) error {
			attempts++
			db.fail(func() error { return store.ErrUnavailable })
			if attempts > 4 { // enough to lock the user
				db.fail(nil)
			}
			return &keystore.ConnectError{Code: kmsapi.InvalidCredentials, Err: errors.New("CKR_PIN_INCORRECT")}
		})
		if err := w.connect(id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		db.fail(nil)
		w.waitFor(id, kmsapi.Failed)
		if attempts != 1 {
			t.Errorf("the wrong password was sent %d times", attempts)
		}
		w.hsm.inConnect(nil)
		var updates atomic.Int32
		db.fail(func() error {
			if updates.Add(1) == 1 {
				return nil // the call itself
			}
			return store.ErrUnavailable
		})
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if state := w.describe(id).ConnectionState; state != kmsapi.Disconnecting {
			t.Errorf("the store is %s although nobody could say so", state)
		}
		db.fail(nil)
		w.waitFor(id, kmsapi.Disconnected)
	})
}

func TestAFailureWithoutACodeIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.xks.answer("Connect", &keystore.ConnectError{Err: errors.New("an outcome that no table has")})
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the end of the attempt", func() bool { return w.describe(id).ConnectionState != kmsapi.Connecting })
	if e := w.describe(id); e.ConnectionState != kmsapi.Failed || e.ConnectionErrorCode != kmsapi.InternalError {
		t.Errorf("%s %s", e.ConnectionState, e.ConnectionErrorCode)
	}
}

func TestASlowResumptionDoesNotRepeatTheWorkOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	w.connected(xks)
	// A look at all stores goes through them in no order: in some rounds the one
	// that is resumed slowly comes before the one that is being connected.
	for round := range 12 {
		connecting, connect := make(chan struct{}), make(chan struct{})
		w.hsm.inConnect(func(context.Context, keystore.Passwords) error {
			close(connecting)
			<-connect
			return nil
		})
		if err := w.connect(hsm); err != nil {
			t.Fatal(err)
		}
		<-connecting
		resuming, resume := make(chan struct{}), make(chan struct{})
		w.xks.inResume(sync.OnceFunc(func() { close(resuming); <-resume }))
		must(do[kmsapi.UpdateCustomKeyStoreResponse](w, root(account), "UpdateCustomKeyStore", &kmsapi.UpdateCustomKeyStoreRequest{
			CustomKeyStoreID: xks, XksProxyAuthenticationCredential: credential,
		}))(t)
		<-resuming
		w.hsm.inConnect(nil)
		close(connect)
		w.waitFor(hsm, kmsapi.Connected)
		polltest.Until(t, "the record of the attempt", func() bool {
			return strings.Count(w.audit.String(), `"connectionState":"CONNECTED","customKeyStoreId":"`+hsm+`"`) > round
		})
		close(resume)
		if err := w.disconnect(hsm); err != nil {
			t.Fatal(err)
		}
		w.waitFor(hsm, kmsapi.Disconnected)
		if connects, _, _ := w.hsm.counts(); connects != round+1 {
			t.Fatalf("%d attempts to connect in %d rounds", connects, round+1)
		}
	}
}
