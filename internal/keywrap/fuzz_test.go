package keywrap_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
)

// Nobody can unwrap what was not wrapped: a finding is material, another error, or a panic.
func FuzzUnwrap(f *testing.F) {
	algorithms := wordsOf[kmsapi.AlgorithmSpec](kmsapi.AlgorithmSpec("").Values())
	tokens := make(map[kmsapi.AlgorithmSpec]*keywrap.Token)
	known := make(map[string]bool)
	for _, g := range goldens(f) {
		token, err := keywrap.OpenToken(plainSealer{}, g.Token, g.KeyARN, time.UnixMilli(g.NotAfterMillis))
		if err != nil {
			f.Fatal(err)
		}
		tokens[g.Algorithm] = token
		for i, alg := range algorithms {
			if alg == g.Algorithm {
				f.Add(uint8(i), g.Wrapped)
				f.Add(uint8(i), g.Wrapped[:len(g.Wrapped)-1])
			}
		}
		known[string(g.Wrapped)] = true
	}
	f.Add(uint8(0), []byte(nil))
	f.Fuzz(func(t *testing.T, which uint8, wrapped []byte) {
		alg := algorithms[int(which)%len(algorithms)]
		token := tokens[alg]
		if token == nil {
			token = &keywrap.Token{Key: tokens["RSAES_OAEP_SHA_1"].Key}
		}
		before := bytes.Clone(wrapped)
		material, err := token.Key.Unwrap(alg, wrapped)
		if !bytes.Equal(before, wrapped) {
			t.Error("Unwrap changes its input")
		}
		if known[string(wrapped)] && err == nil {
			return
		}
		if err != keywrap.ErrUnwrap || material != nil {
			t.Errorf("%s: %x, %v", alg, material, err)
		}
	})
}

// The bytes behind AES key wrap: what unwraps, wraps to the same again.
func FuzzKWP(f *testing.F) {
	kek := make([]byte, 32)
	for _, size := range []int{1, 8, 9, 32} {
		wrapped, err := keywrap.WrapKWP(kek, bytes.Repeat([]byte{7}, size))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wrapped)
	}
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		plaintext, err := keywrap.UnwrapKWP(kek, wrapped)
		if err != nil {
			return
		}
		if again, err := keywrap.WrapKWP(kek, plaintext); err != nil || !bytes.Equal(again, wrapped) {
			t.Errorf("%x unwraps to %x, which wraps to %x, %v", wrapped, plaintext, again, err)
		}
	})
}

// What is sealed in a token, right or wrong: what opens is a token that can be sealed
// again and is the same, and everything else has one of two codes.
func FuzzToken(f *testing.F) {
	for _, g := range goldens(f) {
		plaintext, err := plainSealer{}.Open("import token", g.KeyARN, g.Token)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plaintext)
		f.Add(plaintext[:11])
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		sealed, err := plainSealer{}.Seal("import token", arn, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		token, err := keywrap.OpenToken(plainSealer{}, sealed, arn, noon)
		if err != nil {
			if code := kmsapi.CodeOf(err); token != nil || code != kmsapi.InvalidImportToken && code != kmsapi.ExpiredImportToken {
				t.Errorf("%v, %v", token, err)
			}
			return
		}
		again, err := keywrap.OpenToken(plainSealer{}, sealToken(t, plainSealer{}, *token), arn, noon)
		if err != nil || again.Algorithm != token.Algorithm || !again.NotAfter.Equal(token.NotAfter) || !bytes.Equal(again.Key.PublicKey(), token.Key.PublicKey()) {
			t.Errorf("%v comes back as %v, %v", token, again, err)
		}
	})
}

// Tokens as callers send them: only what was sealed opens.
func FuzzSealedToken(f *testing.F) {
	g := goldens(f)[0]
	f.Add(g.Token)
	f.Add(g.Token[:40])
	f.Fuzz(func(t *testing.T, sealed []byte) {
		_, err := keywrap.OpenToken(plainSealer{}, sealed, g.KeyARN, time.UnixMilli(g.NotAfterMillis))
		var answer *kmsapi.Error
		if bytes.Equal(sealed, g.Token) != (err == nil) || err != nil && !errors.As(err, &answer) {
			t.Error(err)
		}
	})
}
