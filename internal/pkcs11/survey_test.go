//go:build cgo && unix

package pkcs11_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
)

func TestSurveyTellsWhatAModuleHas(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	info, err := pkcs11.Survey(testContext(t), ref.Config())
	if err != nil {
		t.Fatal(err)
	}
	if info.Cryptoki != "2.40" || len(info.Slots) != 2 {
		t.Fatalf("PKCS#11 %s, %d slots", info.Cryptoki, len(info.Slots))
	}
	slot := info.Slots[0]
	gcm := slices.IndexFunc(slot.Mechanisms, func(m pkcs11.Mechanism) bool { return m.Type == 0x1087 })
	if slot.Token.Serial != ref.URI.Serial || slot.MaxPIN == 0 || slot.Failure != "" || gcm < 0 {
		t.Errorf("%+v", slot)
	}
	if m := slot.Mechanisms[gcm]; m.MaxKey != 32 || m.Flags&pkcs11.CKF_ENCRYPT == 0 || m.Flags&pkcs11.CKF_WRAP != 0 {
		t.Errorf("AES-GCM: %+v", m)
	}
}

func TestSurveyTellsWhatASlotRefuses(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	ref := faults.Break(t, pkcs11test.NewTokens(t, 1)[0])
	faults.Set(t, "C_GetMechanismInfo rv=0x30 count=1")
	info, err := pkcs11.Survey(testContext(t), ref.Config())
	if err != nil || len(info.Slots) != 2 {
		t.Fatalf("%d slots, %v", len(info.Slots), err)
	}
	if slot := info.Slots[0]; slot.Failure != "C_GetMechanismInfo: CKR_DEVICE_ERROR" || len(slot.Mechanisms) < 50 {
		t.Errorf("%q, %d mechanisms", slot.Failure, len(slot.Mechanisms))
	}
	cfg := ref.Config()
	cfg.CallTimeout = time.Second
	faults.Set(t, "C_GetTokenInfo hang")
	if _, err := pkcs11.Survey(testContext(t), cfg); err == nil {
		t.Error("a module that hangs was surveyed")
	}
}

func TestInspectorAsksWhatOthersNeedNot(t *testing.T) {
	t.Parallel()
	ref := pkcs11test.NewTokens(t, 1)[0]
	token, ok := openLoggedIn(t, ref, ref.Config()).(pkcs11.Inspector)
	if !ok {
		t.Fatal("a token cannot be inspected")
	}
	ctx := testContext(t)
	key := generate(t, token, dataKey)
	wrapping := generate(t, token, pkcs11.Template{Label: "wrapping", Token: true, Wrap: true})
	if readable, err := token.ReadsValue(ctx, key); readable || !errors.Is(err, &pkcs11.Error{RV: pkcs11.CKR_ATTRIBUTE_SENSITIVE}) {
		t.Errorf("ReadsValue: %t, %v", readable, err)
	}
	for mechanism, works := range map[uint]bool{0x2109: true, 0x210A: true, 0x210B: false} {
		if err := token.WrapsWith(ctx, mechanism, wrapping, key); (err == nil) != works {
			t.Errorf("WrapsWith 0x%X: %v", mechanism, err)
		}
	}
	if err := token.Logout(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := token.ReadsValue(ctx, key); !errors.Is(err, pkcs11.ErrLost) {
		t.Errorf("with a handle of an earlier login: %v", err)
	}
}
