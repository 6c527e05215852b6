package kms_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
)

// limited enforces request quotas, with other values than AWS's.
func limited(perSecond map[string]float64) func(*kms.Config) {
	return func(c *kms.Config) { c.Quotas.Requests = kms.RequestRates{Enforced: true, PerSecond: perSecond} }
}

// allowed counts how many of n calls at one moment are not throttled.
func allowed(t *testing.T, n int, fn func() error) (done int) {
	t.Helper()
	for range n {
		err := fn()
		if kmsapi.CodeOf(err) != kmsapi.Throttling {
			done++
		} else if !strings.HasSuffix(err.Error(), "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.") {
			t.Error(err)
		}
	}
	return done
}

func (w *world) calls(caller identity.Caller, name string, in any) func() error {
	return func() error {
		_, err := w.s.Do(w.t.Context(), operation(w.t, name), caller, in)
		return err
	}
}

func TestOperationsHaveTheirOwnRates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(nil))
	key := w.createKey(&kmsapi.CreateKeyRequest{}).KeyID
	put := &kmsapi.PutKeyPolicyRequest{KeyID: key, Policy: aPolicy}
	enable := &kmsapi.EnableKeyRequest{KeyID: key}
	me := root(account)
	if n := allowed(t, 30, w.calls(me, "PutKeyPolicy", put)); n != 15 {
		t.Errorf("%d calls of PutKeyPolicy went through, want 15", n)
	}
	if n := allowed(t, 30, w.calls(me, "EnableKey", enable)); n != 5 {
		t.Errorf("%d calls of EnableKey went through, want 5", n)
	}
	if n := allowed(t, 30, w.calls(in(me, "us-west-2"), "EnableKey", enable)); n != 5 {
		t.Errorf("%d calls in another Region went through, want 5", n)
	}
	if n := allowed(t, 30, w.calls(root("444455556666"), "EnableKey", enable)); n != 5 {
		t.Errorf("%d calls of another account went through, want 5", n)
	}
	w.clock.Advance(200 * time.Millisecond)
	if n := allowed(t, 30, w.calls(me, "EnableKey", enable)); n != 1 {
		t.Errorf("%d calls went through after a fifth of a second, want 1", n)
	}
}

func TestKeysOfOneGroupShareARate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(map[string]float64{"symmetric": 10, "RSA": 3, "GenerateDataKeyPair/ECC_NIST_P256": 2}))
	me := root(account)
	a, b := w.createKey(&kmsapi.CreateKeyRequest{}).KeyID, w.createKey(&kmsapi.CreateKeyRequest{}).KeyID
	sealed := w.encryptOnce(a) // 1 of 10
	rsa := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.RSA2048, KeyUsage: kmsapi.EncryptDecrypt}).KeyID
	steps := []struct {
		name string
		in   any
		want int
	}{
		{"Encrypt", &kmsapi.EncryptRequest{KeyID: b, Plaintext: secretBytes("x")}, 2},
		{"ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: b}, 2},
		{"ReEncrypt", &kmsapi.ReEncryptRequest{CiphertextBlob: sealed, DestinationKeyID: rsa}, 2},
		{"GenerateRandom", &kmsapi.GenerateRandomRequest{NumberOfBytes: ptr(int32(8))}, 2},
		{"Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed}, 1},
		{"Encrypt", &kmsapi.EncryptRequest{KeyID: rsa, Plaintext: secretBytes("x"), EncryptionAlgorithm: kmsapi.RSAESOaepSHA256}, 1},
		{"GenerateDataKeyPair", &kmsapi.GenerateDataKeyPairRequest{KeyID: a, KeyPairSpec: "ECC_NIST_P256"}, 2},
		{"DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: a}, 2},
	}
	for i, s := range steps {
		if n := allowed(t, 2, w.calls(me, s.name, s.in)); n != s.want {
			t.Errorf("step %d: %d calls of %s went through, want %d", i, n, s.name, s.want)
		}
	}
	if n := allowed(t, 1, w.calls(me, "GenerateDataKeyPairWithoutPlaintext", &kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{KeyID: a, KeyPairSpec: "ECC_NIST_P256"})); n != 0 {
		t.Error("the two operations that make a pair do not share their rate")
	}
}

// TestThrottledCallsReachNothing makes no key, and no use of one.
func TestThrottledCallsReachNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(map[string]float64{"CreateKey": 2, "symmetric": 1}))
	key := w.createKey(&kmsapi.CreateKeyRequest{})
	w.encryptOnce(key.KeyID)
	was := w.lastUsage(key.KeyID)
	w.clock.Advance(time.Millisecond)
	if n := allowed(t, 5, w.calls(root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.KeyID, Plaintext: secretBytes("x")})); n != 0 || !used(w.lastUsage(key.KeyID), "Encrypt", was.KeyLastUsage.Timestamp.Time) {
		t.Errorf("%d went through", n)
	}
	allowed(t, 5, w.calls(root(account), "CreateKey", &kmsapi.CreateKeyRequest{}))
	if n := len(stored(t, w.cfg.Store, "key/")); n != 2 {
		t.Errorf("there are %d keys, want 2", n)
	}
	if !strings.Contains(w.audit.String(), `"errorCode":"ThrottlingException"`) {
		t.Error("a throttled call is not on record")
	}
}

