package kms_test

import (
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

const (
	ireland = "eu-west-1"
	paris   = "eu-west-3"
)

// at is root in another Region.
func at(region string) identity.Caller {
	who := root(account)
	who.Region = region
	return who
}

func (w *world) replicate(id, region string) (*kmsapi.ReplicateKeyResponse, error) {
	return do[kmsapi.ReplicateKeyResponse](w, root(account), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: id, ReplicaRegion: region})
}

func (w *world) metadataAt(region, id string) *kmsapi.KeyMetadata {
	w.t.Helper()
	return must(do[kmsapi.DescribeKeyResponse](w, at(region), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id}))(w.t).KeyMetadata
}

func (w *world) untilState(region, id string, state kmsapi.KeyState) {
	w.t.Helper()
	polltest.Until(w.t, region+" to be "+string(state), func() bool { return w.metadataAt(region, id).KeyState == state })
}

func (w *world) replicated(id string, regions ...string) {
	w.t.Helper()
	for _, r := range regions {
		must(w.replicate(id, r))(w.t)
		w.untilState(r, id, kmsapi.StateEnabled)
	}
}

func TestRelatedKeysShareTheirMaterial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Description: "primary"})
	if !strings.HasPrefix(key.KeyID, "mrk-") || len(key.KeyID) != 36 || !*key.MultiRegion {
		t.Errorf("%+v", key)
	}
	out := must(w.replicate(key.KeyID, ireland))(t)
	m := out.ReplicaKeyMetadata
	if m.KeyState != kmsapi.StateCreating || m.Enabled || m.Description != "" || m.KeyID != key.KeyID || m.Arn != strings.Replace(key.Arn, region, ireland, 1) {
		t.Errorf("%+v", m)
	}
	if !strings.Contains(out.ReplicaPolicy, "kms:*") || m.CurrentKeyMaterialID != "" {
		t.Errorf("%+v", out)
	}
	w.untilState(ireland, key.KeyID, kmsapi.StateEnabled)
	w.replicated(key.KeyID, paris)
	for _, r := range []string{region, ireland, paris} {
		c := w.metadataAt(r, key.KeyID).MultiRegionConfiguration
		if c.PrimaryKey.Region != region || len(c.ReplicaKeys) != 2 || c.ReplicaKeys[0].Region != ireland || c.ReplicaKeys[1].Region != paris {
			t.Errorf("seen from %s: %+v", r, c)
		}
		if want := map[bool]kmsapi.MultiRegionKeyType{true: kmsapi.PrimaryKey, false: kmsapi.ReplicaKey}[r == region]; c.MultiRegionKeyType != want {
			t.Errorf("%s is the %s", r, c.MultiRegionKeyType)
		}
	}
	sealed := w.encrypt(key.KeyID, "text")
	back := must(do[kmsapi.DecryptResponse](w, at(paris), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}))(t)
	if string(back.Plaintext.Reveal()) != "text" || back.KeyMaterialID != key.CurrentKeyMaterialID || !strings.Contains(back.KeyID, paris) {
		t.Errorf("%+v", back)
	}
	w.restart()
	must(do[kmsapi.DecryptResponse](w, at(ireland), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}))(t)
}

func TestReplicateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	single := w.createKey(&kmsapi.CreateKeyRequest{})
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	w.replicated(key.KeyID, ireland)
	for name, tc := range map[string]struct {
		id, region string
		code       kmsapi.Code
	}{
		"a single-Region key":      {single.KeyID, ireland, kmsapi.UnsupportedOperation},
		"a Region that has one":    {key.KeyID, ireland, kmsapi.AlreadyExists},
		"the primary's own Region": {key.KeyID, region, kmsapi.AlreadyExists},
		"another partition":        {key.KeyID, "cn-north-1", kmsapi.Validation},
	} {
		if _, err := w.replicate(tc.id, tc.region); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	_, err := do[kmsapi.ReplicateKeyResponse](w, at(ireland), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key.KeyID, ReplicaRegion: paris})
	wantCode(t, err, kmsapi.UnsupportedOperation)
	if !strings.HasSuffix(err.Error(), "is not a multi-region primary key.") {
		t.Error(err)
	}
	must(do[kmsapi.Empty](w, root(account), "DisableKey", &kmsapi.DisableKeyRequest{KeyID: key.KeyID}))(t)
	_, err = w.replicate(key.KeyID, paris)
	wantCode(t, err, kmsapi.Disabled)
	if w.metadataAt(ireland, key.KeyID).KeyState != kmsapi.StateEnabled {
		t.Error("disabling the primary disabled its replica")
	}
}

