package hsm_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

// BenchmarkThroughput has 64 callers encrypt 32 bytes in clusters of 1, 2 and 4 HSMs, beside what one of
// their modules does in a tight loop of as many sessions as a member has. "software" is SoftHSM2 as it
// is, whose members compute on the cores of this machine, so that they share one floor. "hardware" has each encryption take 2 ms
// more in the module, as one in a device does, while others go on: there members add up.
func BenchmarkThroughput(b *testing.B) {
	for _, kind := range []string{"software", "hardware"} {
		b.Run(kind, func(b *testing.B) {
			tokens, faults := pkcs11test.NewTokens(b, 4), pkcs11test.NewFaults(b)
			if kind == "hardware" {
				faults.Set(b, "C_Encrypt delay=2")
				for i := range tokens {
					tokens[i] = faults.Break(b, tokens[i])
				}
			}
			// With another password the members that are left out would be lost.
			r := rigOn(b, tokens, func(r *rig) { r.cluster().KeepPassword = true })
			c := r.connect(b)
			polltest.Until(b, "all members serve", allHealthy(c))
			key := createKey(b, c)
			closeConnection(c)
			b.Run("module", func(b *testing.B) { tightLoop(b, r.tokens[0], r.pw.Candidates()[0].Reveal(), key.ARN) })
			for _, n := range []int{1, 2, 4} {
				b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) { encryptWith(b, r.connectTo(b, n), key) })
			}
		})
	}
}

const sessions = 16

// tightLoop encrypts through the bare binding, in this process.
func tightLoop(b *testing.B, ref pkcs11test.TokenRef, pin, label string) {
	for _, entry := range ref.Env {
		name, value, _ := strings.Cut(entry, "=")
		b.Setenv(name, value)
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := p11.New(ref.URI.ModulePath)
	defer ctx.Destroy()
	must(ctx.Initialize())
	defer func() { must(ctx.Finalize()) }()
	slots, err := ctx.GetSlotList(true)
	must(err)
	var open []p11.SessionHandle
	for range sessions {
		session, err := ctx.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(err)
		open = append(open, session)
	}
	must(ctx.Login(open[0], p11.CKU_USER, pin))
	must(ctx.FindObjectsInit(open[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, label)}))
	found, _, err := ctx.FindObjects(open[0], 1)
	must(err)
	must(ctx.FindObjectsFinal(open[0]))
	share(b, sessions, func(caller int) error {
		params := p11.NewGCMParams(make([]byte, 12), nil, 128)
		defer params.Free()
		if err := ctx.EncryptInit(open[caller], []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, found[0]); err != nil {
			return err
		}
		_, err := ctx.Encrypt(open[caller], make([]byte, 32))
		return err
	})
}

func encryptWith(b *testing.B, c *hsm.Connection, key keystore.Key) {
	plaintext, aad := make([]byte, 32), make([]byte, 64)
	share(b, 64, func(int) error {
		_, err := c.Encrypt(b.Context(), call("Encrypt"), key, nil, plaintext, aad)
		return err
	})
}

// share divides b.N calls among callers.
func share(b *testing.B, callers int, do func(caller int) error) {
	b.ResetTimer()
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := caller; i < b.N; i += callers {
				if err := do(caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// connectTo connects to the first n members alone.
func (r *rig) connectTo(b *testing.B, n int) *hsm.Connection {
	b.Helper()
	decl := r.decl
	cluster := decl.Clusters[0]
	cluster.Members = cluster.Members[:n]
	decl.Clusters = append(decl.Clusters[:0:0], cluster)
	if err := r.declared.Replace(decl); err != nil {
		b.Fatal(err)
	}
	c := r.connect(b)
	polltest.Until(b, "all members serve", allHealthy(c))
	return c
}