func TestReplicasCountInTheirRegion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(map[string]float64{"CreateKey": 3}))
	key := w.createKey(&kmsapi.CreateKeyRequest{MultiRegion: ptr(true)}).KeyID
	must(do[kmsapi.ReplicateKeyResponse](w, root(account), "ReplicateKey", &kmsapi.ReplicateKeyRequest{KeyID: key, ReplicaRegion: "eu-west-1"}))(t)
	if n := allowed(t, 5, w.calls(in(root(account), "eu-west-1"), "CreateKey", &kmsapi.CreateKeyRequest{})); n != 1 {
		t.Errorf("%d keys could be made beside the replica, want 1", n)
	}
}

// TestNoScheduleGetsPastARate lets a caller choose when to call.
func TestNoScheduleGetsPastARate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		perSecond := float64(rapid.IntRange(1, 40).Draw(rt, "tenths")) / 10
		w := newWorldOn(t, newMemory(), slowly, limited(map[string]float64{"ListKeys": perSecond}))
		began, done := w.clock.Now(), 0
		for _, pause := range rapid.SliceOfN(rapid.IntRange(0, 3000), 1, 40).Draw(rt, "pauses in ms") {
			w.clock.Advance(time.Duration(pause) * time.Millisecond)
			done += allowed(t, 3, w.calls(root(account), "ListKeys", &kmsapi.ListKeysRequest{}))
			most := max(1, perSecond+1) + perSecond*w.clock.Now().Sub(began).Seconds() // a burst is rounded up
			if float64(done) > most+1e-6 {
				rt.Fatalf("%d calls went through, want %.2f at most", done, most)
			}
		}
		w.s.Close()
	})
}

func TestRatesDependOnTheRegion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		region, quota string
		want          float64
	}{
		{"eu-north-1", "symmetric", 10_000}, {"eu-central-1", "symmetric", 20_000}, {"us-east-1", "symmetric", 100_000},
		{"us-east-1", "RSA", 1000}, {"us-east-1", "ML_DSA", 1000}, {"us-east-1", "ECC", 1000},
		{"us-east-1", "GenerateDataKeyPair/RSA_3072", 4}, {"cn-north-1", "GenerateDataKeyPair/RSA_3072", 0.5}, {"cn-north-1", "GenerateDataKeyPair/SM2", 25},
		{"us-east-1", "GetParametersForImport", 1}, {"us-east-1", "UpdatePrimaryRegion", 5}, {"us-east-1", "GetPublicKey", 2000},
	} {
		if got := kms.RequestQuotas(tc.region)[tc.quota]; got != tc.want {
			t.Errorf("%s in %s: %v, want %v", tc.quota, tc.region, got, tc.want)
		}
	}
	for _, name := range []string{"Encrypt", "Sign", "GenerateRandom", "GenerateDataKeyPair", "by key", "by pair"} {
		if got, ok := kms.RequestQuotas("us-east-1")[name]; ok {
			t.Errorf("%s has a rate of its own: %v", name, got)
		}
	}
}

func TestIdleRatesAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, limited(nil))
	for i := range 100 {
		w.clock.Advance(time.Minute)
		must(do[kmsapi.ListKeysResponse](w, in(root(account), fmt.Sprintf("eu-west-%d", i)), "ListKeys", &kmsapi.ListKeysRequest{}))(t)
	}
	if n := w.s.CountRatePlaces(); n > 2 {
		t.Errorf("the rates of %d Regions are held", n)
	}
}

func BenchmarkRates(b *testing.B) {
	r := kms.NewRates(kms.RequestRates{Enforced: true, PerSecond: map[string]float64{"symmetric": 1e9}}, time.Now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := r.Take(account, region, "symmetric"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
