package kms_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

func (w *world) parameters(id string) *kmsapi.GetParametersForImportResponse {
	w.t.Helper()
	return must(do[kmsapi.GetParametersForImportResponse](w, root(account), "GetParametersForImport", &kmsapi.GetParametersForImportRequest{
		KeyID: id, WrappingAlgorithm: kmsapi.WrapRSAESOaepSHA256, WrappingKeySpec: kmsapi.WrappingRSA2048,
	}))(w.t)
}

// importing is a request to import material that does not expire.
func (w *world) importing(id string, material []byte) *kmsapi.ImportKeyMaterialRequest {
	w.t.Helper()
	return importingWith(w.t, w.parameters(id), id, material)
}

func importingWith(t *testing.T, p *kmsapi.GetParametersForImportResponse, id string, material []byte) *kmsapi.ImportKeyMaterialRequest {
	t.Helper()
	return &kmsapi.ImportKeyMaterialRequest{
		KeyID: id, ImportToken: bytes.Clone(p.ImportToken), EncryptedKeyMaterial: wrap(t, p.PublicKey, material),
		ExpirationModel: kmsapi.KeyMaterialDoesNotExpire,
	}
}

func (w *world) importKey(in *kmsapi.ImportKeyMaterialRequest) (string, error) {
	out, err := do[kmsapi.ImportKeyMaterialResponse](w, root(account), "ImportKeyMaterial", in)
	if err != nil {
		return "", err
	}
	return out.KeyMaterialID, nil
}

func material(t *testing.T, spec kmsapi.KeySpec) []byte {
	t.Helper()
	m, err := keyspec.Of(spec).Generate()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w *world) deleteMaterial(id, materialID string) (string, error) {
	out, err := do[kmsapi.DeleteImportedKeyMaterialResponse](w, root(account), "DeleteImportedKeyMaterial", &kmsapi.DeleteImportedKeyMaterialRequest{KeyID: id, KeyMaterialID: materialID})
	if err != nil {
		return "", err
	}
	return out.KeyMaterialID, nil
}

func TestImportedMaterialComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	if key.KeyState != kmsapi.StatePendingImport || key.Enabled || key.CurrentKeyMaterialID != "" || key.ExpirationModel != "" {
		t.Errorf("%+v", key)
	}
	_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")})
	wantCode(t, err, kmsapi.KMSInvalidState)
	if !strings.HasSuffix(err.Error(), key.Arn+" is pending import.") {
		t.Error(err)
	}
	first := material(t, kmsapi.SymmetricDefault)
	id, err := w.importKey(w.importing(key.KeyID, first))
	wantCode(t, err, "")
	m := w.metadata(key.KeyID)
	if m.KeyState != kmsapi.StateEnabled || !m.Enabled || m.CurrentKeyMaterialID != id || m.ExpirationModel != kmsapi.KeyMaterialDoesNotExpire || m.ValidTo != nil {
		t.Errorf("%+v", m)
	}
	sealed := w.encrypt(key.KeyID, "text")
	gone, err := w.deleteMaterial(key.KeyID, "")
	wantCode(t, err, "")
	if gone != id || w.keyState(key.KeyID) != kmsapi.StatePendingImport {
		t.Errorf("deleted %s; the key is %s", gone, w.keyState(key.KeyID))
	}
	_, err = do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed})
	wantCode(t, err, kmsapi.KMSInvalidState)
	if _, err = w.deleteMaterial(key.KeyID, ""); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	_, err = w.importKey(w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault)))
	wantCode(t, err, kmsapi.IncorrectKeyMaterial)
	again, err := w.importKey(w.importing(key.KeyID, first))
	wantCode(t, err, "")
	if again != id {
		t.Errorf("the same material is %s now, and was %s", again, id)
	}
	w.opens(sealed, "text")
	w.restart()
	w.opens(sealed, "text")
}

func TestImportedMaterialExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	bytes := material(t, kmsapi.SymmetricDefault)
	in := w.importing(key.KeyID, bytes)
	in.ExpirationModel = ""
	for name, until := range map[string]*kmsapi.Time{
		"never": nil, "now": kmsapi.At(w.clock.Now()), "too late": kmsapi.At(w.clock.Now().Add(365*day + time.Minute)),
	} {
		in.ValidTo = until
		if _, err := w.importKey(in); kmsapi.CodeOf(err) != kmsapi.Validation {
			t.Errorf("%s: %v", name, err)
		}
	}
	in.ValidTo = kmsapi.At(w.clock.Now().Add(time.Hour))
	id := must(w.importKey(in))(t)
	if m := w.metadata(key.KeyID); m.ExpirationModel != kmsapi.KeyMaterialExpires || !m.ValidTo.Equal(in.ValidTo.Time) {
		t.Errorf("%+v", m)
	}
	sealed := w.encrypt(key.KeyID, "text")
	w.clock.Advance(time.Hour)
	if s := w.keyState(key.KeyID); s != kmsapi.StatePendingImport { // at once, whether it has been swept or not
		t.Errorf("the key is %s", s)
	}
	polltest.Until(t, "the material to be destroyed", func() bool { return strings.Contains(w.audit.String(), `"eventName":"DeleteExpiredKeyMaterial"`) })
	all := w.rotations(key.KeyID, kmsapi.AllKeyMaterial)
	if len(all) != 1 || all[0].ImportState != kmsapi.PendingImport || all[0].KeyMaterialID != id || all[0].ValidTo != nil {
		t.Errorf("%+v", all)
	}
	must(w.importKey(w.importing(key.KeyID, bytes)))(t)
	w.opens(sealed, "text")
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, other := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal}), w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	ours := w.createKey(&kmsapi.CreateKeyRequest{})
	p := w.parameters(key.KeyID)
	for name, tc := range map[string]struct {
		change func(in *kmsapi.ImportKeyMaterialRequest)
		code   kmsapi.Code
	}{
		"the token of another key": {func(in *kmsapi.ImportKeyMaterialRequest) { in.KeyID = other.KeyID }, kmsapi.InvalidImportToken},
		"a touched token":          {func(in *kmsapi.ImportKeyMaterialRequest) { in.ImportToken[9] ^= 1 }, kmsapi.InvalidImportToken},
		"touched material":         {func(in *kmsapi.ImportKeyMaterialRequest) { in.EncryptedKeyMaterial[200] ^= 1 }, kmsapi.InvalidCiphertext},
		"a date without expiry":    {func(in *kmsapi.ImportKeyMaterialRequest) { in.ValidTo = kmsapi.At(w.clock.Now().Add(day)) }, kmsapi.Validation},
		"another id":               {func(in *kmsapi.ImportKeyMaterialRequest) { in.KeyMaterialID = strings.Repeat("0", 64) }, kmsapi.IncorrectKeyMaterial},
		"an id of new material": {func(in *kmsapi.ImportKeyMaterialRequest) {
			in.ImportType, in.KeyMaterialID = kmsapi.NewKeyMaterial, strings.Repeat("0", 64)
		}, kmsapi.Validation},
		"existing material that is not": {func(in *kmsapi.ImportKeyMaterialRequest) { in.ImportType = kmsapi.ExistingKeyMaterial }, kmsapi.IncorrectKeyMaterial},
		"a key that KMS made":           {func(in *kmsapi.ImportKeyMaterialRequest) { in.KeyID = ours.KeyID }, kmsapi.UnsupportedOperation},
	} {
		in := importingWith(t, p, key.KeyID, material(t, kmsapi.SymmetricDefault))
		tc.change(in)
		if _, err := w.importKey(in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	_, err := w.importKey(importingWith(t, p, key.KeyID, make([]byte, 31)))
	wantCode(t, err, kmsapi.IncorrectKeyMaterial)
	in := importingWith(t, p, key.KeyID, material(t, kmsapi.SymmetricDefault))
	w.clock.Advance(24*time.Hour + time.Second)
	_, err = w.importKey(in)
	wantCode(t, err, kmsapi.ExpiredImportToken)
	_, err = do[kmsapi.GetParametersForImportResponse](w, root(account), "GetParametersForImport", &kmsapi.GetParametersForImportRequest{
		KeyID: key.KeyID, WrappingAlgorithm: kmsapi.WrapRSAESPkcs1, WrappingKeySpec: kmsapi.WrappingRSA2048,
	})
	wantCode(t, err, kmsapi.UnsupportedOperation)
	private := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal, KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.SignVerify})
	_, err = do[kmsapi.GetParametersForImportResponse](w, root(account), "GetParametersForImport", &kmsapi.GetParametersForImportRequest{
		KeyID: private.KeyID, WrappingAlgorithm: kmsapi.WrapSM2PKE, WrappingKeySpec: kmsapi.WrappingSM2, // outside of China
	})
	wantCode(t, err, kmsapi.UnsupportedOperation)
	if w.keyState(key.KeyID) != kmsapi.StatePendingImport {
		t.Error("a refused import left something")
	}
}

