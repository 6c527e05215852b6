package keyspec

import (
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"

	"filippo.io/mldsa"

	"kastellan.dev/internal/kmsapi"
)

// Algorithms of several specs, each list in the order of its enumeration.
var (
	oaep = []kmsapi.EncryptionAlgorithmSpec{kmsapi.RSAESOaepSHA1, kmsapi.RSAESOaepSHA256}

	rsassa = []kmsapi.SigningAlgorithmSpec{
		kmsapi.RSASSAPssSHA256, kmsapi.RSASSAPssSHA384, kmsapi.RSASSAPssSHA512,
		kmsapi.RSASSAPkcs1SHA256, kmsapi.RSASSAPkcs1SHA384, kmsapi.RSASSAPkcs1SHA512,
	}

	eddsa = []kmsapi.SigningAlgorithmSpec{kmsapi.Ed25519SHA512, kmsapi.Ed25519phSHA512}
)

// Uses of several specs.
var (
	rsaUses   = []use{encrypts(oaep...), signs(rsassa...)}
	kemUses   = []use{{usage: kmsapi.EncapsulateDecapsulate, encapsulation: []kmsapi.EncapsulationAlgorithmSpec{kmsapi.MLKEM}}}
	mldsaUses = []use{signs(kmsapi.MLDSAShake256)}

	agrees = use{usage: kmsapi.KeyAgreement, agreement: []kmsapi.KeyAgreementAlgorithmSpec{kmsapi.ECDH}}
)

func encrypts(by ...kmsapi.EncryptionAlgorithmSpec) use {
	return use{usage: kmsapi.EncryptDecrypt, encryption: by}
}

func signs(by ...kmsapi.SigningAlgorithmSpec) use {
	return use{usage: kmsapi.SignVerify, signing: by}
}

func authenticates(by kmsapi.MacAlgorithmSpec) []use {
	return []use{{usage: kmsapi.GenerateVerifyMac, mac: []kmsapi.MacAlgorithmSpec{by}}}
}

// Keys that material may be wrapped under.
var (
	anyRSA   = []kmsapi.WrappingKeySpec{kmsapi.WrappingRSA2048, kmsapi.WrappingRSA3072, kmsapi.WrappingRSA4096}
	largeRSA = []kmsapi.WrappingKeySpec{kmsapi.WrappingRSA3072, kmsapi.WrappingRSA4096}
	anySM2   = []kmsapi.WrappingKeySpec{kmsapi.WrappingSM2}
)

func under(alg kmsapi.AlgorithmSpec, keys []kmsapi.WrappingKeySpec) wrapping {
	return wrapping{algorithm: alg, keys: keys}
}

// How material may be wrapped. What was once possible with RSAES_PKCS1_V1_5 is in no list.
var (
	wrapsSymmetric = []wrapping{under(kmsapi.WrapRSAESOaepSHA1, anyRSA), under(kmsapi.WrapRSAESOaepSHA256, anyRSA)}
	wrapsKeyWrap   = []wrapping{under(kmsapi.WrapRSAAESKeyWrapSHA1, anyRSA), under(kmsapi.WrapRSAAESKeyWrapSHA256, anyRSA)}
	wrapsSM2PKE    = []wrapping{{kmsapi.WrapSM2PKE, anySM2, chinaOnly}}

	wrapsRSA = append(wrapsKeyWrap[:2:2], wrapsSM2PKE...)
	wrapsECC = append(wrapsKeyWrap[:2:2], wrapsSymmetric...)
	wrapsSM2 = append(wrapsSymmetric[:2:2], wrapsSM2PKE...)
	// A private key of P-521 is longer than what OAEP has room for under RSA_2048.
	wrapsP521 = append(wrapsKeyWrap[:2:2], under(kmsapi.WrapRSAESOaepSHA1, largeRSA), under(kmsapi.WrapRSAESOaepSHA256, largeRSA))
)

