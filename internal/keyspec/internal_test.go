package keyspec

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"pgregory.net/rapid"

	"kastellan.dev/internal/kmsapi"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEd25519phOfRFC8032 signs the RFC's message, which is too short for the API.
func TestEd25519phOfRFC8032(t *testing.T) {
	t.Parallel()
	seed := unhex(t, "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
	halves, err := edwardsFamily{}.open(marshalPKCS8(idEd25519, withTag(seed, tagOctets)))
	if err != nil {
		t.Fatal(err)
	}
	f := signing[kmsapi.Ed25519phSHA512][kmsapi.MessageDigest]
	prepared := f.prepare([]byte("abc"))
	signature, err := halves.private.(crypto.Signer).Sign(rand.Reader, prepared, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"+
		"31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406")
	if !bytes.Equal(signature, want) || !halves.public.(verifier).verify(prepared, want, f.opts) {
		t.Errorf("signature %x", signature)
	}
}

// TestSecp256k1IsTheLibrarys compares what splits secrets with what does not.
func TestSecp256k1IsTheLibrarys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar"))
		digest := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")
		var s secp256k1.ModNScalar
		s.SetBytes(&b)
		if s.IsZero() {
			s.SetInt(1)
		}
		k := secp256k1.NewPrivateKey(&s)
		if !pointOf(&s).IsEqual(k.PubKey()) {
			t.Fatal("another point")
		}
		if inverse := new(secp256k1.ModNScalar).InverseValNonConst(&s); !inverseOf(&s).Equals(inverse) {
			t.Fatal("another inverse")
		}
		d := s.Bytes()
		nonce := secp256k1.NonceRFC6979(d[:], digest, nil, nil, 0)
		ours := (&secgPrivate{s, k.PubKey()}).signWith(nonce, digest)
		if !ours.IsEqual(ecdsa.Sign(k, digest)) {
			t.Fatal("another signature")
		}
	})
}

// TestHighSVerifies takes the signature of the larger s too, as AWS makes them.
func TestHighSVerifies(t *testing.T) {
	t.Parallel()
	d := randomScalar()
	digest := make([]byte, 32)
	p := &secgPrivate{*d, pointOf(d)}
	signature, err := p.Sign(rand.Reader, digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	low, err := ecdsa.ParseDERSignature(signature)
	if err != nil {
		t.Fatal(err)
	}
	r, s := low.R(), low.S()
	if s.IsOverHalfOrder() {
		t.Error("s is large")
	}
	one, other := unsigned(r), unsigned(*s.Negate())
	high := append([]byte{2, byte(len(one))}, one...)
	high = append(append(high, 2, byte(len(other))), other...)
	high = append([]byte{0x30, byte(len(high))}, high...)
	if !(secgPublic{p.public}).verify(digest, high, nil) {
		t.Error("the signature of the larger s does not verify")
	}
}

// unsigned is the content of a DER INTEGER.
func unsigned(s secp256k1.ModNScalar) []byte {
	b := s.Bytes()
	digits := bytes.TrimLeft(b[:], "\x00")
	if digits[0] >= 0x80 {
		return append([]byte{0}, digits...)
	}
	return digits
}

// TestTransform holds the number-theoretic transform to multiplication of polynomials modulo X²⁵⁶+1.
func TestTransform(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		coefficient := rapid.Uint32Range(0, mldsaQ-1)
		a := poly(rapid.SliceOfN(coefficient, mldsaN, mldsaN).Draw(t, "a"))
		b := poly(rapid.SliceOfN(coefficient, mldsaN, mldsaN).Draw(t, "b"))
		var want poly
		for i := range a {
			for j := range b {
				x := mulQ(a[i], b[j])
				if i+j >= mldsaN {
					x = (mldsaQ - x) % mldsaQ
				}
				want[(i+j)%mldsaN] = (want[(i+j)%mldsaN] + x) % mldsaQ
			}
		}
		a.transform()
		b.transform()
		var got poly
		got.addProduct(&a, &b, 1)
		got.transformBack()
		if got != want {
			t.Fatal("another product")
		}
		if back := unpack(pack(&want, 23), 23); back != want {
			t.Fatal("packing loses something")
		}
	})
}

// TestUseHint holds hints to the definition: the high part is of the number that lies nearest.
func TestUseHint(t *testing.T) {
	t.Parallel()
	for _, v := range []mldsaVerifier{verifyMLDSA44, verifyMLDSA65} {
		step, parts := int(2*v.gamma2), (mldsaQ-1)/int(2*v.gamma2)
		for r := 0; r < mldsaQ; r += 97 {
			low := r % step
			if low > step/2 {
				low -= step
			}
			high := (r - low) / step
			if r-low == mldsaQ-1 {
				high, low = 0, low-1
			}
			if got := v.useHint(uint32(r), false); int(got) != high {
				t.Fatalf("%d: %d, want %d", r, got, high)
			}
			moved := high + 1
			if low <= 0 {
				moved = high - 1
			}
			if got := v.useHint(uint32(r), true); int(got) != (moved+parts)%parts {
				t.Fatalf("%d with a hint: %d, want %d", r, got, (moved+parts)%parts)
			}
		}
	}
}
