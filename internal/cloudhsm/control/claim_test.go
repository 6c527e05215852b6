package control

import (
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
)

// TestOneDeviceIsNotTwoHSMs: the configuration names a token by its label, and again by its serial number.
func TestOneDeviceIsNotTwoHSMs(t *testing.T) {
	t.Parallel()
	for name, pin := range map[string]string{"used as it stands": "1234", "initialised by the officer": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			ref := pkcs11test.NewToken(t, "device", pin)
			token, err := pkcs11.Open(t.Context(), ref.Config(), b.log)
			must(t, err)
			info, err := token.Info(t.Context())
			must(t, err)
			must(t, token.Close())
			pool := rack.Pool{Name: "pool", AvailabilityZone: testZone}
			for _, uri := range []pkcs11.URI{
				{Token: info.Label, ModulePath: ref.URI.ModulePath},
				{Token: info.Label, Serial: info.Serial, ModulePath: ref.URI.ModulePath},
			} {
				d := rack.DeclaredToken{Config: pkcs11.Config{URI: uri, Env: ref.Env}, PIN: textOf(pin)}
				if pin == "" {
					d.SOPIN = textOf(ref.SOPIN)
				}
				pool.Tokens = append(pool.Tokens, d)
			}
			b.pools, err = rack.NewPools([]rack.Pool{pool})
			must(t, err)

			at := b.newCluster(cloudhsmapi.ClusterUninitialized)
			first := b.active(at)
			b.makeKey(at, first, "arn:a key")
			second := b.ask(at)
			b.step(at)
			if h := b.read(at).hsm(second); h.State != cloudhsmapi.HsmCreateInProgress {
				t.Errorf("the second HSM is %s", h.State)
			}
			if !b.has(at, first, "arn:a key") {
				t.Error("the key of the first HSM is gone")
			}
		})
	}
}
