package hsm_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
)

// The bytes that this version writes, and later ones must read.
const (
	goldenBody     = "01" + "000102030405060708090a0b" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "c0ffee"
	goldenMaterial = "01" + "056c6162656c" + "026964" + "13636c75737465722d6162636465666768696a6b" + "03010203"
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
	for _, bad := range []pkcs11.GCM{{IV: make([]byte, 16), Tag: sealed.Tag}, {IV: sealed.IV, Tag: make([]byte, 12)}} {
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
	f.Add([]byte{1})
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
