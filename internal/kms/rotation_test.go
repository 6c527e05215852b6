package kms_test

import (
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

const day = 24 * time.Hour

func (w *world) metadata(id string) *kmsapi.KeyMetadata {
	w.t.Helper()
	return must(do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id}))(w.t).KeyMetadata
}

func (w *world) rotations(id string, what kmsapi.IncludeKeyMaterial) []kmsapi.RotationsListEntry {
	w.t.Helper()
	return must(do[kmsapi.ListKeyRotationsResponse](w, root(account), "ListKeyRotations", &kmsapi.ListKeyRotationsRequest{KeyID: id, IncludeKeyMaterial: what}))(w.t).Rotations
}

func (w *world) rotationStatus(id string) *kmsapi.GetKeyRotationStatusResponse {
	w.t.Helper()
	return must(do[kmsapi.GetKeyRotationStatusResponse](w, root(account), "GetKeyRotationStatus", &kmsapi.GetKeyRotationStatusRequest{KeyID: id}))(w.t)
}

func (w *world) rotate(id string) error {
	_, err := do[kmsapi.RotateKeyOnDemandResponse](w, root(account), "RotateKeyOnDemand", &kmsapi.RotateKeyOnDemandRequest{KeyID: id})
	return err
}

// rotated waits until a key has been rotated n times.
func (w *world) rotated(id string, n int) {
	w.t.Helper()
	polltest.Until(w.t, "a rotation", func() bool {
		return len(w.rotations(id, "")) == n && w.rotationStatus(id).OnDemandRotationStartDate == nil
	})
}

func (w *world) encrypt(id, plaintext string) []byte {
	w.t.Helper()
	return must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: id, Plaintext: secretBytes(plaintext)}))(w.t).CiphertextBlob
}

// opens wants a ciphertext to open, and gives the id of the material that did it.
func (w *world) opens(ciphertext []byte, plaintext string) string {
	w.t.Helper()
	out := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: ciphertext}))(w.t)
	if string(out.Plaintext.Reveal()) != plaintext {
		w.t.Errorf("%q, not %q", out.Plaintext.Reveal(), plaintext)
	}
	return out.KeyMaterialID
}

func TestKeysRotateWhenTheirTimeHasCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	if s := w.rotationStatus(key.KeyID); s.KeyRotationEnabled || s.RotationPeriodInDays != nil || s.NextRotationDate != nil || s.KeyID != key.KeyID {
		t.Errorf("before: %+v", s)
	}
	must(do[kmsapi.Empty](w, root(account), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID, RotationPeriodInDays: ptr(int32(90))}))(t)
	s := w.rotationStatus(key.KeyID)
	if due := w.clock.Now().Add(90 * day); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 90 || !s.NextRotationDate.Equal(due) {
		t.Errorf("after: %+v", s)
	}
	first := w.encrypt(key.KeyID, "before")
	w.clock.Advance(90*day - time.Second)
	if w.rotations(key.KeyID, "") != nil {
		t.Error("the key was rotated too early")
	}
	w.clock.Advance(time.Second)
	w.rotated(key.KeyID, 1)
	now := w.metadata(key.KeyID).CurrentKeyMaterialID
	if now == key.CurrentKeyMaterialID {
		t.Error("the material is the same")
	}
	second := w.encrypt(key.KeyID, "after")
	if a, b := w.opens(first, "before"), w.opens(second, "after"); a != key.CurrentKeyMaterialID || b != now {
		t.Errorf("opened by %s and %s", a, b)
	}
	e := w.rotations(key.KeyID, "")[0]
	if e.KeyMaterialID != now || e.RotationType != kmsapi.RotationAutomatic || !e.RotationDate.Equal(w.clock.Now()) || e.KeyMaterialState != kmsapi.Current || e.ImportState != "" {
		t.Errorf("%+v", e)
	}
	all := w.rotations(key.KeyID, kmsapi.AllKeyMaterial)
	if len(all) != 2 || all[0].KeyMaterialID != key.CurrentKeyMaterialID || all[0].KeyMaterialState != kmsapi.NonCurrent || all[0].RotationDate != nil {
		t.Errorf("%+v", all)
	}
	polltest.Until(t, "the record of the rotation", func() bool {
		return strings.Contains(w.audit.String(), `"eventName":"RotateKey"`) && strings.Contains(w.audit.String(), now)
	})
	must(do[kmsapi.Empty](w, root(account), "DisableKeyRotation", &kmsapi.DisableKeyRotationRequest{KeyID: key.KeyID}))(t)
	if w.rotationStatus(key.KeyID).KeyRotationEnabled {
		t.Error("rotation is still enabled")
	}
}

func TestMissedRotationsAreCaughtUpOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away, disabled, doomed := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	for _, key := range []*kmsapi.KeyMetadata{away, disabled, doomed} {
		must(do[kmsapi.Empty](w, root(account), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID}))(t)
	}
	must(do[kmsapi.Empty](w, root(account), "DisableKey", &kmsapi.DisableKeyRequest{KeyID: disabled.KeyID}))(t)
	w.s.Close()
	w.clock.Advance(3 * 365 * day) // the service was down
	w.start()
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: doomed.KeyID}))(t)
	w.rotated(away.KeyID, 1)
	if next := w.rotationStatus(away.KeyID).NextRotationDate; !next.Equal(w.clock.Now().Add(365 * day)) {
		t.Errorf("the next rotation is due %s", next)
	}
	if w.rotations(disabled.KeyID, "") != nil || !w.rotationStatus(disabled.KeyID).KeyRotationEnabled {
		t.Error("a disabled key was rotated, or forgot that it is to be")
	}
	must(do[kmsapi.Empty](w, root(account), "EnableKey", &kmsapi.EnableKeyRequest{KeyID: disabled.KeyID}))(t)
	w.rotated(disabled.KeyID, 1)
	if w.rotationStatus(doomed.KeyID).KeyRotationEnabled {
		t.Error("a key that is about to be deleted says that it rotates")
	}
	must(do[kmsapi.CancelKeyDeletionResponse](w, root(account), "CancelKeyDeletion", &kmsapi.CancelKeyDeletionRequest{KeyID: doomed.KeyID}))(t)
	if !w.rotationStatus(doomed.KeyID).KeyRotationEnabled {
		t.Error("cancelling the deletion did not restore the rotation")
	}
}

func TestRotationOnDemand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	var old [][]byte
	for n := range 25 {
		old = append(old, w.encrypt(key.KeyID, "text"))
		wantCode(t, w.rotate(key.Arn), "")
		w.rotated(key.KeyID, n+1)
	}
	err := w.rotate(key.KeyID)
	wantCode(t, err, kmsapi.LimitExceeded)
	if !strings.Contains(err.Error(), "The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: "+key.Arn) {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, ciphertext := range old {
		seen[w.opens(ciphertext, "text")] = true
	}
	if len(seen) != 25 {
		t.Errorf("%d materials made 25 ciphertexts", len(seen))
	}
	w.restart()
	w.opens(old[0], "text")
	page := must(do[kmsapi.ListKeyRotationsResponse](w, root(account), "ListKeyRotations", &kmsapi.ListKeyRotationsRequest{KeyID: key.KeyID, Limit: ptr(int32(20))}))(t)
	rest := must(do[kmsapi.ListKeyRotationsResponse](w, root(account), "ListKeyRotations", &kmsapi.ListKeyRotationsRequest{KeyID: key.KeyID, Marker: page.NextMarker}))(t)
	if len(page.Rotations) != 20 || !page.Truncated || len(rest.Rotations) != 5 || rest.Truncated {
		t.Errorf("pages of %d and %d", len(page.Rotations), len(rest.Rotations))
	}
}

func TestRotationsDoNotComeTooClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	must(do[kmsapi.Empty](w, root(account), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID, RotationPeriodInDays: ptr(int32(100))}))(t)
	w.clock.Advance(100*day - 19*time.Minute)
	wantCode(t, w.rotate(key.KeyID), kmsapi.Conflict)
	w.clock.Advance(19 * time.Minute)
	w.rotated(key.KeyID, 1)
	wantCode(t, w.rotate(key.KeyID), "")
	w.rotated(key.KeyID, 2)
}

func TestARotationThatIsInProgressIsShownAndNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	wantCode(t, w.rotate(key.KeyID), "")
	if s := w.rotationStatus(key.KeyID); s.OnDemandRotationStartDate == nil || !s.OnDemandRotationStartDate.Equal(w.clock.Now()) {
		t.Errorf("%+v", s)
	}
	wantCode(t, w.rotate(key.KeyID), kmsapi.Conflict)
	w.restart() // the first sweep does it
	w.rotated(key.KeyID, 1)
}

func TestOnlySymmetricKeysOutsideStoresRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm := w.createHSM("hsm", cluster)
	w.connected(hsm)
	stored := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: hsm})
	ecc := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.ECCNistP256, KeyUsage: kmsapi.SignVerify})
	mac := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.HMAC256, KeyUsage: kmsapi.GenerateVerifyMac})
	for _, key := range []*kmsapi.KeyMetadata{stored, ecc, mac} {
		for name, in := range map[string]any{
			"EnableKeyRotation":    &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID},
			"DisableKeyRotation":   &kmsapi.DisableKeyRotationRequest{KeyID: key.KeyID},
			"GetKeyRotationStatus": &kmsapi.GetKeyRotationStatusRequest{KeyID: key.KeyID},
			"ListKeyRotations":     &kmsapi.ListKeyRotationsRequest{KeyID: key.KeyID},
			"RotateKeyOnDemand":    &kmsapi.RotateKeyOnDemandRequest{KeyID: key.KeyID},
		} {
			_, err := w.s.Do(t.Context(), operation(t, name), root(account), in)
			wantCode(t, err, kmsapi.UnsupportedOperation)
		}
	}
}
