package keyspec_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

type pkcs8 struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes []asn1.RawValue `asn1:"optional,tag:0,omitempty"`
	PublicKey  asn1.BitString  `asn1:"optional,tag:1"`
}

type ecKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

func der(t testing.TB, value any) []byte {
	t.Helper()
	b, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed[T any](t testing.TB, b []byte) (value T) {
	t.Helper()
	if rest, err := asn1.Unmarshal(b, &value); err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d more bytes", err, len(rest))
	}
	return value
}

func bits(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }

func TestMaterialHasItsForm(t *testing.T) {
	t.Parallel()
	raw := map[kmsapi.KeySpec]int{
		kmsapi.SymmetricDefault: 32, kmsapi.HMAC224: 28, kmsapi.HMAC256: 32, kmsapi.HMAC384: 48, kmsapi.HMAC512: 64,
	}
	lengths := make(map[int]bool)
	for _, s := range keyspec.All() {
		material := materialOf(s)
		if want, isRaw := raw[s.Name]; isRaw {
			if len(material) != want || keyOf(t, s.Name).SPKI() != nil {
				t.Errorf("%s: %d bytes", s.Name, len(material))
			}
			if _, err := s.OpenPublic(material); kmsapi.CodeOf(err) != kmsapi.Validation {
				t.Errorf("%s has a public key: %v", s.Name, err)
			}
			continue
		}
		p := parsed[pkcs8](t, material)
		if p.Version != 0 {
			t.Errorf("%s: version %d", s.Name, p.Version)
		}
		if strings.HasPrefix(string(s.Name), "ML_KEM") {
			lengths[len(material)] = true
			if len(p.PrivateKey) != 66 || p.PrivateKey[0] != 0x80 || p.PrivateKey[1] != 64 {
				t.Errorf("%s: not the seed-only form", s.Name)
			}
		}
		again, err := s.Generate()
		if s.Name != kmsapi.RSA4096 && (err != nil || bytes.Equal(again, material)) {
			t.Errorf("%s: not fresh: %v", s.Name, err)
		}
	}
	if len(lengths) != 1 {
		t.Errorf("ML-KEM keys have different lengths: %v", lengths)
	}
}

// TestMaterialOfOneSpecOpensAsNoOther tries all pairs of specs, private and public.
func TestMaterialOfOneSpecOpensAsNoOther(t *testing.T) {
	t.Parallel()
	for _, s := range keyspec.All() {
		for _, other := range keyspec.All() {
			material := materialOf(other)
			_, err := s.Open(material)
			sameForm := s == other || !s.Asymmetric() && len(materialOf(s)) == len(material) // any bytes will do
			if (err == nil) != sameForm {
				t.Errorf("%s as %s: %v", other.Name, s.Name, err)
			}
			if err != nil {
				wantCode(t, err, kmsapi.IncorrectKeyMaterial)
			}
			_, err = s.OpenPublic(keyOf(t, other.Name).SPKI())
			if (err == nil) != (s == other && s.Asymmetric()) {
				t.Errorf("public %s as %s: %v", other.Name, s.Name, err)
			}
		}
	}
}

