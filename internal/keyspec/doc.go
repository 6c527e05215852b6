// Package keyspec is the one table of all key specs of KMS: what keys of a spec
// may be used for, by which algorithms, where, and how their material is made,
// read and used. Whoever has a *Spec needs no switch on its name.
//
// A spec belongs to a family, and a family is a type: symmetricFamily,
// hmacFamily, rsaFamily, nistFamily, secgFamily, edwardsFamily, sm2Family,
// mldsaFamily and mlkemFamily. It knows how to make and to open material; what
// an opened key can do follows from the interfaces that its halves have, and
// [Key] asks for one only if the table has an algorithm for it.
//
// # Key material
//
//	SYMMETRIC_DEFAULT   32 random bytes; they encrypt elsewhere, in package blob's formats
//	HMAC_n              as many random bytes as the hash has
//	all others          PKCS #8, DER; ML-DSA and ML-KEM as a seed alone (RFC 9881, RFC 9935)
//
// Material may come from outside, so [Spec.Open] believes nothing: lengths,
// curves, moduli and exponents must be those of the spec, a public key inside must
// be that of the private key, and an RSA key must prove that it signs. RSA
// exponents from 3 to 2³¹−1 are accepted, keys of more than two primes are not.
//
// # Where the cryptography comes from
//
// From Go's standard library, hence its FIPS 140-3 module, wherever it has it.
// What it lacks comes from the libraries of the module file: SM2 and ML-KEM-512,
// secp256k1, ML-DSA. Two things are written out here:
//
//   - Signing with secp256k1. The library multiplies points in a time that depends
//     on the scalar, so only scalars that are random by themselves are given to
//     it: secrets are split in two (secp256k1.go).
//   - Verifying an ML-DSA signature of a message representative μ, which the
//     library signs but does not verify (mldsaverify.go). It handles public data only.
//
// # FIPS 140-3
//
// With GODEBUG=fips140=only these are refused with UnsupportedOperationException,
// because they are not approved or not in the module that Go 1.26 has:
//
//   - key specs ECC_SECG_P256K1, SM2, ML_KEM_512, ML_DSA_44, ML_DSA_65 and ML_DSA_87
//   - encryption algorithm RSAES_OAEP_SHA_1
//
// and RSA keys that are imported with an exponent below 65537, or with primes of
// different lengths, are refused as incorrect key material.
package keyspec
