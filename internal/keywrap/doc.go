// Package keywrap is how key material travels to KMS: the wrapping keys that
// GetParametersForImport makes, the algorithms that wrap and unwrap with them, and the
// import token in which a wrapping key waits for ImportKeyMaterial.
//
//	RSAES_OAEP_SHA_1, _SHA_256          RSAES-OAEP (RFC 8017) of the material; MGF1
//	                                    with the same hash, no label
//	RSA_AES_KEY_WRAP_SHA_1, _SHA_256    RSAES-OAEP of an AES key of 16, 24 or 32 bytes ‖
//	                                    AES-KWP (RFC 5649) of the material under that
//	                                    key, as CKM_RSA_AES_KEY_WRAP of PKCS#11
//	SM2PKE                              SM2 public key encryption, in the ASN.1 of
//	                                    GM/T 0009: SEQUENCE { x, y, hash, ciphertext }
//
// Wrapping keys are not stored. The token that the caller holds between the two calls
// has the private key inside, sealed for one KMS key, so any number of tokens can be
// outstanding and none leaves anything behind. Sealed is
//
//	byte  0       version: 1
//	      1       wrapping algorithm: 1 RSAES_OAEP_SHA_1, 2 RSAES_OAEP_SHA_256,
//	              3 RSA_AES_KEY_WRAP_SHA_1, 4 RSA_AES_KEY_WRAP_SHA_256, 5 SM2PKE
//	      2       kind of wrapping key: 1 RSA_2048, 2 RSA_3072, 3 RSA_4096, 4 SM2
//	      3..10   not after: milliseconds since 1970 UTC, big-endian
//	     11..     the wrapping key, PKCS#8 DER
//
// with the purpose "import token" and the ARN of the KMS key as context.
//
// The package refuses RSAES_PKCS1_V1_5, as AWS does since 2023, and tells nothing about
// why wrapped material does not unwrap. What the material is, and whether it may be wrapped
// like this, is not its concern.
package keywrap
