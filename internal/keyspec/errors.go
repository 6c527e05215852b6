package keyspec

import (
	"errors"

	"kastellan.dev/internal/kmsapi"
)

// misfit is why material or a public key is not of a spec. The texts are shown
// to callers and end in logs, so they are constants: parsers of the standard library
// tell of the bytes that they meet, and those may be secret.
type misfit string

// Error implements error.
func (m misfit) Error() string { return string(m) }

const (
	notPKCS8      misfit = "it is not the DER of a PKCS #8 private key"
	notSPKI       misfit = "it is not the DER of a SubjectPublicKeyInfo"
	otherKind     misfit = "it is another kind of key, or on another curve"
	wrongLength   misfit = "it has the wrong length"
	wrongScalar   misfit = "the private key is not in the range of the curve"
	wrongPoint    misfit = "the public key is not an uncompressed point of the curve"
	wrongPublic   misfit = "its public key belongs to another private key"
	wrongRSA      misfit = "it is not a consistent RSA key of two primes"
	wrongModulus  misfit = "the modulus has the wrong size"
	wrongSeed     misfit = "the private key is not in the seed-only form"
	wrongEncoding misfit = "the public key is not well encoded"
	noPublic      misfit = "keys of this spec have no public key"
)

// errElsewhere says that a key of SYMMETRIC_DEFAULT was asked to encrypt here.
// It is not for callers of KMS: no request leads to it.
var errElsewhere = errors.New("keyspec: symmetric keys do not encrypt here")

// incompatible refuses an algorithm that the spec does not have.
func incompatible[A ~string](alg A, s *Spec) error {
	return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", alg, s.Name)
}

// unapproved refuses what Go's FIPS 140-3 module does not have.
func unapproved[N ~string](what string, name N) error {
	return kmsapi.Errorf(kmsapi.UnsupportedOperation, "%s %s is not available where only FIPS 140-3 approved cryptography is allowed.", what, name)
}

// invalidCiphertext is what AWS answers to every ciphertext that does not open: a code without a text.
func invalidCiphertext() error { return &kmsapi.Error{Code: kmsapi.InvalidCiphertext} }
