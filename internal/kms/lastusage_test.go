package kms_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func (w *world) lastUsage(key string) *kmsapi.GetKeyLastUsageResponse {
	w.t.Helper()
	return must(do[kmsapi.GetKeyLastUsageResponse](w, root(account), "GetKeyLastUsage", &kmsapi.GetKeyLastUsageRequest{KeyID: key}))(w.t)
}

func (w *world) encryptOnce(key string) []byte {
	w.t.Helper()
	return must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key, Plaintext: secretBytes("x")}))(w.t).CiphertextBlob
}

// used tells whether a key was last used by an operation at a time.
func used(k *kmsapi.GetKeyLastUsageResponse, operation string, at time.Time) bool {
	u := k.KeyLastUsage
	return u != nil && string(u.Operation) == operation && u.Timestamp != nil && u.Timestamp.Time.Equal(at)
}

func unused(k *kmsapi.GetKeyLastUsageResponse) bool {
	return k.KeyLastUsage != nil && *k.KeyLastUsage == kmsapi.KeyLastUsageData{}
}

func TestTheLastUseOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.Advance(time.Hour)
	a, b := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	if got := w.lastUsage(a.Arn); !unused(got) || got.KeyID != a.KeyID || !got.TrackingStartDate.Time.Equal(got.KeyCreationDate.Time) {
		t.Errorf("of a new key: %+v", got)
	}
	w.clock.Advance(time.Minute)
	w.encryptOnce(a.KeyID)
	first := w.clock.Now()
	got := w.lastUsage(a.KeyID)
	if !used(got, "Encrypt", first) || !unused(w.lastUsage(b.KeyID)) {
		t.Errorf("got %+v", got.KeyLastUsage)
	}
	var event audit.Record
	for line := range strings.Lines(w.audit.String()) {
		if strings.Contains(line, `"eventName":"Encrypt"`) && json.Unmarshal([]byte(line), &event) != nil {
			t.Fatal(line)
		}
	}
	if u := got.KeyLastUsage; u.CloudTrailEventID != event.EventID || u.KmsRequestID != event.RequestID || event.EventID == "" {
		t.Errorf("%+v is not the record %+v", u, event)
	}
	w.clock.Advance(time.Minute)
	again := w.encryptOnce(a.KeyID)
	w.clock.Advance(time.Minute)
	must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: again}))(t)
	if got := w.lastUsage(a.KeyID); !used(got, "Decrypt", w.clock.Now()) {
		t.Errorf("got %+v", got.KeyLastUsage)
	}
}

func TestReEncryptUsesBothKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	sealed := w.encryptOnce(a.KeyID)
	w.clock.Advance(time.Minute)
	must(do[kmsapi.ReEncryptResponse](w, root(account), "ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: b.KeyID}))(t)
	if at := w.clock.Now(); !used(w.lastUsage(a.KeyID), "ReEncrypt", at) || !used(w.lastUsage(b.KeyID), "ReEncrypt", at) {
		t.Errorf("got %+v and %+v", w.lastUsage(a.KeyID).KeyLastUsage, w.lastUsage(b.KeyID).KeyLastUsage)
	}
}

func TestWhatIsNoUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x"), DryRun: true})
	wantCode(t, err, kmsapi.DryRunOperation)
	_, err = do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x"), EncryptionAlgorithm: kmsapi.RSAESOaepSHA1})
	wantCode(t, err, kmsapi.InvalidKeyUsage)
	must(do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID}))(t)
	must(do[kmsapi.RotateKeyOnDemandResponse](w, root(account), "RotateKeyOnDemand", &kmsapi.RotateKeyOnDemandRequest{KeyID: key.KeyID}))(t)
	if got := w.lastUsage(key.KeyID); !unused(got) {
		t.Errorf("got %+v", got.KeyLastUsage)
	}
}

func TestEveryTrackedOperationCounts(t *testing.T) {
	t.Parallel()
	tracked := make(map[string]bool)
	for _, name := range kmsapi.KeyLastUsageTrackingOperation("").Values() {
		tracked[name] = true
	}
	for _, op := range kms.Operations() {
		if op.Uses != tracked[op.Name] {
			t.Errorf("%s counts as a use: %t", op.Name, op.Uses)
		}
	}
}

func TestTheLastUseOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := w.clock.Now()
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	w.encryptOnce(key.KeyID)
	w.clock.Advance(time.Hour)
	w.restart()
	if got := w.lastUsage(key.KeyID); !used(got, "Encrypt", began) || !got.TrackingStartDate.Time.Equal(began) {
		t.Errorf("got %+v", got)
	}
	w.doom(key)
	w.clock.Advance(30 * 24 * time.Hour)
	polltest.Until(t, "the deletion of the key", func() bool { return len(stored(t, w.cfg.Store, "key/")) == 0 })
	if left := stored(t, w.cfg.Store, "lastusage/"); len(left) != 0 {
		t.Errorf("%v outlives its key", left)
	}
}

func TestUsesAreStoredFromTimeToTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.StoreUses = time.Millisecond })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	w.encryptOnce(key.KeyID)
	polltest.Until(t, "the last use in the store", func() bool { return len(stored(t, w.cfg.Store, "lastusage/")) == 1 })
}

func TestUsesThatCannotBeStoredAreTriedAgain(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db, slowly, func(c *kms.Config) { c.StoreUses = time.Millisecond })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	var once sync.Once
	failed := make(chan struct{})
	db.fail(func() (err error) {
		once.Do(func() { err = errors.New("the disk is full"); close(failed) })
		return err
	})
	w.encryptOnce(key.KeyID)
	<-failed
	polltest.Until(t, "the last use in the store", func() bool { return len(stored(t, db, "lastusage/")) == 1 })
}

// TestAnEarlierUseDoesNotReplaceALaterOne has two processes over one store, one
// of which is behind with storing.
func TestAnEarlierUseDoesNotReplaceALaterOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly, func(c *kms.Config) { c.Store = shared{c.Store}; c.StoreUses = time.Hour })
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	other, err := kms.Open(context.Background(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.encryptOnce(key.KeyID)
	w.clock.Advance(time.Minute)
	later := w.clock.Now()
	_, err = other.Do(t.Context(), operation(t, "GenerateDataKey"), root(account), &kmsapi.GenerateDataKeyRequest{KeyID: key.KeyID, KeySpec: kmsapi.DataKeyAES256})
	if err != nil {
		t.Fatal(err)
	}
	other.Close() // stores the later use, and this process hears of it
	polltest.Until(t, "the other's use", func() bool { return used(w.lastUsage(key.KeyID), "GenerateDataKey", later) })
	w.restart()
	if got := w.lastUsage(key.KeyID); !used(got, "GenerateDataKey", later) {
		t.Errorf("got %+v", got.KeyLastUsage)
	}
}

// TestUsesOfKeysThatChange changes keys while they are used: nothing gets lost between two entries.
func TestUsesOfKeysThatChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	w.encryptOnce(key.KeyID)
	at := w.clock.Now()
	w.clock.Advance(time.Second)
	wantCode(t, w.tag(key.KeyID, kmsapi.Tag{TagKey: "a"}), "")
	if got := w.lastUsage(key.KeyID); !used(got, "Encrypt", at) {
		t.Errorf("got %+v", got.KeyLastUsage)
	}
	if keys := stored(t, w.cfg.Store, "lastusage/"); len(keys) != 0 {
		t.Errorf("a use wrote %v at once", keys)
	}
}
