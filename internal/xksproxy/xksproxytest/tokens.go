package xksproxytest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy"
)

// HealthKey is the label of the key for health checks in the tokens of TokenRing.
const HealthKey = "xks-health"

// TokenRing is a ring of SoftHSM2 tokens. The references lead to one and the
// same token in different ways (each member has a process and faults of its own), so that
// all members have the same keys: those of KeyIDs, the further labels and
// HealthKey. The package's TestMain must call pkcs11.WorkerMain.
func TokenRing(t testing.TB, refs []pkcs11test.TokenRef, labels ...string) xksproxy.RingConfig {
	t.Helper()
	ring := xksproxy.RingConfig{Name: "hsm", Timeout: 10 * time.Second, Tokens: &xksproxy.TokenRing{HealthKey: HealthKey}}
	for i, ref := range refs {
		ring.Tokens.Members = append(ring.Tokens.Members, xksproxy.TokenMember{
			Name: fmt.Sprintf("hsm-%d", i+1), PKCS11: ref.Config(), PIN: secret.NewText(ref.PIN),
		})
	}
	fill(t, ring.Tokens.Members[0], append(append([]string{HealthKey}, KeyIDs...), labels...))
	return ring
}

// fill makes the keys, through the first member.
func fill(t testing.TB, m xksproxy.TokenMember, labels []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	token, err := pkcs11.Open(ctx, m.PKCS11, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if err := token.Login(ctx, m.PIN); err != nil {
		t.Fatal(err)
	}
	for _, label := range labels {
		if _, err := token.GenerateKey(ctx, pkcs11.Template{Label: label, Token: true, Encrypt: true}); err != nil {
			t.Fatal(err)
		}
	}
}
