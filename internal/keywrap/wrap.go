package keywrap

import (
	"crypto"
	"crypto/fips140"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/emmansun/gmsm/smx509"

	"kastellan.dev/internal/kmsapi"
)

// MaxSize is the most that the KMS API carries of wrapped material, in bytes.
const MaxSize = 6144

// ErrUnwrap is all that is told of wrapped material that does not unwrap, whatever is
// wrong with it: an InvalidCiphertextException.
var ErrUnwrap error = kmsapi.Errorf(kmsapi.InvalidCiphertext,
	"The encrypted key material could not be decrypted with the private key that belongs to the import token.")

// algorithm is one way to wrap. The keys that it is given are of a kind that goesWith
// has admitted.
type algorithm interface {
	goesWith(spec kmsapi.WrappingKeySpec) bool
	approved() bool // by FIPS 140-3
	wrap(public crypto.PublicKey, material []byte) ([]byte, error)
	unwrap(private crypto.PrivateKey, wrapped []byte) ([]byte, error)
}

var algorithms = map[kmsapi.AlgorithmSpec]algorithm{
	kmsapi.WrapRSAESOaepSHA1:       oaep{crypto.SHA1},
	kmsapi.WrapRSAESOaepSHA256:     oaep{crypto.SHA256},
	kmsapi.WrapRSAAESKeyWrapSHA1:   rsaAES{oaep{crypto.SHA1}},
	kmsapi.WrapRSAAESKeyWrapSHA256: rsaAES{oaep{crypto.SHA256}},
	kmsapi.WrapSM2PKE:              sm2PKE{},
}

// Allowed refuses algorithms that there are not any more (RSAES_PKCS1_V1_5), those
// that do not go with the kind of wrapping key, and SHA-1 and SM2 where all cryptography
// must be approved by FIPS 140-3, as UnsupportedOperationException. AWS's
// exception for such pairs is not known; this is the one of the model's list for
// GetParametersForImport that speaks of parameters.
func Allowed(alg kmsapi.AlgorithmSpec, spec kmsapi.WrappingKeySpec) error {
	a := algorithms[alg]
	if a == nil {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "The wrapping algorithm %s is not supported.", string(alg))
	}
	if !a.goesWith(spec) {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "The wrapping algorithm %s cannot be used with a wrapping key of spec %s.", string(alg), string(spec))
	}
	if fips140.Enforced() && !a.approved() {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation, "The wrapping algorithm %s is not available where only FIPS 140-3 approved cryptography is allowed.", string(alg))
	}
	return nil
}

// Unwrap gives the material, which is the caller's to clear. Whatever fails is [ErrUnwrap],
// and nothing tells what it was. The material has whatever size it had when it was
// wrapped, none included.
func (k *PrivateKey) Unwrap(alg kmsapi.AlgorithmSpec, wrapped []byte) ([]byte, error) {
	if Allowed(alg, k.spec) != nil || len(wrapped) > MaxSize {
		return nil, ErrUnwrap
	}
	material, err := algorithms[alg].unwrap(k.private, wrapped)
	if err != nil {
		return nil, ErrUnwrap
	}
	return material, nil
}

// Wrap is the other side, that of whoever imports: it wraps material under a public key
// in SubjectPublicKeyInfo DER, for EncryptedKeyMaterial. It refuses what [Allowed] refuses,
// material that is empty or too long for the algorithm (RSAES-OAEP takes 190 bytes
// with SHA-256 under RSA_2048), and more than [MaxSize] bytes of wrapped material.
func Wrap(alg kmsapi.AlgorithmSpec, publicKeySPKI, material []byte) ([]byte, error) {
	public, err := parsePublic(publicKeySPKI)
	if err != nil {
		return nil, err
	}
	if err := Allowed(alg, specOf(public)); err != nil {
		return nil, err
	}
	if len(material) == 0 {
		return nil, errors.New("wrapping key material: there is none")
	}
	wrapped, err := algorithms[alg].wrap(public, material)
	if err != nil {
		return nil, fmt.Errorf("wrapping key material: %w", err)
	}
	if len(wrapped) > MaxSize {
		return nil, fmt.Errorf("wrapping key material: it has %d bytes when wrapped, more than %d", len(wrapped), MaxSize)
	}
	return wrapped, nil
}

func parsePublic(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil { // the standard library does not know the curve of SM2
		public, err = smx509.ParsePKIXPublicKey(spki)
	}
	if err != nil || specOf(public) == "" {
		return nil, errors.New("wrapping key material: the public key is no wrapping key of KMS")
	}
	return public, nil
}
