package pkcs11_test

import (
	"bytes"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

// FuzzFrames: what comes out of a child's socket is either a frame, which is
// written again as it was read, or refused.
func FuzzFrames(f *testing.F) {
	f.Add(pkcs11.Frame(7, 250, 13, 1<<32-1, []uint64{1, 1 << 63}, [][]byte{[]byte("plaintext"), nil, []byte("aad")})[4:])
	f.Add(pkcs11.Frame(0, 0, 0, 0, nil, nil)[4:])
	f.Add([]byte{0, 0, 0, 1, 2, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0, 0, 0, 1, 2, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0}) // an epoch of 33 bits
	f.Fuzz(func(t *testing.T, body []byte) {
		id, patience, code, epoch, numbers, blobs, err := pkcs11.ParseFrame(body)
		if err != nil {
			return
		}
		frame := pkcs11.Frame(id, patience, code, epoch, numbers, blobs)
		if len(frame)-4 > len(body) {
			t.Errorf("%x grows to %x", body, frame[4:])
		}
		again, p, c, e, n, b, err := pkcs11.ParseFrame(frame[4:])
		if err != nil || again != id || p != patience || c != code || e != epoch || len(n) != len(numbers) || len(b) != len(blobs) {
			t.Errorf("%x becomes %x, %v", body, frame[4:], err)
		}
		for i := range b {
			if !bytes.Equal(b[i], blobs[i]) {
				t.Errorf("blob %d becomes %x", i, b[i])
			}
		}
	})
}
