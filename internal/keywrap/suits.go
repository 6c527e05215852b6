package keywrap

import (
	"slices"

	"kastellan.dev/internal/kmsapi"
)

// Ways to wrap, by what they are good for.
var (
	byOAEP    = []kmsapi.AlgorithmSpec{kmsapi.WrapRSAESOaepSHA1, kmsapi.WrapRSAESOaepSHA256}
	byHybrid  = []kmsapi.AlgorithmSpec{kmsapi.WrapRSAAESKeyWrapSHA1, kmsapi.WrapRSAAESKeyWrapSHA256}
	byEither  = slices.Concat(byOAEP, byHybrid)
	byRSAorSM = slices.Concat(byHybrid, []kmsapi.AlgorithmSpec{kmsapi.WrapSM2PKE})
	bySM      = slices.Concat(byOAEP, []kmsapi.AlgorithmSpec{kmsapi.WrapSM2PKE})
)

// suited are the algorithms that AWS takes for each kind of key. Kinds that are
// missing cannot be imported.
var suited = map[kmsapi.KeySpec][]kmsapi.AlgorithmSpec{
	kmsapi.SymmetricDefault: byOAEP,
	kmsapi.HMAC224:          byOAEP,
	kmsapi.HMAC256:          byOAEP,
	kmsapi.HMAC384:          byOAEP,
	kmsapi.HMAC512:          byOAEP,
	kmsapi.RSA2048:          byRSAorSM,
	kmsapi.RSA3072:          byRSAorSM,
	kmsapi.RSA4096:          byRSAorSM,
	kmsapi.ECCNistP256:      byEither,
	kmsapi.ECCNistP384:      byEither,
	kmsapi.ECCNistP521:      byEither,
	kmsapi.ECCSecgP256k1:    byEither,
	kmsapi.ECCNistEdwards:   byEither,
	kmsapi.SM2:              bySM,
}

// Suits is [Allowed], and refuses in the same way what AWS does not take for the
// material of a KMS key of that kind. An ECC_NIST_P521 private key, for one, is too
// long for RSAES-OAEP under RSA_2048.
func Suits(key kmsapi.KeySpec, alg kmsapi.AlgorithmSpec, spec kmsapi.WrappingKeySpec) error {
	if err := Allowed(alg, spec); err != nil {
		return err
	}
	tooLong := key == kmsapi.ECCNistP521 && spec == kmsapi.WrappingRSA2048 && slices.Contains(byOAEP, alg)
	if tooLong || !slices.Contains(suited[key], alg) {
		return kmsapi.Errorf(kmsapi.UnsupportedOperation,
			"Key material for a KMS key of spec %s cannot be imported with the wrapping algorithm %s under a wrapping key of spec %s.",
			string(key), string(alg), string(spec))
	}
	return nil
}
