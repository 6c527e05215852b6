package keywrap_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"kastellan.dev/internal/aeadtest"
	"kastellan.dev/internal/keywrap"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Section 6 of RFC 5649, and vectors of NIST's validation of KWP-AE.
func TestPublishedVectorsOfKWP(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]struct{ kek, plaintext, wrapped string }{
		"RFC 5649, 20 bytes": {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738",
			"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		"RFC 5649, 7 bytes":   {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
		"AES-128, 1 byte":     {"6decf10a1caf8e3b80c7a4be8c9c84e8", "49", "01a7d657fc4a5b216f261cca4d052c2b"},
		"AES-128, 8 bytes":    {"a8e06da625a65b25cf5030826830b661", "43acff293120dd5d", "b6f967616dd8d772e9fea295a456dba7"},
		"AES-128, 9 bytes":    {"7865e20f3c21659ab4690b629cdf3cc4", "bd6843d420378dc896", "41eca956d4aa047eb5cf4efe659661e74db6f8c564e23500"},
		"AES-128, 31 bytes":   {"be96dc195ec034d616486ed70e97fe83", "85b5437b6335ebba7635903a4493d12a77d9357a9e0dbc013456d85f1d3201", "974769b3a7b4d5d32985f87fddf9990631e5610fbfb278387b58b1f48e05c77d2fb7575c5169eb0e"},
		"AES-192, 1 byte":     {"9ca11078baebc1597a68ce2fe3fc79a201626575252b8860", "76", "866bc0ae30e290bb20a0dab31a6e7165"},
		"AES-256, 1 byte":     {"95da2700ca6fd9a52554ee2a8df1386f5b94a1a60ed8a4aef60a8d61ab5f225a", "d1", "06ba7ae6f3248cfdcf267507fa001bc4"},
		"AES-128, 1 byte, AD": {"49319c331231cd6bf74c2f70b07fcc5c", "e4", "9c211f32f8b341f32b052fed5f31a387"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kek, plaintext, wrapped := unhex(t, v.kek), unhex(t, v.plaintext), unhex(t, v.wrapped)
			if got, err := keywrap.WrapKWP(kek, plaintext); err != nil || !bytes.Equal(got, wrapped) {
				t.Errorf("wraps to %x, %v", got, err)
			}
			if got, err := keywrap.UnwrapKWP(kek, wrapped); err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("unwraps to %x, %v", got, err)
			}
		})
	}
}

// What NIST's validation of KWP-AD expects to fail.
func TestPublishedVectorsThatDoNotUnwrap(t *testing.T) {
	t.Parallel()
	for kek, wrapped := range map[string]string{
		"30be7ff51227f0eef786cb7be2482510":                 "7f61a0a8b2fe7803f2947d233ec3a255",
		"94c8dae772a43b5e00468e0947699b239dfe30ab5f90e2f6": "239c6bceee3583fe7825011e02f01cc0",
	} {
		if got, err := keywrap.UnwrapKWP(unhex(t, kek), unhex(t, wrapped)); err == nil {
			t.Errorf("%s unwraps to %x", wrapped, got)
		}
	}
}

func TestKWPOfEverySize(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kek := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kek")[:rapid.SampledFrom([]int{16, 24, 32}).Draw(t, "size of the key")]
		plaintext := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "plaintext")
		before := bytes.Clone(plaintext)
		wrapped, err := keywrap.WrapKWP(kek, plaintext)
		if err != nil || len(wrapped) != (len(plaintext)+15)/8*8 {
			t.Fatalf("%d bytes, %v", len(wrapped), err)
		}
		sealed := bytes.Clone(wrapped)
		got, err := keywrap.UnwrapKWP(kek, wrapped)
		if err != nil || !bytes.Equal(got, plaintext) || !bytes.Equal(before, plaintext) || !bytes.Equal(sealed, wrapped) {
			t.Fatalf("%x comes back as %x, %v", plaintext, got, err)
		}
	})
}

func TestEveryChangeOfKWPIsRefused(t *testing.T) {
	t.Parallel()
	kek := random(32)
	for _, size := range []int{1, 7, 8, 9, 16, 20, 32} {
		wrapped, err := keywrap.WrapKWP(kek, random(size))
		if err != nil {
			t.Fatal(err)
		}
		for change, mutant := range aeadtest.Mutants(wrapped, 8) {
			if got, err := keywrap.UnwrapKWP(kek, mutant); err == nil {
				t.Errorf("%d bytes, %s: unwraps to %x", size, change, got)
			}
		}
	}
	if got, err := keywrap.UnwrapKWP(kek[:31], random(16)); err == nil {
		t.Errorf("under a key of 31 bytes: %x", got)
	}
}

// Whoever has the key can encipher anything: what is not as the RFC says must be refused.
func TestKWPThatWasPutTogetherWrong(t *testing.T) {
	t.Parallel()
	kek := random(24)
	enciphered := func(magic, size uint32, padded []byte) []byte {
		b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, magic), size)
		b = append(b, padded...)
		keywrap.Encipher(kek, b)
		return b
	}
	const magic = 0xa65959a6
	for _, room := range []uint32{8, 16, 24, 40} {
		zeros := make([]byte, room)
		for size := room - 7; size <= room; size++ {
			if got, err := keywrap.UnwrapKWP(kek, enciphered(magic, size, zeros)); err != nil || len(got) != int(size) {
				t.Fatalf("%d of %d bytes: %x, %v", size, room, got, err)
			}
			for at := size; at < room; at++ {
				padded := bytes.Clone(zeros)
				padded[at] = 0x80
				if _, err := keywrap.UnwrapKWP(kek, enciphered(magic, size, padded)); err == nil {
					t.Errorf("%d of %d bytes: padding is taken that is set at %d", size, room, at)
				}
			}
		}
		for _, size := range []uint32{0, room - 8, room - 9, room + 1, room + 8, 1<<31 + room, 1<<32 - 1, 1<<32 - 8} {
			if got, err := keywrap.UnwrapKWP(kek, enciphered(magic, size, zeros)); err == nil {
				t.Errorf("a length of %d in %d bytes is taken: %x", size, room, got)
			}
		}
		for _, wrong := range []uint32{0, magic ^ 1, magic ^ 1<<31, 0xa6a6a6a6} {
			if got, err := keywrap.UnwrapKWP(kek, enciphered(wrong, room, zeros)); err == nil {
				t.Errorf("%#x at the start is taken: %x", wrong, got)
			}
		}
	}
}
