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
	for name, keep := range map[string]func(d *rack.DeclaredToken, ref pkcs11test.TokenRef){
		"used as it stands":          func(d *rack.DeclaredToken, ref pkcs11test.TokenRef) { d.PIN = textOf(ref.PIN) },
		"initialised by the officer": func(d *rack.DeclaredToken, ref pkcs11test.TokenRef) { d.SOPIN = textOf(ref.SOPIN) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			ref := pkcs11test.NewTokens(t, 1)[0]
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
				d := rack.DeclaredToken{Config: pkcs11.Config{URI: uri, Env: ref.Env}}
				keep(&d, ref)
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
