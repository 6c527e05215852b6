package keyspec

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
)

// mldsaFamily is ML-DSA (FIPS 204) with an empty context, keys in the form of RFC 9881.
type mldsaFamily struct {
	parameters mldsa.Parameters
	algorithm  pkix.AlgorithmIdentifier
	verifier   *mldsaVerifier
}

func (mldsaFamily) group() Group { return GroupMLDSA }

var (
	oidMLDSA44 = nistAlgorithm(3, 17)
	oidMLDSA65 = nistAlgorithm(3, 18)
	oidMLDSA87 = nistAlgorithm(3, 19)
)

// nistAlgorithm is an identifier without parameters in NIST's tree of algorithms.
func nistAlgorithm(branch, leaf int) pkix.AlgorithmIdentifier {
	return algorithm(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, branch, leaf}, nil)
}

func (f mldsaFamily) generate() ([]byte, error) {
	k, err := mldsa.GenerateKey(f.parameters)
	if err != nil {
		return nil, err
	}
	inner := withTag(k.Bytes(), tagSeed)
	defer clear(inner)
	return marshalPKCS8(f.algorithm, inner), nil
}

func (f mldsaFamily) open(material []byte) (opened, error) {
	inner, given, err := parsePKCS8(material, f.algorithm)
	if err != nil {
		return opened{}, err
	}
	defer clear(inner)
	seed, err := seedIn(inner, tagSeed, mldsa.PrivateKeySize)
	if err != nil {
		return opened{}, err
	}
	k, err := mldsa.NewPrivateKey(f.parameters, seed)
	if err != nil {
		return opened{}, wrongSeed
	}
	public := k.PublicKey()
	encoded := public.Bytes()
	if len(given) > 0 && !bytes.Equal(given, encoded) {
		return opened{}, wrongPublic
	}
	return opened{marshalSPKI(f.algorithm, encoded), mldsaPublic{public, f.verifier}, k}, nil
}

func (f mldsaFamily) openPublic(spki []byte) (opened, error) {
	encoded, err := parseSPKI(spki, f.algorithm)
	if err != nil {
		return opened{}, err
	}
	k, err := mldsa.NewPublicKey(f.parameters, encoded)
	if err != nil {
		return opened{}, wrongLength
	}
	return opened{spki: marshalSPKI(f.algorithm, encoded), public: mldsaPublic{k, f.verifier}}, nil
}

type mldsaPublic struct {
	k        *mldsa.PublicKey
	verifier *mldsaVerifier
}

func (p mldsaPublic) verify(prepared, signature []byte, opts crypto.SignerOpts) bool {
	if opts == crypto.SignerOpts(mldsacrypto.MLDSAMu) {
		return p.verifier.verify(p.k.Bytes(), prepared, signature)
	}
	return mldsa.Verify(p.k, prepared, signature, opts.(*mldsa.Options)) == nil
}
