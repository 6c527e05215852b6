package keyspec

import (
	"bytes"
	"crypto/sha3"
)

// mldsaVerifier verifies signatures of a message representative μ, as
// ML-DSA.Verify_internal does (FIPS 204, algorithm 8). Everything it touches is public,
// so it is written for reading: plain numbers modulo q, no constant time.
type mldsaVerifier struct {
	k, l      int    // rows and columns of A
	tau       int    // ±1s in the challenge
	challenge int    // bytes of its hash
	gamma1    uint32 // range of the response z: a power of two …
	zBits     int    // … of one bit less than a coefficient of z takes
	beta      uint32 // what z keeps clear of that range
	gamma2    uint32 // range of the low parts of w
	w1Bits    int    // bits of a coefficient of w₁
	omega     int    // most hints
}

var (
	verifyMLDSA44 = mldsaVerifier{4, 4, 39, 32, 1 << 17, 18, 78, (mldsaQ - 1) / 88, 6, 80}
	verifyMLDSA65 = mldsaVerifier{6, 5, 49, 48, 1 << 19, 20, 196, (mldsaQ - 1) / 32, 4, 55}
	verifyMLDSA87 = mldsaVerifier{8, 7, 60, 64, 1 << 19, 20, 120, (mldsaQ - 1) / 32, 4, 75}
)

const (
	mldsaN    = 256
	mldsaQ    = 8380417
	mldsaD    = 13 // bits that t₁ lacks
	mldsaRoot = 1753
	t1Bits    = 10
)

// poly has coefficients from 0 to q−1, of a polynomial or of its number-theoretic transform.
type poly [mldsaN]uint32

// verify takes an encoded public key of the right length.
func (v *mldsaVerifier) verify(public, mu, signature []byte) bool {
	challenge, z, hints, ok := v.parseSignature(signature)
	if !ok {
		return false
	}
	seed, t1 := public[:32], public[32:]
	c := v.sampleInBall(challenge)
	c.transform()
	for i := range z {
		z[i].transform()
	}
	h := sha3.NewSHAKE256()
	h.Write(mu)
	for row := range v.k {
		// w = A·z − c·t₁·2ᵈ, from which the hints recover what the signer hashed.
		var w poly
		for column := range v.l {
			a := expandA(seed, row, column)
			w.addProduct(&a, &z[column], 1)
		}
		t := unpack(t1[row*t1Bits*mldsaN/8:], t1Bits)
		for i := range t {
			t[i] <<= mldsaD
		}
		t.transform()
		w.addProduct(&c, &t, mldsaQ-1)
		w.transformBack()
		for i := range w {
			w[i] = v.useHint(w[i], hints[row][i])
		}
		h.Write(pack(&w, v.w1Bits))
	}
	want := make([]byte, v.challenge)
	h.Read(want)
	return bytes.Equal(want, challenge)
}

// parseSignature takes a signature apart and checks its ranges (algorithms 27 and 21).
func (v *mldsaVerifier) parseSignature(b []byte) (challenge []byte, z []poly, hints [][mldsaN]bool, ok bool) {
	zSize := v.zBits * mldsaN / 8
	if len(b) != v.challenge+v.l*zSize+v.omega+v.k {
		return nil, nil, nil, false
	}
	challenge, b = b[:v.challenge], b[v.challenge:]
	z = make([]poly, v.l)
	for i := range z {
		z[i] = unpack(b, v.zBits)
		for j, packed := range z[i] {
			// The coefficient is γ₁ − packed, and must be nearer to 0 than γ₁ − β.
			if packed <= v.beta || packed >= 2*v.gamma1-v.beta {
				return nil, nil, nil, false
			}
			z[i][j] = (mldsaQ + v.gamma1 - packed) % mldsaQ
		}
		b = b[zSize:]
	}
	hints, ok = v.parseHints(b)
	return challenge, z, hints, ok
}

// parseHints reads the positions of all hints, rising in each row, and after
// them where each row ends. There is one way only to write hints.
func (v *mldsaVerifier) parseHints(b []byte) ([][mldsaN]bool, bool) {
	hints := make([][mldsaN]bool, v.k)
	next := 0
	for row := range hints {
		first, end := next, int(b[v.omega+row])
		if end < next || end > v.omega {
			return nil, false
		}
		for ; next < end; next++ {
			if next > first && b[next] <= b[next-1] {
				return nil, false
			}
			hints[row][b[next]] = true
		}
	}
	for _, rest := range b[next:v.omega] {
		if rest != 0 {
			return nil, false
		}
	}
	return hints, true
}