func TestReplicasFollowRotations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	w.replicated(key.KeyID, ireland)
	must(do[kmsapi.Empty](w, root(account), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID}))(t)
	status := must(do[kmsapi.GetKeyRotationStatusResponse](w, at(ireland), "GetKeyRotationStatus", &kmsapi.GetKeyRotationStatusRequest{KeyID: key.KeyID}))(t)
	if !status.KeyRotationEnabled || *status.RotationPeriodInDays != 365 {
		t.Errorf("%+v", status)
	}
	_, err := do[kmsapi.Empty](w, at(ireland), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID})
	wantCode(t, err, kmsapi.UnsupportedOperation)
	w.clock.Advance(365 * day)
	w.rotated(key.KeyID, 1)
	now := w.metadata(key.KeyID).CurrentKeyMaterialID
	if got := w.metadataAt(ireland, key.KeyID).CurrentKeyMaterialID; got != now || now == key.CurrentKeyMaterialID {
		t.Errorf("the replica has %s, the primary %s", got, now)
	}
	sealed := w.encrypt(key.KeyID, "text")
	must(do[kmsapi.DecryptResponse](w, at(ireland), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}))(t)
	w.replicated(key.KeyID, paris) // one that comes later has the whole history
	must(do[kmsapi.DecryptResponse](w, at(paris), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}))(t)
}

func TestThePrimaryRegionMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	w.replicated(key.KeyID, ireland, paris)
	must(do[kmsapi.Empty](w, root(account), "EnableKeyRotation", &kmsapi.EnableKeyRotationRequest{KeyID: key.KeyID}))(t)
	move := func(from, to string) error {
		_, err := do[kmsapi.Empty](w, at(from), "UpdatePrimaryRegion", &kmsapi.UpdatePrimaryRegionRequest{KeyID: key.KeyID, PrimaryRegion: to})
		return err
	}
	wantCode(t, move(region, region), kmsapi.UnsupportedOperation)
	wantCode(t, move(region, "eu-north-1"), kmsapi.NotFound)
	wantCode(t, move(ireland, paris), kmsapi.UnsupportedOperation)
	wantCode(t, move(region, ireland), "")
	w.untilState(region, key.KeyID, kmsapi.StateEnabled)
	w.untilState(ireland, key.KeyID, kmsapi.StateEnabled)
	for _, r := range []string{region, ireland, paris} {
		c := w.metadataAt(r, key.KeyID).MultiRegionConfiguration
		if c.PrimaryKey.Region != ireland || len(c.ReplicaKeys) != 2 {
			t.Errorf("seen from %s: %+v", r, c)
		}
		if s := must(do[kmsapi.GetKeyRotationStatusResponse](w, at(r), "GetKeyRotationStatus", &kmsapi.GetKeyRotationStatusRequest{KeyID: key.KeyID}))(t); !s.KeyRotationEnabled {
			t.Errorf("%s forgot that the key rotates", r)
		}
	}
	w.clock.Advance(365 * day)
	polltest.Until(t, "the rotation", func() bool { return w.metadata(key.KeyID).CurrentKeyMaterialID != key.CurrentKeyMaterialID })
	if a, b := w.metadata(key.KeyID).CurrentKeyMaterialID, w.metadataAt(ireland, key.KeyID).CurrentKeyMaterialID; a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func TestAPrimaryWaitsForItsReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)})
	w.replicated(key.KeyID, ireland)
	out := must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID, PendingWindowInDays: ptr(int32(10))}))(t)
	if out.KeyState != kmsapi.StatePendingReplicaDeletion || out.DeletionDate != nil || *out.PendingWindowInDays != 10 {
		t.Errorf("%+v", out)
	}
	if m := w.metadata(key.KeyID); m.KeyState != kmsapi.StatePendingReplicaDeletion || *m.PendingDeletionWindowInDays != 10 || m.DeletionDate != nil {
		t.Errorf("%+v", m)
	}
	w.clock.Advance(100 * day)
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, at(ireland), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID, PendingWindowInDays: ptr(int32(7))}))(t)
	w.clock.Advance(7 * day)
	w.untilState(region, key.KeyID, kmsapi.StatePendingDeletion)
	m := w.metadata(key.KeyID)
	if !m.DeletionDate.Equal(w.clock.Now().Add(10*day)) || len(m.MultiRegionConfiguration.ReplicaKeys) != 0 || m.PendingDeletionWindowInDays != nil {
		t.Errorf("%+v", m)
	}
	_, err := do[kmsapi.DescribeKeyResponse](w, at(ireland), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
	wantCode(t, err, kmsapi.NotFound)
	must(do[kmsapi.CancelKeyDeletionResponse](w, root(account), "CancelKeyDeletion", &kmsapi.CancelKeyDeletionRequest{KeyID: key.KeyID}))(t)
	if s := w.keyState(key.KeyID); s != kmsapi.StateDisabled {
		t.Errorf("the key is %s", s)
	}
}

// importInto imports material into the key of a Region, for so long; 0 is for ever.
func (w *world) importInto(region, id string, bits []byte, kind kmsapi.ImportType, life time.Duration) error {
	w.t.Helper()
	p := must(do[kmsapi.GetParametersForImportResponse](w, at(region), "GetParametersForImport", &kmsapi.GetParametersForImportRequest{
		KeyID: id, WrappingAlgorithm: kmsapi.WrapRSAESOaepSHA256, WrappingKeySpec: kmsapi.WrappingRSA2048,
	}))(w.t)
	in := &kmsapi.ImportKeyMaterialRequest{
		KeyID: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(w.t, p.PublicKey, bits), ImportType: kind,
		ExpirationModel: kmsapi.KeyMaterialDoesNotExpire,
	}
	if life > 0 {
		in.ExpirationModel, in.ValidTo = kmsapi.KeyMaterialExpires, kmsapi.At(w.clock.Now().Add(life))
	}
	_, err := do[kmsapi.ImportKeyMaterialResponse](w, at(region), "ImportKeyMaterial", in)
	return err
}

