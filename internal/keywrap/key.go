package keywrap

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// rsaBits are the sizes of the RSA wrapping keys.
var rsaBits = map[kmsapi.WrappingKeySpec]int{
	kmsapi.WrappingRSA2048: 2048,
	kmsapi.WrappingRSA3072: 3072,
	kmsapi.WrappingRSA4096: 4096,
}

// PrivateKey is a wrapping key: whoever has its public half can wrap material, and the
// PrivateKey unwraps it. It may be used from many goroutines at once; the zero value
// unwraps nothing. It prints and logs as [secret.Redacted].
type PrivateKey struct {
	spec    kmsapi.WrappingKeySpec
	private crypto.PrivateKey // *rsa.PrivateKey or *sm2.PrivateKey
	public  []byte            // SPKI DER
}

// Generate makes a wrapping key. RSA_4096 takes about a second of a processor, and
// now and then several: [Pool] has keys ready. Kinds that do not exist are a
// ValidationException.
func Generate(spec kmsapi.WrappingKeySpec) (*PrivateKey, error) {
	if spec == kmsapi.WrappingSM2 {
		private, err := sm2.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making an SM2 wrapping key: %w", err)
		}
		return newPrivateKey(spec, private, &private.PublicKey)
	}
	bits := rsaBits[spec]
	if bits == 0 {
		return nil, unknownSpec(spec)
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making an RSA wrapping key: %w", err)
	}
	return newPrivateKey(spec, private, &private.PublicKey)
}

func unknownSpec(spec kmsapi.WrappingKeySpec) error {
	return kmsapi.Errorf(kmsapi.Validation, "There is no wrapping key spec %q.", string(spec))
}

func newPrivateKey(spec kmsapi.WrappingKeySpec, private crypto.PrivateKey, public crypto.PublicKey) (*PrivateKey, error) {
	if specOf(public) != spec {
		return nil, errors.New("the wrapping key is of another kind")
	}
	spki, err := smx509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public wrapping key: %w", err)
	}
	return &PrivateKey{spec: spec, private: private, public: spki}, nil
}

// specOf tells the kind of wrapping key, "" if it is none.
func specOf(public crypto.PublicKey) kmsapi.WrappingKeySpec {
	switch public := public.(type) {
	case *rsa.PublicKey:
		for spec, bits := range rsaBits {
			if public.N.BitLen() == bits {
				return spec
			}
		}
	case *ecdsa.PublicKey:
		if public.Curve == sm2.P256() {
			return kmsapi.WrappingSM2
		}
	}
	return ""
}

// errParse is all that is told of bytes that are no wrapping key: they may hold parts of one.
var errParse = errors.New("the bytes are no wrapping key of that kind in PKCS#8")

// Parse reads what [PrivateKey.Marshal] wrote. It refuses a key of another kind than
// spec. It does not keep pkcs8.
func Parse(spec kmsapi.WrappingKeySpec, pkcs8 []byte) (*PrivateKey, error) {
	parse := x509.ParsePKCS8PrivateKey
	if spec == kmsapi.WrappingSM2 {
		parse = smx509.ParsePKCS8PrivateKey
	}
	parsed, err := parse(pkcs8)
	if err != nil || !isWhole(pkcs8) {
		return nil, errParse
	}
	var public crypto.PublicKey
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		public = &private.PublicKey
	case *sm2.PrivateKey:
		public = &private.PublicKey
	}
	key, err := newPrivateKey(spec, parsed, public)
	if err != nil {
		return nil, errParse
	}
	return key, nil
}

// isWhole tells whether nothing follows a DER value, which parsers do not mind.
func isWhole(der []byte) bool {
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &value)
	return err == nil && len(rest) == 0
}

// Marshal gives the key in PKCS#8 DER, in clear: at most 2,400 bytes, to be sealed
// and cleared.
func (k *PrivateKey) Marshal() ([]byte, error) {
	if k.private == nil {
		return nil, errors.New("there is no wrapping key to encode")
	}
	pkcs8, err := smx509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, errors.New("encoding a wrapping key failed") // the cause may show parts of it
	}
	return pkcs8, nil
}

// Spec is the kind of key.
func (k *PrivateKey) Spec() kmsapi.WrappingKeySpec { return k.spec }

// PublicKey gives the public half as SubjectPublicKeyInfo in DER.
func (k *PrivateKey) PublicKey() []byte { return bytes.Clone(k.public) }

// Format implements fmt.Formatter: every verb prints [secret.Redacted].
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(secret.Redacted)) }

// LogValue implements slog.LogValuer.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }
