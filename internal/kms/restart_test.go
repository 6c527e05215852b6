package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
)

func TestAConnectedStoreServesAgainAfterARestartWithoutConnecting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	in := &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", in))(t)
	for range 10 { // it serves from the first call on
		w.restart()
		must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed.CiphertextBlob}))(t)
	}
	if connects, resumes, open := w.hsm.counts(); connects != 1 || resumes != 10 || open != 1 {
		t.Errorf("%d attempts, %d resumed, %d open", connects, resumes, open)
	}
}

// hang makes Connect wait until the service ends, and returns a channel that
// is closed when it does.
func hang(kind *fakeKind) <-chan struct{} {
	entered := make(chan struct{})
	kind.inConnect(func(ctx context.Context, _ keystore.Passwords) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	return entered
}

func TestAnInterruptedConnectIsFinishedByTheNextProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	entered := hang(w.hsm)
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	<-entered
	w.s.Close()
	w.hsm.inConnect(nil)
	w.start()
	w.waitFor(id, kmsapi.Connected)
}

// shared is a store that other processes may have open too.
type shared struct{ store.Store }

func (shared) Exclusive() bool { return false }

func TestInASharedStoreOnlyALostLeaseIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Store = shared{c.Store} })
	id := w.createHSM("hsm", cluster)
	entered := hang(w.hsm)
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	<-entered
	w.s.Close()
	w.hsm.inConnect(nil)
	w.start()
	if state := w.describe(id).ConnectionState; state != kmsapi.Connecting {
		t.Fatalf("the store is %s while the lease holds", state)
	}
	w.clock.Advance(time.Minute)
	w.waitFor(id, kmsapi.Connected)
}

func TestTwoProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Store = shared{c.Store} })
	second, err := kms.Open(context.Background(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	polltest.Until(t, "a connection in each process", func() bool {
		connects, resumes, open := w.hsm.counts()
		return connects == 1 && resumes == 1 && open == 2
	})
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	other := &world{t: t, s: second}
	polltest.Until(t, "the key in the other process", func() bool {
		_, err := do[kmsapi.EncryptResponse](other, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")})
		return err == nil
	})
	if _, err := do[kmsapi.DisconnectCustomKeyStoreResponse](other, root(account), "DisconnectCustomKeyStore", &kmsapi.DisconnectCustomKeyStoreRequest{CustomKeyStoreID: id}); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	polltest.Until(t, "no connection in either", func() bool {
		_, _, open := w.hsm.counts()
		return open == 0
	})
}

func TestADeletedStoreLeavesNoConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	must(do[kmsapi.DeleteCustomKeyStoreResponse](w, root(account), "DeleteCustomKeyStore", &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: id}))(t)
	_, err := do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.CustomKeyStoreNotFound)
	if again := w.createXKS("xks", "proxy.example.com"); again == id {
		t.Error("an id was given twice")
	}
}

func TestAStoreThatCannotBeResumedIsNoUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.connected(id)
	inStore := &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id}
	key := w.createKey(inStore)
	w.hsm.answer("Resume", errors.New("the cluster is not declared any more"))
	w.restart()
	for name, tc := range map[string]struct {
		in   any
		code kmsapi.Code
	}{
		"Encrypt":        {&kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")}, kmsapi.KMSInvalidState},
		"CreateKey":      {inStore, kmsapi.CustomKeyStoreInvalidState},
		"GenerateRandom": {&kmsapi.GenerateRandomRequest{CustomKeyStoreID: id, NumberOfBytes: ptr(int32(1))}, kmsapi.CustomKeyStoreInvalidState},
	} {
		if _, err := w.s.Do(t.Context(), operation(t, name), root(account), tc.in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
}

// A record as it was written when a key had one material.
func TestRecordsWithOneMaterialStillOpen(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	sealed := w.encrypt(key.KeyID, "old")
	w.s.Close()
	at := "key/" + account + "/" + region + "/" + key.KeyID
	if _, err := db.Update(t.Context(), func(tx store.Tx) error {
		value, _, err := tx.Get(at)
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(value, &rec); err != nil {
			return err
		}
		only := rec["Materials"].([]any)[0].(map[string]any)
		delete(rec, "Materials")
		rec["MaterialID"], rec["MaterialData"] = only["ID"], only["Data"]
		if value, err = json.Marshal(rec); err != nil {
			return err
		}
		return tx.Put(at, value)
	}); err != nil {
		t.Fatal(err)
	}
	w.start()
	if id := w.opens(sealed, "old"); id != key.CurrentKeyMaterialID {
		t.Errorf("opened by %s", id)
	}
	wantCode(t, w.rotate(key.KeyID), "")
	w.rotated(key.KeyID, 1)
	w.restart()
	w.opens(sealed, "old")
}
