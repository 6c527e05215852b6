package rack_test

import (
	"context"
	"log/slog"
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
)

// What a gate costs, beside the very token that it stands before.
func BenchmarkEncrypt(b *testing.B) {
	var bare pkcs11.Token
	r := rack.New(rack.Config{Open: func(ctx context.Context, cfg pkcs11.Config, log *slog.Logger) (token pkcs11.Token, err error) {
		bare, err = pkcs11.Open(ctx, cfg, log)
		return bare, err
	}})
	gate := newGate(b, r, newHSM(b), "kms", newDoor(b))
	logIn(b, gate, "kmsuser:right")
	for _, c := range []struct {
		name  string
		token pkcs11.Token
	}{{"token", bare}, {"gate", gate}} {
		key := generate(b, c.token, pkcs11.Template{Label: "bench", Encrypt: true})
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := encrypt(c.token, key); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
