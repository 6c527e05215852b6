package keyspec

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// SM2PKE is the library's, but for two mistakes that it makes with a
// probability of 1 in 256 for a plaintext of one byte, and less by that for each further one:
// where the standard tells to draw again, it goes on with another point than
// the public key, so that nobody can decrypt what comes out; and it takes a
// ciphertext whose masked plaintext is all zero for a bad one.

// scalarSize is the size of the library's one draw, in bytes.
const scalarSize = 32

var errDrawsAgain = errors.New("a second draw")

// oneDraw is a source of randomness for one draw.
type oneDraw struct{ used bool }

func (d *oneDraw) Read(p []byte) (int, error) {
	if d.used || len(p) != scalarSize {
		return 0, errDrawsAgain
	}
	d.used = true
	return rand.Read(p)
}

// encryptSM2 begins anew where the library would draw again, and where others
// that make the second mistake could not decrypt.
func encryptSM2(public *ecdsa.PublicKey, plaintext []byte) ([]byte, error) {
	for {
		ciphertext, err := sm2.EncryptASN1(new(oneDraw), public, plaintext)
		if errors.Is(err, errDrawsAgain) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if parsed, ok := parseSM2(ciphertext); ok && allZero(parsed.masked) {
			continue
		}
		return ciphertext, nil
	}
}

// decryptSM2 takes ASN.1 only: the library would take raw ciphertexts as well.
func decryptSM2(private *sm2.PrivateKey, ciphertext []byte) ([]byte, error) {
	parsed, ok := parseSM2(ciphertext)
	if !ok {
		return nil, sm2.ErrDecryption
	}
	if allZero(parsed.masked) {
		return parsed.unmask(private)
	}
	return sm2.Decrypt(private, ciphertext)
}

// sm2Ciphertext is a ciphertext of SM2PKE: a point, the hash, and the plaintext
// under a mask of its size.
type sm2Ciphertext struct {
	x, y   *big.Int
	hash   []byte
	masked []byte
}

func parseSM2(ciphertext []byte) (c sm2Ciphertext, ok bool) {
	c.x, c.y = new(big.Int), new(big.Int)
	in := cryptobyte.String(ciphertext)
	var body, hash, masked cryptobyte.String
	ok = in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() &&
		body.ReadASN1Integer(c.x) && body.ReadASN1Integer(c.y) &&
		body.ReadASN1(&hash, asn1.OCTET_STRING) && body.ReadASN1(&masked, asn1.OCTET_STRING) && body.Empty()
	c.hash, c.masked = hash, masked
	return c, ok && len(masked) > 0
}

// unmask decrypts as GB/T 32918.4 tells to.
func (c sm2Ciphertext) unmask(private *sm2.PrivateKey) ([]byte, error) {
	curve := private.Curve
	if c.x.Sign() < 0 || c.y.Sign() < 0 || c.x.BitLen() > 8*scalarSize || c.y.BitLen() > 8*scalarSize || !curve.IsOnCurve(c.x, c.y) {
		return nil, sm2.ErrDecryption
	}
	scalar := private.D.FillBytes(make([]byte, scalarSize))
	defer clear(scalar)
	x, y := curve.ScalarMult(c.x, c.y, scalar)
	shared := append(x.FillBytes(make([]byte, scalarSize)), y.FillBytes(make([]byte, scalarSize))...)
	defer clear(shared)
	plaintext := sm3.Kdf(shared, len(c.masked))
	subtle.XORBytes(plaintext, plaintext, c.masked)
	h := sm3.New()
	h.Write(shared[:scalarSize])
	h.Write(plaintext)
	h.Write(shared[scalarSize:])
	if subtle.ConstantTimeCompare(h.Sum(nil), c.hash) != 1 {
		clear(plaintext)
		return nil, sm2.ErrDecryption
	}
	return plaintext, nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
