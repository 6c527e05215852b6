package soft_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/soft"
)

// TestGolden opens ciphertexts that another implementation made. Later versions
// must still open them. How the material itself is sealed is rootkey's to freeze.
func TestGolden(t *testing.T) {
	t.Parallel()
	var golden struct {
		KeyID       string `json:"keyId"`
		ARN         string `json:"arn"`
		Material    string `json:"material"`
		MaterialID  string `json:"materialId"`
		Ciphertexts []struct {
			Plaintext string `json:"plaintext"`
			AAD       string `json:"aad"`
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
	if id, err := soft.MaterialID(golden.KeyID, unhex(golden.Material)); err != nil || id != golden.MaterialID {
		t.Errorf("the material has id %s (%v), want %s", id, err, golden.MaterialID)
	}
	sealer := newKeyring(t)
	data, err := sealer.Seal("key material", golden.ARN, unhex(golden.Material))
	if err != nil {
		t.Fatal(err)
	}
	s, key := soft.New(sealer), keystore.Key{ID: golden.KeyID, ARN: golden.ARN, Data: data}
	if len(golden.Ciphertexts) == 0 {
		t.Fatal("there is nothing to open")
	}
	for _, c := range golden.Ciphertexts {
		got, err := s.Decrypt(t.Context(), keystore.Call{}, key, unhex(c.Sealed), unhex(c.AAD))
		if err != nil || hex.EncodeToString(got) != c.Plaintext {
			t.Errorf("Decrypt gives %x, %v, want %s", got, err, c.Plaintext)
		}
	}
}