func TestImportedKeysRotateToNewMaterial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	in := w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))
	in.KeyMaterialDescription = "first"
	first := must(w.importKey(in))(t)
	sealed := w.encrypt(key.KeyID, "first")
	wantCode(t, w.rotate(key.KeyID), kmsapi.KMSInvalidState)

	next := material(t, kmsapi.SymmetricDefault)
	in = w.importing(key.KeyID, next)
	in.ImportType = kmsapi.NewKeyMaterial
	second := must(w.importKey(in))(t)
	again := w.importing(key.KeyID, next)
	again.ImportType = kmsapi.NewKeyMaterial
	again.KeyMaterialDescription = "second"
	must(w.importKey(again))(t)
	third := w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))
	third.ImportType = kmsapi.NewKeyMaterial
	_, err := w.importKey(third)
	wantCode(t, err, kmsapi.KMSInvalidState)
	if !strings.Contains(err.Error(), "cannot be imported into KMS key "+key.KeyID+", because another key material (id: "+second+") is pending rotation.") {
		t.Error(err)
	}
	if m := w.metadata(key.KeyID); m.CurrentKeyMaterialID != first {
		t.Error("new material is current before the rotation")
	}
	if got := w.states(key.KeyID); got != "CURRENT PENDING_ROTATION" {
		t.Error(got)
	}
	wantCode(t, w.rotate(key.KeyID), "")
	w.rotated(key.KeyID, 1)
	if m := w.metadata(key.KeyID); m.CurrentKeyMaterialID != second {
		t.Error("new material is not current after the rotation")
	}
	if got := w.states(key.KeyID); got != "NON_CURRENT CURRENT" {
		t.Error(got)
	}
	if e := w.rotations(key.KeyID, ""); len(e) != 1 || e[0].RotationType != kmsapi.RotationOnDemand || e[0].KeyMaterialDescription != "second" || e[0].ImportState != kmsapi.Imported {
		t.Errorf("%+v", e)
	}
	w.opens(w.encrypt(key.KeyID, "second"), "second")
	w.opens(sealed, "first")

	must(w.deleteMaterial(key.KeyID, first))(t)
	if s := w.keyState(key.KeyID); s != kmsapi.StatePendingImport { // one missing material stops the whole key
		t.Errorf("the key is %s", s)
	}
	_, err = w.deleteMaterial(key.KeyID, strings.Repeat("0", 64))
	wantCode(t, err, kmsapi.NotFound)
}

// states lists the states of a key's materials, oldest first.
func (w *world) states(id string) string {
	var out []string
	for _, e := range w.rotations(id, kmsapi.AllKeyMaterial) {
		out = append(out, string(e.KeyMaterialState))
	}
	return strings.Join(out, " ")
}

func TestPendingMaterialCanBeDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	must(w.importKey(w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))))(t)
	in := w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))
	in.ImportType = kmsapi.NewKeyMaterial
	id := must(w.importKey(in))(t)
	must(w.deleteMaterial(key.KeyID, id))(t)
	if got := w.states(key.KeyID); got != "CURRENT" || w.keyState(key.KeyID) != kmsapi.StateEnabled {
		t.Errorf("%s, and the key is %s", got, w.keyState(key.KeyID))
	}
}

// Every spec, by every algorithm that fits; SM2 stands for what China alone has.
func TestMaterialOfEverySpecIsImported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, spec := range keyspec.All() {
		for _, place := range []string{region, beijing} {
			for _, alg := range kmsapi.AlgorithmSpec("").Values() {
				alg := kmsapi.AlgorithmSpec(alg)
				key, fits := wrappingFor(spec, alg, place)
				if !fits || !spec.AllowedIn(place) || place == beijing && spec.Name != kmsapi.SM2 && alg != kmsapi.WrapSM2PKE {
					continue
				}
				t.Run(fmt.Sprintf("%s %s in %s", spec.Name, alg, place), func(t *testing.T) {
					permitted(t, spec)
					if err := keywrap.Allowed(alg, key); err != nil {
						t.Skip(err)
					}
					w.importsInto(t, at(place), spec, alg, key)
				})
			}
		}
	}
}

const beijing = "cn-north-1"

// wrappingFor finds a wrapping key for material of a spec.
func wrappingFor(spec *keyspec.Spec, alg kmsapi.AlgorithmSpec, place string) (kmsapi.WrappingKeySpec, bool) {
	for _, key := range kmsapi.WrappingKeySpec("").Values() {
		if key := kmsapi.WrappingKeySpec(key); spec.Wraps(alg, key, place) {
			return key, true
		}
	}
	return "", false
}

func (w *world) importsInto(t *testing.T, who identity.Caller, spec *keyspec.Spec, alg kmsapi.AlgorithmSpec, wrapping kmsapi.WrappingKeySpec) {
	t.Helper()
	create := &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal, KeySpec: spec.Name, KeyUsage: spec.Usages()[0]}
	id := must(do[kmsapi.CreateKeyResponse](w, who, "CreateKey", create))(t).KeyMetadata.KeyID
	p := must(do[kmsapi.GetParametersForImportResponse](w, who, "GetParametersForImport", &kmsapi.GetParametersForImportRequest{
		KeyID: id, WrappingAlgorithm: alg, WrappingKeySpec: wrapping,
	}))(t)
	bits := material(t, spec.Name)
	wrapped := must(keywrap.Wrap(alg, p.PublicKey, bits))(t)
	must(do[kmsapi.ImportKeyMaterialResponse](w, who, "ImportKeyMaterial", &kmsapi.ImportKeyMaterialRequest{
		KeyID: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: kmsapi.KeyMaterialDoesNotExpire,
	}))(t)
	m := must(do[kmsapi.DescribeKeyResponse](w, who, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: id}))(t).KeyMetadata
	if m.KeyState != kmsapi.StateEnabled || spec.Symmetric() != (m.CurrentKeyMaterialID != "") {
		t.Errorf("%+v", m)
	}
	if !spec.Asymmetric() {
		return
	}
	public := must(do[kmsapi.GetPublicKeyResponse](w, who, "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: id}))(t)
	if opened := must(spec.Open(bits))(t); !bytes.Equal(public.PublicKey, opened.SPKI()) {
		t.Error("the public key is not the imported one")
	}
}

func wrap(t *testing.T, publicKey, bits []byte) []byte {
	t.Helper()
	wrapped, err := keywrap.Wrap(kmsapi.WrapRSAESOaepSHA256, publicKey, bits)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}
