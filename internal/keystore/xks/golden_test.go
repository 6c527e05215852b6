package xks_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/xks"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/rootkey"
)

// TestGolden opens ciphertexts of both layers that another implementation made.
// Later versions must still open them. How the inner key itself is sealed is
// rootkey's to freeze; for what and bound to what, is ours.
func TestGolden(t *testing.T) {
	t.Parallel()
	var golden struct {
		KeyID           string `json:"keyId"`
		ARN             string `json:"arn"`
		XksKeyID        string `json:"xksKeyId"`
		InnerKeyPurpose string `json:"innerKeyPurpose"`
		InnerKeyContext string `json:"innerKeyContext"`
		InnerKey        string `json:"innerKey"`
		ExternalKey     string `json:"externalKey"`
		Ciphertexts     []struct {
			Plaintext string `json:"plaintext"`
			AAD       string `json:"aad"`
			IVSize    int    `json:"ivSize"`
			Metadata  string `json:"metadata"`
			Sealed    string `json:"sealed"`
		} `json:"ciphertexts"`
	}
	text, err := os.ReadFile(filepath.Join("testdata", "v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sealer := rootkey.Random().Direct()
	data, err := sealer.Seal(golden.InnerKeyPurpose, golden.InnerKeyContext, unhex(golden.InnerKey))
	if err != nil {
		t.Fatal(err)
	}
	key := keystore.Key{ID: golden.KeyID, ARN: golden.ARN, XksKeyID: golden.XksKeyID, Data: data}
	if len(golden.Ciphertexts) == 0 {
		t.Fatal("there is nothing to open")
	}
	for _, c := range golden.Ciphertexts {
		r := newRig(t, xkstest.Options{IVSize: c.IVSize, Metadata: string(unhex(c.Metadata))}, func(_ *rig, cfg *xks.Config) { cfg.Sealer = sealer })
		r.proxy.RemoveKey(golden.XksKeyID)
		r.proxy.SetKey(xkstest.Key{ID: golden.XksKeyID, Material: unhex(golden.ExternalKey)})
		got, err := decrypt(t.Context(), r.connect(t), key, unhex(c.Sealed), string(unhex(c.AAD)))
		if err != nil || hex.EncodeToString([]byte(got)) != c.Plaintext {
			t.Errorf("Decrypt gives %x, %v, want %s", got, err, c.Plaintext)
		}
	}
}
