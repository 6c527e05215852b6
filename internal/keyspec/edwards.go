package keyspec

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/asn1"
)

// edwardsFamily is Ed25519, keys in the form of RFC 8410.
type edwardsFamily struct{}

func (edwardsFamily) group() Group { return GroupECC }

var idEd25519 = algorithm(asn1.ObjectIdentifier{1, 3, 101, 112}, nil)

func (edwardsFamily) generate() ([]byte, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	inner := withTag(k.Seed(), tagOctets)
	defer clear(inner)
	return marshalPKCS8(idEd25519, inner), nil
}

func (edwardsFamily) open(material []byte) (opened, error) {
	inner, given, err := parsePKCS8(material, idEd25519)
	if err != nil {
		return opened{}, err
	}
	defer clear(inner)
	seed, err := seedIn(inner, tagOctets, ed25519.SeedSize)
	if err != nil {
		return opened{}, wrongLength
	}
	k := ed25519.NewKeyFromSeed(seed)
	public := k.Public().(ed25519.PublicKey)
	if len(given) > 0 && !bytes.Equal(given, public) {
		return opened{}, wrongPublic
	}
	return opened{marshalSPKI(idEd25519, public), edwardsPublic(public), k}, nil
}

// openPublic takes any 32 bytes: those that are no point of the curve verify nothing.
func (edwardsFamily) openPublic(spki []byte) (opened, error) {
	public, err := parseSPKI(spki, idEd25519)
	if err != nil {
		return opened{}, err
	}
	if len(public) != ed25519.PublicKeySize {
		return opened{}, wrongLength
	}
	return opened{spki: marshalSPKI(idEd25519, public), public: edwardsPublic(public)}, nil
}

type edwardsPublic ed25519.PublicKey

// verify is of the prepared message: for Ed25519ph that is its SHA-512.
func (p edwardsPublic) verify(prepared, signature []byte, opts crypto.SignerOpts) bool {
	return ed25519.VerifyWithOptions(ed25519.PublicKey(p), prepared, signature, opts.(*ed25519.Options)) == nil
}
