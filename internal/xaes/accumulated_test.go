package xaes_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"kastellan.dev/internal/xaes"
)

// reference seals with a nonce that the caller chooses, which the package has
// no way to do: CMAC as SP 800-108 derives keys, counter mode, and GHASH bit by
// bit as SP 800-38D writes it down. It shares nothing with the package but AES.
func reference(key, nonce, plaintext, aad []byte) []byte {
	block := mustAES(key)
	var derived []byte
	for counter := byte(1); counter <= 2; counter++ {
		derived = append(derived, cmacOfBlock(block, append([]byte{0, counter, 'X', 0}, nonce[:12]...))...)
	}
	block = mustAES(derived)
	counter := append(bytes.Clone(nonce[12:]), 0, 0, 0, 1)
	mask := make([]byte, 16)
	block.Encrypt(mask, counter)
	counter[15] = 2
	out := bytes.Clone(plaintext)
	cipher.NewCTR(block, counter).XORKeyStream(out, out)

	var h [16]byte
	block.Encrypt(h[:], h[:])
	lengths := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 8*uint64(len(aad))), 8*uint64(len(out)))
	tag := ghash(h, padded(aad), padded(out), lengths)
	for i := range tag {
		tag[i] ^= mask[i]
	}
	return append(out, tag[:]...)
}

func mustAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return block
}

// cmacOfBlock is AES-CMAC of exactly one whole block.
func cmacOfBlock(block cipher.Block, message []byte) []byte {
	zero := make([]byte, 16)
	block.Encrypt(zero, zero)
	high, low := binary.BigEndian.Uint64(zero[:8]), binary.BigEndian.Uint64(zero[8:])
	k1 := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, high<<1|low>>63), low<<1^(high>>63)*0x87)
	for i := range k1 {
		k1[i] ^= message[i]
	}
	block.Encrypt(k1, k1)
	return k1
}

func padded(b []byte) []byte { return append(bytes.Clone(b), make([]byte, -len(b)&15)...) }

func ghash(h [16]byte, parts ...[]byte) (sum [16]byte) {
	hHigh, hLow := binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])
	var high, low uint64
	for _, part := range parts {
		for ; len(part) > 0; part = part[16:] {
			high, low = multiply(high^binary.BigEndian.Uint64(part), low^binary.BigEndian.Uint64(part[8:]), hHigh, hLow)
		}
	}
	binary.BigEndian.PutUint64(sum[:8], high)
	binary.BigEndian.PutUint64(sum[8:], low)
	return sum
}

// multiply is the product in GCM's field, whose first bit is the highest.
func multiply(xHigh, xLow, vHigh, vLow uint64) (high, low uint64) {
	for i := range 128 {
		bit := xHigh >> 63
		if i >= 64 {
			bit = xLow >> 63
			xLow <<= 1
		} else {
			xHigh <<= 1
		}
		high, low = high^-bit&vHigh, low^-bit&vLow
		vHigh, vLow = vHigh>>1^-(vLow&1)&(0xe1<<56), vHigh<<63|vLow>>1
	}
	return high, low
}

// The specification publishes a hash of the ciphertexts of ten thousand random
// messages. The reference is right if it makes them, and the package if it opens
// what the reference made.
func TestAccumulatedVectors(t *testing.T) {
	t.Parallel()
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	stream, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = stream.Read(b) // never fails
		return b
	}
	for i := range 10_000 {
		key, nonce := read(xaes.KeySize), read(24)
		plaintext := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		sealed := reference(key, nonce, plaintext, aad)
		_, _ = sum.Write(sealed)

		sealed = append(nonce, sealed...)
		got, err := newAEAD(t, key).Open(nil, sealed, aad)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("message %d opens to %x, %v, want %x", i, got, err, plaintext)
		}
		sealed[i%len(sealed)] ^= 1 << (i % 8)
		mustNotOpen(t, "a bit flipped", key, sealed, aad)
	}
	if got := hex.EncodeToString(read32(sum)); got != want {
		t.Errorf("the hash of all ciphertexts is %s, want %s", got, want)
	}
}

func read32(sum *sha3.SHAKE) []byte {
	b := make([]byte, 32)
	_, _ = sum.Read(b)
	return b
}
