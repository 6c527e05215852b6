package hsm_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

// The bytes that this version writes, and later ones must read.
const (
	goldenBody       = "01" + "000102030405060708090a0b" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "c0ffee"
	goldenLongerBody = "02" + "000102030405060708090a0b0c0d0e0f" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "c0ffee"
	goldenMaterial   = "01" + "056c6162656c" + "026964" + "13636c75737465722d6162636465666768696a6b" + "03010203"
)

func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	sealed := pkcs11.GCM{IV: unhex("000102030405060708090a0b"), Tag: unhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), Ciphertext: unhex("c0ffee")}
	body, ok := hsm.AppendBody([]byte("dst"), sealed)
	if !ok || hex.EncodeToString(body[3:]) != goldenBody {
		t.Errorf("the body is %x, %v", body, ok)
	}
	got, ok := hsm.ParseBody(unhex(goldenBody))
	if !ok || !cmp.Equal(got, sealed) {
		t.Errorf("parsed: %+v, %v", got, ok)
	}
	longer := pkcs11.GCM{IV: unhex("000102030405060708090a0b0c0d0e0f"), Tag: sealed.Tag, Ciphertext: sealed.Ciphertext}
	if body, ok := hsm.AppendBody(nil, longer); !ok || hex.EncodeToString(body) != goldenLongerBody {
		t.Errorf("the body with an IV of 16 bytes is %x, %v", body, ok)
	}
	if got, ok := hsm.ParseBody(unhex(goldenLongerBody)); !ok || !cmp.Equal(got, longer) {
		t.Errorf("parsed: %+v, %v", got, ok)
	}
	for _, bad := range []pkcs11.GCM{{IV: make([]byte, 13), Tag: sealed.Tag}, {IV: nil, Tag: sealed.Tag}, {IV: sealed.IV, Tag: make([]byte, 12)}} {
		if _, ok := hsm.AppendBody(nil, bad); ok {
			t.Errorf("an IV of %d and a tag of %d bytes were taken", len(bad.IV), len(bad.Tag))
		}
	}
	data, err := hsm.ReencodeMaterial(unhex(goldenMaterial))
	if err != nil || hex.EncodeToString(data) != goldenMaterial {
		t.Errorf("the record is %x, %v", data, err)
	}
}

func FuzzParseBody(f *testing.F) {
	f.Add(unhex(goldenBody))
	f.Add(unhex(goldenLongerBody))
	f.Add([]byte{1})
	f.Add([]byte{2})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		sealed, ok := hsm.ParseBody(body)
		if !ok {
			return
		}
		if again, ok := hsm.AppendBody(nil, sealed); !ok || !bytes.Equal(again, body) {
			t.Errorf("%x became %x", body, again)
		}
	})
}

func FuzzParseMaterial(f *testing.F) {
	f.Add(unhex(goldenMaterial))
	f.Add([]byte{1, 1, 'a', 1, 'b', 1, 'c', 1, 'd'})
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		again, err := hsm.ReencodeMaterial(data)
		if err == nil && !bytes.Equal(again, data) {
			t.Errorf("%x became %x", data, again)
		}
	})
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// A key store works with modules that make IVs of 16 bytes and append them, as Luna's do in FIPS mode.
func TestModulesThatMakeLongerIVs(t *testing.T) {
	t.Parallel()
	tokens, faults := pkcs11test.NewTokens(t, 2), pkcs11test.NewFaults(t)
	faults.Set(t, "C_EncryptInit make-iv=16", "C_Encrypt append-iv=16")
	for i := range tokens {
		tokens[i] = faults.Break(t, tokens[i])
	}
	r := rigOn(t, tokens, func(r *rig) {
		for i := range r.cluster().Members {
			r.cluster().Members[i].Token.IV = pkcs11.IVInOutput
		}
	})
	c := r.connect(t)
	polltest.Until(t, "both members serve", allHealthy(c))
	key := createKey(t, c)
	sealed := mustEncrypt(t, c, key)
	if sealed[0] != 2 {
		t.Errorf("the body begins with %d", sealed[0])
	}
	mustDecrypt(t, c, key, sealed)
}
