package kms_test

import (
	"encoding/json"
	"testing"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
)

// The policy may be what keeps a grant from being used.
func TestAGrantDoesNotCountBesideAPolicyThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	grantedTo := person(aliceARN)
	w.grant(key.Arn)
	encrypt := func() error {
		_, err := do[kmsapi.EncryptResponse](w, grantedTo, "Encrypt", &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x")})
		return err
	}
	if err := encrypt(); err != nil {
		t.Fatal(err)
	}
	at := "key/" + account + "/" + region + "/" + key.KeyID
	_, err := w.cfg.Store.Update(t.Context(), func(tx store.Tx) error {
		value, _, err := tx.Get(at)
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(value, &rec); err != nil {
			return err
		}
		rec["Policy"] = `{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Unless":"never"}}`
		if value, err = json.Marshal(rec); err != nil {
			return err
		}
		return tx.Put(at, value)
	})
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the new record is seen", func() bool {
		_, err := do[kmsapi.DescribeKeyResponse](w, root(account), "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
		return kmsapi.CodeOf(err) == kmsapi.AccessDenied
	})
	wantCode(t, encrypt(), kmsapi.AccessDenied)
}