// TestForeignMaterial opens keys that others encode in their own way.
func TestForeignMaterial(t *testing.T) {
	t.Parallel()
	for name, c := range map[kmsapi.KeySpec]elliptic.Curve{
		kmsapi.ECCNistP256: elliptic.P256(), kmsapi.ECCNistP384: elliptic.P384(), kmsapi.ECCNistP521: elliptic.P521(),
	} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		standard, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		scalar, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		compressed := elliptic.MarshalCompressed(c, k.X, k.Y)
		p := parsed[pkcs8](t, standard)
		oid := parsed[asn1.ObjectIdentifier](t, p.Algorithm.Parameters.FullBytes)
		in := func(e ecKey) []byte { q := p; q.PrivateKey = der(t, e); return der(t, q) }
		for what, material := range map[string][]byte{
			"the standard library's":  standard,
			"without a public key":    in(ecKey{1, scalar, nil, asn1.BitString{}}),
			"with the curve inside":   in(ecKey{1, scalar, oid, asn1.BitString{}}),
			"with a compressed point": in(ecKey{1, scalar, nil, bits(compressed)}),
			"with a zero in front":    in(ecKey{1, append([]byte{0}, scalar...), nil, asn1.BitString{}}),
			"without zeros in front":  in(ecKey{1, bytes.TrimLeft(scalar, "\x00"), nil, asn1.BitString{}}),
		} {
			got, err := keyspec.Of(name).Open(material)
			if err != nil || !bytes.Equal(got.SPKI(), spki) {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	standard, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	open(t, keyspec.Of(kmsapi.ECCNistEdwards), standard)
	p := parsed[pkcs8](t, standard)
	p.Version, p.PublicKey = 1, bits(public)
	open(t, keyspec.Of(kmsapi.ECCNistEdwards), der(t, p))
	open(t, keyspec.Of(kmsapi.RSA2048), standardRSA(t))
}

// standardRSA is an RSA key as the standard library writes it.
func standardRSA(t testing.TB) []byte {
	t.Helper()
	k, err := x509.ParsePKCS8PrivateKey(materialOf(keyspec.Of(kmsapi.RSA2048)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBadMaterialOfCurves damages what must hold for keys on the five curves.
func TestBadMaterialOfCurves(t *testing.T) {
	t.Parallel()
	orders := map[kmsapi.KeySpec]string{
		kmsapi.ECCNistP256:   elliptic.P256().Params().N.Text(16),
		kmsapi.ECCNistP384:   elliptic.P384().Params().N.Text(16),
		kmsapi.ECCNistP521:   elliptic.P521().Params().N.Text(16),
		kmsapi.ECCSecgP256k1: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
		kmsapi.SM2:           "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123",
	}
	for name, order := range orders {
		s := keyspec.Of(name)
		p := parsed[pkcs8](t, materialOf(s))
		good := parsed[ecKey](t, p.PrivateKey)
		again, err := s.Generate()
		if err != nil {
			t.Fatal(err)
		}
		other := parsed[ecKey](t, parsed[pkcs8](t, again).PrivateKey)
		n, _ := new(big.Int).SetString(order, 16)
		size := len(good.PrivateKey)
		flipped := bytes.Clone(good.PublicKey.Bytes)
		flipped[len(flipped)-1] ^= 1
		compressed := append([]byte{3 ^ flipped[len(flipped)-1]&1 ^ 1}, flipped[1:1+size]...)
		bad := map[string]ecKey{
			"zero":                        {1, make([]byte, size), nil, asn1.BitString{}},
			"nothing":                     {1, nil, nil, asn1.BitString{}},
			"the order":                   {1, n.FillBytes(make([]byte, size)), nil, asn1.BitString{}},
			"all ones":                    {1, bytes.Repeat([]byte{255}, size), nil, asn1.BitString{}},
			"too long":                    {1, append([]byte{1}, good.PrivateKey...), nil, asn1.BitString{}},
			"another version":             {2, good.PrivateKey, nil, asn1.BitString{}},
			"another curve inside":        {1, good.PrivateKey, asn1.ObjectIdentifier{1, 3, 132, 0, 33}, good.PublicKey},
			"another public key":          {1, good.PrivateKey, nil, other.PublicKey},
			"a point off the curve":       {1, good.PrivateKey, nil, bits(flipped)},
			"the wrong compressed point":  {1, good.PrivateKey, nil, bits(compressed)},
			"a public key of one byte":    {1, good.PrivateKey, nil, bits([]byte{0})},
			"a public key of broken bits": {1, good.PrivateKey, nil, asn1.BitString{Bytes: []byte{128}, BitLength: 1}},
		}
		for what, e := range bad {
			q := p
			q.PrivateKey = der(t, e)
			refused(t, s, what, der(t, q))
		}
		q := p
		q.Version, q.PublicKey = 1, other.PublicKey
		refused(t, s, "another public key outside", der(t, q))
		q.PrivateKey = append(bytes.Clone(p.PrivateKey), 0)
		refused(t, s, "more inside", der(t, q))

		spki := keyOf(t, name).SPKI()
		for what, point := range map[string][]byte{
			"off the curve": flipped, "compressed": compressed, "infinity": {0}, "nothing": nil,
			"hybrid": append([]byte{6 | flipped[len(flipped)-1]&1 ^ 1}, good.PublicKey.Bytes[1:]...),
			"zeros":  append([]byte{4}, make([]byte, 2*size)...),
		} {
			info := parsed[struct {
				Algorithm pkix.AlgorithmIdentifier
				PublicKey asn1.BitString
			}](t, spki)
			info.PublicKey = bits(point)
			_, err := s.OpenPublic(der(t, info))
			if err == nil {
				t.Errorf("%s: a public key that is %s opens", name, what)
				continue
			}
			wantCode(t, err, kmsapi.Validation)
		}
	}
}

func refused(t *testing.T, s *keyspec.Spec, what string, material []byte) {
	t.Helper()
	k, err := s.Open(material)
	if err == nil || k != nil {
		t.Errorf("%s opens with %s", s.Name, what)
		return
	}
	wantCode(t, err, kmsapi.IncorrectKeyMaterial)
	if !strings.HasPrefix(err.(*kmsapi.Error).Message, "The key material does not fit key spec "+string(s.Name)+": ") {
		t.Error(err)
	}
}

type rsaKey struct {
	Version               int
	N                     *big.Int
	E                     int
	D, P, Q, DP, DQ, QInv *big.Int
}

func TestBadMaterialOfRSA(t *testing.T) {
	t.Parallel()
	s := keyspec.Of(kmsapi.RSA2048)
	p := parsed[pkcs8](t, materialOf(s))
	good := parsed[rsaKey](t, p.PrivateKey)
	pack := func(k rsaKey) []byte { q := p; q.PrivateKey = der(t, k); return der(t, q) }
	open(t, s, pack(good))

	more := func(n *big.Int) *big.Int { return new(big.Int).Add(n, big.NewInt(2)) }
	for what, change := range map[string]func(*rsaKey){
		"another modulus":    func(k *rsaKey) { k.N = more(k.N) },
		"an even modulus":    func(k *rsaKey) { k.N = new(big.Int).Add(k.N, big.NewInt(1)) },
		"a negative modulus": func(k *rsaKey) { k.N = new(big.Int).Neg(k.N) },
		"another exponent":   func(k *rsaKey) { k.E = 3 },
		"exponent 1":         func(k *rsaKey) { k.E = 1 },
		"an even exponent":   func(k *rsaKey) { k.E = 65536 },
		"another d":          func(k *rsaKey) { k.D = more(k.D) },
		"another p":          func(k *rsaKey) { k.P = more(k.P) },
		"p = 1":              func(k *rsaKey) { k.P = big.NewInt(1) },
		"p = 0":              func(k *rsaKey) { k.P = new(big.Int) },
		"another dP":         func(k *rsaKey) { k.DP = more(k.DP) },
		"another dQ":         func(k *rsaKey) { k.DQ = more(k.DQ) },
		"another inverse":    func(k *rsaKey) { k.QInv = more(k.QInv) },
		"version 2":          func(k *rsaKey) { k.Version = 2 },
	} {
		k := good
		change(&k)
		refused(t, s, what, pack(k))
	}
	refused(t, s, "factors that are not prime", pack(compositeRSA(t)))
	large := good
	large.N, large.D = new(big.Int).Lsh(good.N, 8192), new(big.Int).Lsh(good.D, 8192)
	refused(t, s, "numbers of 10240 bits", pack(large))
	q := p
	q.PrivateKey = parsed[pkcs8](t, materialOf(keyspec.Of(kmsapi.RSA3072))).PrivateKey
	refused(t, s, "3072 bits", der(t, q))
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	q = p
	q.PrivateKey = x509.MarshalPKCS1PrivateKey(small)
	refused(t, s, "1024 bits", der(t, q))
	q = p
	q.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	refused(t, s, "the identifier of PSS", der(t, q))
	q = p
	q.Algorithm.Parameters = asn1.RawValue{}
	refused(t, s, "no parameters", der(t, q))
	q = p
	q.Version = 2
	refused(t, s, "version 2 outside", der(t, q))
	refused(t, s, "PKCS #1 alone", p.PrivateKey)
	refused(t, s, "trailing bytes", append(der(t, p), 0))
	refused(t, s, "its end cut off", der(t, p)[:100])
	refused(t, s, "a megabyte", make([]byte, 1<<20))

	for what, e := range map[string]int{"1": 1, "2": 2, "0": 0, "even": 65536} {
		spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: good.N, E: e})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.OpenPublic(spki); kmsapi.CodeOf(err) != kmsapi.Validation {
			t.Errorf("public exponent %s: %v", what, err)
		}
	}
}

// compositeRSA is a key for which every equation holds that can be checked
// without knowing whether the factors are prime: the first one is a product.
func compositeRSA(t *testing.T) rsaKey {
	t.Helper()
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		a, err1 := rand.Prime(rand.Reader, 512)
		b, err2 := rand.Prime(rand.Reader, 512)
		q, err3 := rand.Prime(rand.Reader, 1024)
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		p := new(big.Int).Mul(a, b)
		n := new(big.Int).Mul(p, q)
		p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		gcd := new(big.Int).GCD(nil, nil, p1, q1)
		d := new(big.Int).ModInverse(e, new(big.Int).Div(new(big.Int).Mul(p1, q1), gcd))
		if n.BitLen() != 2048 || d == nil {
			continue
		}
		return rsaKey{0, n, 65537, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), new(big.Int).ModInverse(q, p)}
	}
}

// prime has 1024 bits. It does what rand.Prime refuses to where all must be approved.
func prime() *big.Int {
	b := make([]byte, 128)
	for {
		rand.Read(b)
		b[0] |= 0xc0
		b[len(b)-1] |= 1
		if p := new(big.Int).SetBytes(b); p.ProbablyPrime(20) {
			return p
		}
	}
}

// TestSmallExponents accepts what old programs made, unless it must be approved.
func TestSmallExponents(t *testing.T) {
	t.Parallel()
	one, e := big.NewInt(1), big.NewInt(3)
	for {
		p, q := prime(), prime()
		p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		d := new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1))
		n := new(big.Int).Mul(p, q)
		if d == nil || n.BitLen() != 2048 {
			continue
		}
		outer := parsed[pkcs8](t, materialOf(keyspec.Of(kmsapi.RSA2048)))
		outer.PrivateKey = der(t, rsaKey{0, n, 3, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), new(big.Int).ModInverse(q, p)})
		if enforced() {
			refused(t, keyspec.Of(kmsapi.RSA2048), "exponent 3", der(t, outer))
			return
		}
		k := open(t, keyspec.Of(kmsapi.RSA2048), der(t, outer))
		signature, err := k.Sign(kmsapi.RSASSAPssSHA256, kmsapi.MessageRaw, []byte("a"))
		if err != nil || k.Verify(kmsapi.RSASSAPssSHA256, "", []byte("a"), signature) != nil {
			t.Error(err)
		}
		return
	}
}