// sampleInBall makes the challenge of its hash (algorithm 29).
func (v *mldsaVerifier) sampleInBall(hash []byte) (c poly) {
	h := sha3.NewSHAKE256()
	h.Write(hash)
	var signs [8]byte
	h.Read(signs[:])
	for n := range v.tau {
		i := mldsaN - v.tau + n
		j := [1]byte{}
		for h.Read(j[:]); int(j[0]) > i; h.Read(j[:]) {
		}
		c[i] = c[j[0]]
		c[j[0]] = 1
		if signs[n/8]>>(n%8)&1 == 1 {
			c[j[0]] = mldsaQ - 1
		}
	}
	return c
}

// expandA makes an entry of the matrix A, already transformed (algorithms 30 and 32).
func expandA(seed []byte, row, column int) (a poly) {
	h := sha3.NewSHAKE128()
	h.Write(seed)
	h.Write([]byte{byte(column), byte(row)})
	var block [168]byte // the rate of SHAKE128, a multiple of three
	for n := 0; n < mldsaN; {
		h.Read(block[:])
		for b := block[:]; len(b) > 0 && n < mldsaN; b = b[3:] {
			x := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16
			if x < mldsaQ {
				a[n] = x
				n++
			}
		}
	}
	return a
}

// useHint gives the high part of r, moved by one if there is a hint (algorithms 36 and 40).
func (v *mldsaVerifier) useHint(r uint32, hint bool) uint32 {
	step := 2 * v.gamma2
	parts := (mldsaQ - 1) / step
	high, low := r/step, r%step
	positive := low > 0 && low <= v.gamma2
	if low > v.gamma2 {
		high++ // low is counted from the next step down
	}
	if high == parts {
		// From the last step up to q−1 the high part is 0 and the low part is one
		// less than it would be, which is not above 0.
		high, positive = 0, false
	}
	switch {
	case !hint:
		return high
	case positive:
		return (high + 1) % parts
	default:
		return (high + parts - 1) % parts
	}
}

// unpack reads 256 numbers of so many bits each, the lowest first.
func unpack(b []byte, bits int) (p poly) {
	var buffer uint64
	have := 0
	for i := range p {
		for have < bits {
			buffer |= uint64(b[0]) << have
			b = b[1:]
			have += 8
		}
		p[i] = uint32(buffer) & (1<<bits - 1)
		buffer >>= bits
		have -= bits
	}
	return p
}

// pack undoes unpack.
func pack(p *poly, bits int) []byte {
	b := make([]byte, 0, bits*mldsaN/8)
	var buffer uint64
	have := 0
	for _, x := range p {
		buffer |= uint64(x) << have
		for have += bits; have >= 8; have -= 8 {
			b = append(b, byte(buffer))
			buffer >>= 8
		}
	}
	return b
}

func mulQ(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % mldsaQ) }

// addProduct adds a·b·factor, entry by entry.
func (p *poly) addProduct(a, b *poly, factor uint32) {
	for i := range p {
		p[i] = (p[i] + mulQ(mulQ(a[i], b[i]), factor)) % mldsaQ
	}
}

// mldsaZetas are the powers of the root in bit-reversed order.
var mldsaZetas = func() (zetas [mldsaN]uint32) {
	power := uint32(1)
	for i := range mldsaN {
		reversed := 0
		for bit := range 8 {
			reversed |= i >> bit & 1 << (7 - bit)
		}
		zetas[reversed] = power
		power = mulQ(power, mldsaRoot)
	}
	return zetas
}()

// transform is NTT (algorithm 41).
func (p *poly) transform() {
	m := 0
	for length := mldsaN / 2; length > 0; length /= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := mulQ(mldsaZetas[m], p[j+length])
				p[j+length] = (p[j] + mldsaQ - t) % mldsaQ
				p[j] = (p[j] + t) % mldsaQ
			}
		}
	}
}

// transformBack undoes transform (algorithm 42).
func (p *poly) transformBack() {
	m := mldsaN
	for length := 1; length < mldsaN; length *= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := p[j]
				p[j] = (t + p[j+length]) % mldsaQ
				p[j+length] = mulQ(mldsaZetas[m], p[j+length]+mldsaQ-t)
			}
		}
	}
	const inverse = 8347681 // of 256
	for i := range p {
		p[i] = mulQ(p[i], inverse)
	}
}
