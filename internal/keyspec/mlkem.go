package keyspec

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/x509/pkix"

	gmsm "github.com/emmansun/gmsm/mlkem"
)

// mlkemFamily is ML-KEM (FIPS 203), keys in the form of RFC 9935.
type mlkemFamily struct {
	algorithm pkix.AlgorithmIdentifier
	keys      mlkemKeys
}

func (mlkemFamily) group() Group { return GroupMLKEM }

// mlkemKeys makes the keys of one parameter set.
type mlkemKeys interface {
	fromSeed(seed []byte) (crypto.Decapsulator, error)
	fromPublic(encoded []byte) (crypto.Encapsulator, error)
}

var (
	oidMLKEM512  = nistAlgorithm(4, 1)
	oidMLKEM768  = nistAlgorithm(4, 2)
	oidMLKEM1024 = nistAlgorithm(4, 3)
)

func (f mlkemFamily) generate() ([]byte, error) {
	inner := withTag(randomBytes(mlkem.SeedSize), tagSeed)
	defer clear(inner)
	if _, err := f.keys.fromSeed(inner[2:]); err != nil {
		return nil, err // the FIPS 140-3 module tests the pair
	}
	return marshalPKCS8(f.algorithm, inner), nil
}

func (f mlkemFamily) open(material []byte) (opened, error) {
	inner, given, err := parsePKCS8(material, f.algorithm)
	if err != nil {
		return opened{}, err
	}
	defer clear(inner)
	seed, err := seedIn(inner, tagSeed, mlkem.SeedSize)
	if err != nil {
		return opened{}, err
	}
	k, err := f.keys.fromSeed(seed)
	if err != nil {
		return opened{}, wrongSeed
	}
	public := k.Encapsulator()
	encoded := public.Bytes()
	if len(given) > 0 && !bytes.Equal(given, encoded) {
		return opened{}, wrongPublic
	}
	return opened{marshalSPKI(f.algorithm, encoded), public, k}, nil
}

func (f mlkemFamily) openPublic(spki []byte) (opened, error) {
	encoded, err := parseSPKI(spki, f.algorithm)
	if err != nil {
		return opened{}, err
	}
	k, err := f.keys.fromPublic(encoded)
	if err != nil {
		return opened{}, wrongEncoding
	}
	return opened{spki: marshalSPKI(f.algorithm, encoded), public: k}, nil
}

type mlkem768 struct{}

func (mlkem768) fromSeed(seed []byte) (crypto.Decapsulator, error) {
	return mlkem.NewDecapsulationKey768(seed)
}

func (mlkem768) fromPublic(encoded []byte) (crypto.Encapsulator, error) {
	return mlkem.NewEncapsulationKey768(encoded)
}

type mlkem1024 struct{}

func (mlkem1024) fromSeed(seed []byte) (crypto.Decapsulator, error) {
	return mlkem.NewDecapsulationKey1024(seed)
}

func (mlkem1024) fromPublic(encoded []byte) (crypto.Encapsulator, error) {
	return mlkem.NewEncapsulationKey1024(encoded)
}

// mlkem512 is what the standard library leaves out.
type mlkem512 struct{}

func (mlkem512) fromSeed(seed []byte) (crypto.Decapsulator, error) {
	k, err := gmsm.NewDecapsulationKeyFromSeed512(seed)
	if err != nil {
		return nil, err
	}
	return decapsulator512{k}, nil
}

func (mlkem512) fromPublic(encoded []byte) (crypto.Encapsulator, error) {
	k, err := gmsm.NewEncapsulationKey512(encoded)
	if err != nil {
		return nil, err
	}
	return encapsulator512{k}, nil
}

type decapsulator512 struct{ *gmsm.DecapsulationKey512 }

// Encapsulator implements crypto.Decapsulator.
func (d decapsulator512) Encapsulator() crypto.Encapsulator {
	return encapsulator512{d.EncapsulationKey()}
}

type encapsulator512 struct{ *gmsm.EncapsulationKey512 }

// Encapsulate implements crypto.Encapsulator.
func (e encapsulator512) Encapsulate() (shared, ciphertext []byte) {
	shared, ciphertext, err := e.EncapsulationKey512.Encapsulate(rand.Reader)
	if err != nil {
		panic("keyspec: " + err.Error()) // rand.Reader does not fail
	}
	return shared, ciphertext
}