// TestBadSeeds damages the keys that are a seed.
func TestBadSeeds(t *testing.T) {
	t.Parallel()
	for _, name := range []kmsapi.KeySpec{kmsapi.ECCNistEdwards, kmsapi.MLDSA44, kmsapi.MLDSA65, kmsapi.MLDSA87, kmsapi.MLKEM512, kmsapi.MLKEM768, kmsapi.MLKEM1024} {
		s := keyspec.Of(name)
		p := parsed[pkcs8](t, materialOf(s))
		for what, change := range map[string]func(*pkcs8){
			"another tag":        func(q *pkcs8) { q.PrivateKey[0] ^= 0x84 },
			"another length":     func(q *pkcs8) { q.PrivateKey[1]-- },
			"a byte less":        func(q *pkcs8) { q.PrivateKey = q.PrivateKey[:len(q.PrivateKey)-1] },
			"a byte more":        func(q *pkcs8) { q.PrivateKey = append(q.PrivateKey, 0) },
			"nothing inside":     func(q *pkcs8) { q.PrivateKey = nil },
			"parameters":         func(q *pkcs8) { q.Algorithm.Parameters = asn1.NullRawValue },
			"another public key": func(q *pkcs8) { q.Version, q.PublicKey = 1, bits(make([]byte, 32)) },
		} {
			q := p
			q.PrivateKey = bytes.Clone(p.PrivateKey)
			change(&q)
			refused(t, s, what, der(t, q))
		}
		spki := keyOf(t, name).SPKI()
		info := parsed[struct {
			Algorithm pkix.AlgorithmIdentifier
			PublicKey asn1.BitString
		}](t, spki)
		info.PublicKey = bits(info.PublicKey.Bytes[1:])
		if _, err := s.OpenPublic(der(t, info)); kmsapi.CodeOf(err) != kmsapi.Validation {
			t.Errorf("%s: a short public key: %v", name, err)
		}
	}
}

// TestOpenKeepsNothing clears what a key was opened from.
func TestOpenKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, s := range keyspec.All() {
		material := materialOf(s)
		k := open(t, s, material)
		spki := k.SPKI()
		clear(material)
		if s.HMAC() {
			alg := s.MacAlgorithms(kmsapi.GenerateVerifyMac)[0]
			mac, err := keyOf(t, s.Name).MAC(alg, nil)
			if err != nil || k.VerifyMAC(alg, nil, mac) != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		if !s.Asymmetric() {
			continue
		}
		public := openPublic(t, s, spki)
		clear(spki)
		if !bytes.Equal(public.SPKI(), k.SPKI()) || bytes.Equal(public.SPKI(), spki) {
			t.Errorf("%s: the public key is shared with the caller", s.Name)
		}
		if s.Allows(kmsapi.SignVerify) {
			alg := s.SigningAlgorithms(kmsapi.SignVerify)[0]
			signature, err := k.Sign(alg, "", []byte("a"))
			if err != nil || public.Verify(alg, "", []byte("a"), signature) != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
	}
}
