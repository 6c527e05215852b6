package kms_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func (w *world) doom(key *kmsapi.KeyMetadata) {
	w.t.Helper()
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID, PendingWindowInDays: ptr(int32(7))}))(w.t)
}

func TestADeletionThatIsCancelledAtTheLastMomentIsNotRecorded(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db)
	saved := w.createKey(&kmsapi.CreateKeyRequest{})
	w.doom(saved)
	deleting, goOn := make(chan struct{}), make(chan struct{})
	var updates atomic.Int32
	db.fail(func() error {
		if updates.Add(1) == 1 { // the sweeper's
			close(deleting)
			<-goOn
		}
		return nil
	})
	w.clock.Advance(7 * 24 * time.Hour)
	<-deleting
	must(do[kmsapi.CancelKeyDeletionResponse](w, root(account), "CancelKeyDeletion", &kmsapi.CancelKeyDeletionRequest{KeyID: saved.KeyID}))(t)
	close(goOn)
	// When a second key is deleted, the sweeper is through with the first.
	second := w.createKey(&kmsapi.CreateKeyRequest{})
	w.doom(second)
	w.clock.Advance(7 * 24 * time.Hour)
	polltest.Until(t, "the record of a deletion", func() bool { return strings.Contains(w.audit.String(), `"eventName":"DeleteKey"`) })
	for line := range strings.Lines(w.audit.String()) {
		if strings.Contains(line, `"eventName":"DeleteKey"`) && !strings.Contains(line, second.Arn) {
			t.Errorf("recorded, although the key is there: %s", line)
		}
	}
	if w.keyState(saved.KeyID) != kmsapi.StateDisabled {
		t.Error("the key was not saved")
	}
}

func TestAnExternalKeyIsFreeAtOnceWhenNoKeyCameOfIt(t *testing.T) {
	t.Parallel()
	db := newMemory()
	w := newWorldOn(t, db, func(c *kms.Config) { c.Sweep = time.Hour })
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	create := func() error {
		_, err := do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", &kmsapi.CreateKeyRequest{
			Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: id, XksKeyID: "k1",
		})
		return err
	}
	w.xks.answer("CreateKey", kmsapi.Errorf(kmsapi.XksKeyInvalidConfiguration, "disabled"))
	wantCode(t, create(), kmsapi.XksKeyInvalidConfiguration)
	w.xks.answer("CreateKey", nil)
	db.fail(func() error { db.fail(nil); return errAfterCommit })
	wantCode(t, create(), kmsapi.KMSInternal)
	wantCode(t, create(), "")
	wantCode(t, create(), kmsapi.XksKeyAlreadyInUse)
}

func TestMaterialThatCannotBeDestroyedIsTriedAgainNowAndThen(t *testing.T) {
	t.Parallel()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOn(t, newMemory(), func(c *kms.Config) { c.Sweep = time.Second })
		id := w.createHSM("hsm", cluster)
		w.connected(id)
		for range 3 {
			w.doom(w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id}))
		}
		w.hsm.answer("DeleteKey", errors.New("one HSM is away"))
		w.clock.Advance(7 * 24 * time.Hour)
		time.Sleep(100 * time.Second)
		if n := w.hsm.deletions(); n < 5 || n > 20 {
			t.Errorf("%d attempts in 100 s", n)
		}
		w.hsm.answer("DeleteKey", nil)
		time.Sleep(20 * time.Second)
		if n := w.hsm.keyCount(); n != 0 {
			t.Errorf("%d keys are left in the HSM", n)
		}
	})
}
