package nitrotest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// ES384 is the protected header of a document: {1: -35}.
var ES384 = []byte{0xa1, 0x01, 0x38, 0x22}

// Enclave makes attestation documents. Its fields may be changed before it does.
type Enclave struct {
	ModuleID string
	PCRs     map[int][]byte
	UserData []byte // nil for null
	Nonce    []byte // nil for null

	Key    *rsa.PrivateKey     // what is encrypted for the enclave is for this key
	Signer *Authority          // the key of the hypervisor
	Bundle []*x509.Certificate // from the root down to the issuer of Signer
}

// NewEnclave makes an enclave under a root, with an RSA key of 2048 bits and
// 16 registers of which the first three and the fifth are not zero.
func NewEnclave(t testing.TB, root *Authority, now time.Time) *Enclave {
	t.Helper()
	region := root.Issue(t, CA("region.test.nitro-enclaves", now), elliptic.P384())
	instance := region.Issue(t, CA("i-0123456789abcdef0.test.nitro-enclaves", now), elliptic.P384())
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("making the enclave's key: %v", err)
	}
	e := &Enclave{
		ModuleID: "i-0123456789abcdef0-enc0123456789abcdef",
		PCRs:     make(map[int][]byte),
		Key:      key,
		Signer:   instance.Issue(t, Leaf("enc0123456789abcdef.test.nitro-enclaves", now), elliptic.P384()),
		Bundle:   []*x509.Certificate{root.Certificate, region.Certificate, instance.Certificate},
	}
	for i := range 16 {
		value := make([]byte, sha512.Size384)
		if i < 3 || i == 4 {
			value = bytes.Repeat([]byte{0xa0 + byte(i)}, sha512.Size384)
		}
		e.PCRs[i] = value
	}
	return e
}

// Member is a key of a payload and its value.
type Member struct{ Key, Value any }

// Payload is the payload of a document: a map of indefinite length, as the
// hypervisor writes it, with whatever keys in whatever order.
type Payload []Member

// With gives a payload with another value for a key, or one key more.
func (p Payload) With(key string, value any) Payload {
	out := slices.Clone(p)
	for i := range out {
		if out[i].Key == key {
			out[i].Value = value
			return out
		}
	}
	return append(out, Member{key, value})
}

// Without gives a payload that lacks a key.
func (p Payload) Without(key string) Payload {
	return slices.DeleteFunc(slices.Clone(p), func(m Member) bool { return m.Key == key })
}

// Encode encodes the payload.
func (p Payload) Encode(t testing.TB) []byte {
	t.Helper()
	const openMap, breakCode = 0xbf, 0xff
	out := []byte{openMap}
	for _, m := range p {
		out = slices.Concat(out, encode(t, m.Key), encode(t, m.Value))
	}
	return append(out, breakCode)
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	out, err := cbor.Marshal(value)
	if err != nil {
		t.Fatalf("encoding CBOR: %v", err)
	}
	return out
}

// Payload is what a true document says at a time.
func (e *Enclave) Payload(t testing.TB, made time.Time) Payload {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&e.Key.PublicKey)
	if err != nil {
		t.Fatalf("encoding the enclave's key: %v", err)
	}
	var bundle [][]byte
	for _, c := range e.Bundle {
		bundle = append(bundle, c.Raw)
	}
	return Payload{
		{"module_id", e.ModuleID},
		{"digest", "SHA384"},
		{"timestamp", uint64(made.UnixMilli())},
		{"pcrs", e.PCRs},
		{"certificate", e.Signer.Certificate.Raw},
		{"cabundle", bundle},
		{"public_key", spki},
		{"user_data", e.UserData},
		{"nonce", e.Nonce},
	}
}

// Document makes a true document at a time, without a CBOR tag.
func (e *Enclave) Document(t testing.TB, made time.Time) []byte {
	t.Helper()
	return e.Sign(t, e.Payload(t, made).Encode(t))
}

// Sign makes a document of any payload.
func (e *Enclave) Sign(t testing.TB, payload []byte) []byte {
	t.Helper()
	return encode(t, []any{ES384, map[int]int{}, payload, e.Signature(t, ES384, payload)})
}

// Signature signs a payload under a protected header with the hypervisor's key:
// r and s in as many bytes as the curve's order has.
func (e *Enclave) Signature(t testing.TB, protected, payload []byte) []byte {
	t.Helper()
	digest := sha512.Sum384(encode(t, []any{"Signature1", protected, []byte{}, payload}))
	r, s, err := ecdsa.Sign(rand.Reader, e.Signer.Key, digest[:])
	if err != nil {
		t.Fatalf("signing the document: %v", err)
	}
	size := (e.Signer.Key.Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out
}
