package kms_test

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/metricstest"
	"kastellan.dev/internal/polltest"
)

type labels = metricstest.Labels

// counted is a world with metrics.
func counted(t *testing.T, change ...func(*kms.Config)) (*world, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	return newWorld(t, append(change, func(c *kms.Config) { c.Metrics = registry })...), registry
}

func TestThrottlingForAKeyStoreIsCountedWithWhatAWSTells(t *testing.T) {
	t.Parallel()
	w, registry := counted(t, func(c *kms.Config) { c.Quotas.KeyStoreRate = 1 })
	encrypt := func(key string) error {
		_, err := do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key, Plaintext: secretBytes("x")})
		return err
	}
	const throttles, external = "kastellan_cloudhsm_key_store_throttles_total", "kastellan_external_key_store_throttles_total"
	hsm := w.createHSM("hsm", cluster)
	w.connected(hsm)
	inHSM := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: hsm})
	xks := w.createXKS("xks", "xks.example.com")
	w.connected(xks)
	outside := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: xks, XksKeyID: "external"})
	wantCode(t, encrypt(inHSM.KeyID), "")
	wantCode(t, encrypt(inHSM.KeyID), kmsapi.Throttling)
	wantCode(t, encrypt(outside.KeyID), "")
	wantCode(t, encrypt(outside.KeyID), kmsapi.Throttling)
	_, err := do[kmsapi.GenerateRandomResponse](w, root(account), "GenerateRandom", &kmsapi.GenerateRandomRequest{CustomKeyStoreID: hsm, NumberOfBytes: ptr(int32(8))})
	wantCode(t, err, kmsapi.Throttling)
	encrypts := labels{"custom_key_store_id": hsm, "kms_operation": "Encrypt", "key_spec": "SYMMETRIC_DEFAULT"}
	metricstest.Want(t, registry, throttles, encrypts, 1)
	metricstest.Want(t, registry, throttles, labels{"kms_operation": "GenerateRandom", "key_spec": ""}, 1)
	metricstest.Want(t, registry, external, labels{"custom_key_store_id": xks, "kms_operation": "Encrypt", "key_spec": "SYMMETRIC_DEFAULT"}, 1)

	w.clock.Advance(time.Minute)
	w.hsm.answer("Encrypt", kmsapi.Errorf(kmsapi.KMSInternal, "").Because(keystore.ErrBusy))
	wantCode(t, encrypt(inHSM.KeyID), kmsapi.KMSInternal)
	metricstest.Want(t, registry, throttles, encrypts, 2) // the cluster's too
	w.clock.Advance(time.Minute)
	w.hsm.answer("Encrypt", errors.New("another reason"))
	wantCode(t, encrypt(inHSM.KeyID), kmsapi.KMSInternal)
	metricstest.Want(t, registry, throttles, encrypts, 2)
}

func TestRequestsBeyondAQuotaAreCountedByItsName(t *testing.T) {
	t.Parallel()
	w, registry := counted(t, func(c *kms.Config) {
		c.Quotas.Requests = kms.RequestRates{Enforced: true, PerSecond: map[string]float64{"ListKeys": 1}}
	})
	for range 3 {
		_, _ = do[kmsapi.ListKeysResponse](w, root(account), "ListKeys", &kmsapi.ListKeysRequest{})
	}
	metricstest.Want(t, registry, "kastellan_request_quota_throttles_total", labels{"quota": "ListKeys"}, 2)
}

func TestSuccessesAreCountedForSoManyKeysAndNoMore(t *testing.T) {
	t.Parallel()
	const successes = "kastellan_successful_requests_total"
	w, registry := counted(t, func(c *kms.Config) { c.MetricKeys = 2 })
	first, second, third := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	sealed := w.encrypt(first.KeyID, "x")
	w.opens(sealed, "x")
	_, err := do[kmsapi.ReEncryptResponse](w, root(account), "ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: second.KeyID})
	wantCode(t, err, "")
	w.encrypt(third.KeyID, "x")
	_, err = do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: first.KeyID, Plaintext: secretBytes("x"), DryRun: true})
	wantCode(t, err, kmsapi.DryRunOperation)
	for _, want := range []labels{
		{"key_arn": first.Arn, "operation": "Encrypt"}, {"key_arn": first.Arn, "operation": "Decrypt"},
		{"key_arn": first.Arn, "operation": "ReEncryptFrom"}, {"key_arn": second.Arn, "operation": "ReEncryptTo"},
		{"key_arn": "other", "operation": "Encrypt"},
	} {
		metricstest.Want(t, registry, successes, want, 1)
	}
	w.doom(first)
	w.clock.Advance(8 * day)
	polltest.Until(t, "the deleted key to go", func() bool {
		_, n := metricstest.Value(t, registry, successes, labels{"key_arn": first.Arn})
		return n == 0
	})
	w.encrypt(third.KeyID, "x")
	metricstest.Want(t, registry, successes, labels{"key_arn": third.Arn, "operation": "Encrypt"}, 1)
}

func TestSuccessesAreNotCountedUnlessAskedFor(t *testing.T) {
	t.Parallel()
	w, registry := counted(t)
	w.encrypt(w.createKey(&kmsapi.CreateKeyRequest{}).KeyID, "x")
	metricstest.WantNone(t, registry, "kastellan_successful_requests_total", nil)
}

func TestKeyStoresAreShownWithTheAgeOfTheirCredentials(t *testing.T) {
	t.Parallel()
	const age = "kastellan_xks_proxy_credential_age_days"
	w, registry := counted(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "xks.example.com")
	w.connected(hsm)
	w.clock.Advance(36 * time.Hour)
	metricstest.Want(t, registry, age, labels{"custom_key_store_id": xks}, 1.5)
	metricstest.WantNone(t, registry, age, labels{"custom_key_store_id": hsm})
	metricstest.Want(t, registry, "kastellan_custom_key_store_state", labels{"custom_key_store_id": hsm, "type": "AWS_CLOUDHSM", "state": "CONNECTED"}, 1)
	metricstest.Want(t, registry, "kastellan_custom_key_store_state", labels{"custom_key_store_id": xks, "type": "EXTERNAL_KEY_STORE", "state": "DISCONNECTED"}, 1)
	_, err := do[kmsapi.DeleteCustomKeyStoreResponse](w, root(account), "DeleteCustomKeyStore", &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: xks})
	wantCode(t, err, "")
	metricstest.WantNone(t, registry, age, nil)
}

func TestImportedMaterialShowsWhenItExpires(t *testing.T) {
	t.Parallel()
	const until = "kastellan_seconds_until_key_material_expiration"
	w, registry := counted(t)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternal})
	in := w.importing(key.KeyID, material(t, kmsapi.SymmetricDefault))
	metricstest.WantNone(t, registry, until, nil)
	in.ExpirationModel, in.ValidTo = "", kmsapi.At(w.clock.Now().Add(time.Hour))
	must(w.importKey(in))(t)
	w.clock.Advance(time.Minute)
	metricstest.Want(t, registry, until, labels{"key_arn": key.Arn}, 59*60)
	w.clock.Advance(time.Hour)
	polltest.Until(t, "the expiry", func() bool {
		_, n := metricstest.Value(t, registry, until, nil)
		return n == 0
	})
}

func TestWhatIsOverdueShows(t *testing.T) {
	t.Parallel()
	w, registry := counted(t, slowly)
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	metricstest.Want(t, registry, "kastellan_sweeper_lag_seconds", nil, 0)
	before, _ := metricstest.Value(t, registry, "kastellan_mirror_revision", nil)
	w.doom(key)
	w.clock.Advance(7*day + time.Hour)
	if lag, _ := metricstest.Value(t, registry, "kastellan_sweeper_lag_seconds", nil); lag < 3600 {
		t.Errorf("the sweeper is late by %v s", lag)
	}
	if after, _ := metricstest.Value(t, registry, "kastellan_mirror_revision", nil); after <= before {
		t.Errorf("the revision was %v and is %v", before, after)
	}
}