func (w *world) untilStates(id, want string) {
	w.t.Helper()
	polltest.Until(w.t, "the materials to be "+want, func() bool { return w.states(id) == want })
}

const (
	waitsForRegions  = "CURRENT PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
	waitsForRotation = "CURRENT PENDING_ROTATION"
)

// Whatever happens to a replica meanwhile, related keys rotate to material that all of them have.
func TestMaterialThatWaitsForARotationFollowsTheReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Origin: kmsapi.OriginExternal}).KeyID
	first, second := material(t, kmsapi.SymmetricDefault), material(t, kmsapi.SymmetricDefault)
	wantCode(t, w.importInto(region, id, first, "", 0), "")
	wantCode(t, w.importInto(region, id, second, kmsapi.NewKeyMaterial, 0), "")
	w.untilStates(id, waitsForRotation)

	// A replica that comes now wants the material first.
	must(w.replicate(id, ireland))(t)
	w.untilStates(id, waitsForRegions)
	wantCode(t, w.rotate(id), kmsapi.KMSInvalidState)
	wantCode(t, w.importInto(ireland, id, first, kmsapi.ExistingKeyMaterial, 0), "")
	wantCode(t, w.importInto(ireland, id, second, kmsapi.ExistingKeyMaterial, 30*24*time.Hour), "")
	w.untilStates(id, waitsForRotation)

	// One whose copy expires wants it again.
	w.clock.Advance(31 * 24 * time.Hour)
	w.untilStates(id, waitsForRegions)
	wantCode(t, w.rotate(id), kmsapi.KMSInvalidState)

	// One that goes wants nothing more.
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, at(ireland), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: id, PendingWindowInDays: ptr(int32(7))}))(t)
	w.clock.Advance(8 * 24 * time.Hour)
	w.untilStates(id, waitsForRotation)
	wantCode(t, w.rotate(id), "")
	w.untilStates(id, "NON_CURRENT CURRENT")
}

// A rotation that has begun and lost its material on the way is none.
func TestARotationWhoseMaterialIsDeletedMeanwhileIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	must(w.importKey(w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))))(t)
	in := w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))
	in.ImportType = kmsapi.NewKeyMaterial
	pending := must(w.importKey(in))(t)
	wantCode(t, w.rotate(key.KeyID), "")
	must(w.deleteMaterial(key.KeyID, pending))(t)
	w.restart()
	polltest.Until(t, "the end of the rotation", func() bool {
		return w.rotationStatus(key.KeyID).OnDemandRotationStartDate == nil
	})
	if got := w.states(key.KeyID); got != "CURRENT" {
		t.Error(got)
	}
	if strings.Contains(w.audit.String(), `"RotateKey"`) {
		t.Error("a rotation is recorded")
	}
}

func TestNewMaterialIsImportedInEveryRegionBeforeTheRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true), Origin: kmsapi.OriginExternal})
	first, second := material(t, kmsapi.SymmetricDefault), material(t, kmsapi.SymmetricDefault)
	must(w.importKey(w.importing(key.KeyID, first)))(t)
	must(w.replicate(key.KeyID, ireland))(t)
	w.untilState(ireland, key.KeyID, kmsapi.StatePendingImport)
	importInto := func(region string, bits []byte, kind kmsapi.ImportType) error {
		return w.importInto(region, key.KeyID, bits, kind, 0)
	}
	wantCode(t, importInto(ireland, second, ""), kmsapi.IncorrectKeyMaterial)
	wantCode(t, importInto(ireland, first, ""), "")
	w.untilState(ireland, key.KeyID, kmsapi.StateEnabled)
	wantCode(t, importInto(ireland, second, kmsapi.NewKeyMaterial), kmsapi.UnsupportedOperation)
	wantCode(t, importInto(region, second, kmsapi.NewKeyMaterial), "")
	if got := w.states(key.KeyID); got != "CURRENT PENDING_MULTI_REGION_IMPORT_AND_ROTATION" {
		t.Error(got)
	}
	wantCode(t, w.rotate(key.KeyID), kmsapi.KMSInvalidState)
	wantCode(t, importInto(ireland, second, kmsapi.ExistingKeyMaterial), "")
	if got := w.states(key.KeyID); got != "CURRENT PENDING_ROTATION" {
		t.Error(got)
	}
	wantCode(t, w.rotate(key.KeyID), "")
	w.rotated(key.KeyID, 1)
	if a, b := w.metadata(key.KeyID).CurrentKeyMaterialID, w.metadataAt(ireland, key.KeyID).CurrentKeyMaterialID; a != b {
		t.Errorf("%s and %s", a, b)
	}
	sealed := w.encrypt(key.KeyID, "text")
	must(do[kmsapi.DecryptResponse](w, at(ireland), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}))(t)
}
