package keystoretest

import (
	"bytes"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/keystore"
)

func testRoundTrips(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	for _, size := range []struct{ plaintext, aad int }{
		{1, 0}, {15, 1}, {16, 16}, {17, 100}, {32, 60}, {1024, 4096}, {4095, 8191}, {4096, 0}, {4096, 8192}, {f.MaxPlaintext, 8192},
	} {
		plaintext, aad := randomBytes(size.plaintext), randomBytes(size.aad)
		sealed := f.encrypt(t, key, plaintext, aad)
		if len(plaintext) >= 15 && bytes.Contains(sealed, plaintext) {
			t.Fatalf("the sealed bytes show a plaintext of %d bytes", len(plaintext))
		}
		f.mustDecrypt(t, key, sealed, aad, plaintext)
	}
}

func testFitsBlob(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	sealed := f.encrypt(t, key, randomBytes(4096), randomBytes(8192))
	if room := blob.MaxSize - blob.MaxHeaderSize; len(sealed) > room {
		t.Errorf("4096 bytes became %d, more than the %d that a ciphertext blob has room for", len(sealed), room)
	}
}

func testFreshness(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	plaintext, aad := randomBytes(32), randomBytes(60)
	seen := make(map[string]bool)
	for range 16 {
		sealed := string(f.encrypt(t, key, plaintext, aad))
		if seen[sealed] {
			t.Fatal("the same sealed bytes came twice")
		}
		seen[sealed] = true
	}
}

// testBuffers looks for a store that writes where it should not, or keeps
// using what it was given.
func testBuffers(t *testing.T, f *fixture) {
	key, _ := f.create(t)
	data := bytes.Clone(key.Data)
	plaintext, aad, prefix := randomBytes(100), randomBytes(60), randomBytes(20)
	wantPlaintext, wantAAD := bytes.Clone(plaintext), bytes.Clone(aad)
	for _, room := range []int{0, 1, 64, 4096} {
		dst := append(make([]byte, 0, len(prefix)+room), prefix...)
		out, err := f.store.Encrypt(f.context(t), callFor("Encrypt"), key, dst, plaintext, aad)
		if err != nil {
			t.Fatalf("Encrypt: %v", err)
		}
		if !bytes.HasPrefix(out, prefix) || !bytes.Equal(dst, prefix) {
			t.Fatalf("with room for %d bytes, what dst held is gone", room)
		}
		sealed := out[len(prefix):]
		kept := bytes.Clone(sealed)
		got, err := f.store.Decrypt(f.context(t), callFor("Decrypt"), key, sealed, aad)
		if err != nil {
			t.Fatalf("Decrypt: %v", err)
		}
		if !bytes.Equal(sealed, kept) {
			t.Fatal("Decrypt changed the sealed bytes")
		}
		clear(sealed)
		if !bytes.Equal(got, wantPlaintext) {
			t.Fatal("the plaintext shares memory with the sealed bytes")
		}
	}
	if !bytes.Equal(plaintext, wantPlaintext) || !bytes.Equal(aad, wantAAD) || !bytes.Equal(key.Data, data) {
		t.Error("an input was changed")
	}
}

var materialID = regexp.MustCompile(`^([0-9a-f]{64})?$`)

func testMaterialIDs(t *testing.T, f *fixture) {
	_, a := f.create(t)
	_, b := f.create(t)
	if !materialID.MatchString(a.ID) || !materialID.MatchString(b.ID) {
		t.Errorf("key material ids %q and %q are not 64 lower-case hexadecimal digits", a.ID, b.ID)
	}
	if a.ID != "" && a.ID == b.ID {
		t.Errorf("two keys have the key material id %q", a.ID)
	}
}

func testConcurrency(t *testing.T, f *fixture) {
	first, _ := f.create(t)
	second, _ := f.create(t)
	keys := []keystore.Key{first, second}
	ctx := f.context(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for round := range 16 {
				key := keys[(worker+round)%2]
				plaintext, aad := randomBytes(1+17*round), fmt.Appendf(nil, "%d/%d", worker, round)
				sealed, err := f.store.Encrypt(ctx, callFor("Encrypt"), key, nil, plaintext, aad)
				if err != nil {
					t.Errorf("Encrypt: %v", err)
					return
				}
				got, err := f.store.Decrypt(ctx, callFor("Decrypt"), key, sealed, aad)
				if err != nil || !bytes.Equal(got, plaintext) {
					t.Errorf("Decrypt gave other bytes or failed: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testRandom(t *testing.T, f *fixture) {
	r, ok := f.store.(keystore.Randomizer)
	if !ok {
		t.Skip("the store has no generator of its own")
	}
	for _, n := range []int{1, 2, 31, 32, 1024} {
		b, err := r.Random(f.context(t), callFor("GenerateRandom"), n)
		if err != nil || len(b) != n {
			t.Fatalf("Random(%d) gave %d bytes, error %v", n, len(b), err)
		}
	}
	a, _ := r.Random(f.context(t), callFor("GenerateRandom"), 1024)
	b, _ := r.Random(f.context(t), callFor("GenerateRandom"), 1024)
	if bytes.Equal(a, b) {
		t.Error("two draws of 1024 bytes are the same")
	}
	values := make(map[byte]bool)
	for _, v := range a {
		values[v] = true
	}
	if len(values) < 200 { // of 256; fewer comes about once in 10^20 draws
		t.Errorf("1024 random bytes have only %d different values", len(values))
	}
}