// table is every key spec, in the order of the API.
var table = []*Spec{
	{Name: kmsapi.SymmetricDefault, family: symmetricFamily{}, uses: []use{encrypts(kmsapi.AlgorithmSymmetricDefault)},
		wraps: wrapsSymmetric, approved: true},

	{Name: kmsapi.HMAC224, family: hmacFamily{crypto.SHA224}, uses: authenticates(kmsapi.HMACSHA224), wraps: wrapsSymmetric, approved: true},
	{Name: kmsapi.HMAC256, family: hmacFamily{crypto.SHA256}, uses: authenticates(kmsapi.HMACSHA256), wraps: wrapsSymmetric, approved: true},
	{Name: kmsapi.HMAC384, family: hmacFamily{crypto.SHA384}, uses: authenticates(kmsapi.HMACSHA384), wraps: wrapsSymmetric, approved: true},
	{Name: kmsapi.HMAC512, family: hmacFamily{crypto.SHA512}, uses: authenticates(kmsapi.HMACSHA512), wraps: wrapsSymmetric, approved: true},

	{Name: kmsapi.RSA2048, family: rsaFamily{bits: 2048}, uses: rsaUses, wraps: wrapsRSA, pair: true, approved: true},
	{Name: kmsapi.RSA3072, family: rsaFamily{bits: 3072}, uses: rsaUses, wraps: wrapsRSA, pair: true, approved: true},
	{Name: kmsapi.RSA4096, family: rsaFamily{bits: 4096}, uses: rsaUses, wraps: wrapsRSA, pair: true, approved: true},

	{Name: kmsapi.ECCNistP256, family: nistFamily{p256, elliptic.P256(), ecdh.P256()},
		uses: []use{signs(kmsapi.ECDSASHA256), agrees}, wraps: wrapsECC, pair: true, approved: true},
	{Name: kmsapi.ECCNistP384, family: nistFamily{p384, elliptic.P384(), ecdh.P384()},
		uses: []use{signs(kmsapi.ECDSASHA384), agrees}, wraps: wrapsECC, pair: true, approved: true},
	{Name: kmsapi.ECCNistP521, family: nistFamily{p521, elliptic.P521(), ecdh.P521()},
		uses: []use{signs(kmsapi.ECDSASHA512), agrees}, wraps: wrapsP521, pair: true, approved: true},
	{Name: kmsapi.ECCSecgP256k1, family: secgFamily{p256k1}, uses: []use{signs(kmsapi.ECDSASHA256)}, wraps: wrapsECC, pair: true},
	{Name: kmsapi.ECCNistEdwards, family: edwardsFamily{}, uses: []use{signs(eddsa...)}, wraps: wrapsECC, pair: true, approved: true},

	{Name: kmsapi.SM2, family: sm2Family{sm2p256v1}, uses: []use{encrypts(kmsapi.SM2PKE), signs(kmsapi.SM2DSA), agrees},
		wraps: wrapsSM2, place: chinaOnly, pair: true},

	{Name: kmsapi.MLDSA44, family: mldsaFamily{mldsa.MLDSA44(), oidMLDSA44, &verifyMLDSA44}, uses: mldsaUses},
	{Name: kmsapi.MLDSA65, family: mldsaFamily{mldsa.MLDSA65(), oidMLDSA65, &verifyMLDSA65}, uses: mldsaUses},
	{Name: kmsapi.MLDSA87, family: mldsaFamily{mldsa.MLDSA87(), oidMLDSA87, &verifyMLDSA87}, uses: mldsaUses},

	{Name: kmsapi.MLKEM512, family: mlkemFamily{oidMLKEM512, mlkem512{}}, uses: kemUses, place: notChina, pair: true},
	{Name: kmsapi.MLKEM768, family: mlkemFamily{oidMLKEM768, mlkem768{}}, uses: kemUses, place: notChina, pair: true, approved: true},
	{Name: kmsapi.MLKEM1024, family: mlkemFamily{oidMLKEM1024, mlkem1024{}}, uses: kemUses, place: notChina, pair: true, approved: true},
}

// byName finds a row.
var byName = func() map[kmsapi.KeySpec]*Spec {
	rows := make(map[kmsapi.KeySpec]*Spec, len(table))
	for _, s := range table {
		rows[s.Name] = s
	}
	return rows
}()
