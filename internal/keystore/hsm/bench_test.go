package hsm_test

import (
	"log/slog"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

// BenchmarkEncrypt compares the key store with the bare token, which is its floor: the same
// module, the same number of sessions, one member.
func BenchmarkEncrypt(b *testing.B) {
	r := newRig(b, 2)
	c := r.connect(b)
	key := createKey(b, c)
	plaintext, aad := make([]byte, 32), make([]byte, 64)

	token, err := pkcs11.Open(b.Context(), r.tokens[0].Config(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer token.Close()
	if err := token.Login(b.Context(), r.pw.Candidates()[0]); err != nil {
		b.Fatal(err)
	}
	found, err := token.FindKeys(b.Context(), key.ARN, []byte(key.ID))
	if err != nil || len(found) != 1 {
		b.Fatalf("%d keys, %v", len(found), err)
	}
	bare := func() error {
		_, err := token.EncryptGCM(b.Context(), found[0], plaintext, aad)
		return err
	}
	dst := make([]byte, 0, 128)
	store := func() error {
		_, err := c.Encrypt(b.Context(), call("Encrypt"), key, dst, plaintext, aad)
		return err
	}
	for _, bm := range []struct {
		name string
		do   func() error
	}{{"token", bare}, {"store", store}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bm.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bm.name+" in parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bm.do(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
