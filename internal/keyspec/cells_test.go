package keyspec_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// sizes are the lengths of messages that every cell is tried with.
var sizes = []int{1, 28, 31, 32, 33, 48, 63, 64, 65, 4096}

// TestEveryCell tries every spec with every algorithm of the API and every type
// and size of messages: what is legal works, with the public half alone as well,
// and what is not is refused with the right code.
func TestEveryCell(t *testing.T) {
	t.Parallel()
	for _, s := range available() {
		t.Run(string(s.Name), func(t *testing.T) {
			t.Parallel()
			k := open(t, s, materialOf(s))
			var public keyspec.PublicKey = k
			if s.Asymmetric() {
				public = openPublic(t, s, k.SPKI())
				if !bytes.Equal(public.SPKI(), k.SPKI()) || public.Spec() != s || k.Spec() != s {
					t.Error("the public half is another one")
				}
			}
			for _, alg := range kmsapi.SigningAlgorithmSpec("").Values() {
				for _, as := range append(kmsapi.MessageType("").Values(), "", "OTHER") {
					signs(t, k, public, kmsapi.SigningAlgorithmSpec(alg), kmsapi.MessageType(as))
				}
			}
			for _, alg := range kmsapi.EncryptionAlgorithmSpec("").Values() {
				encrypts(t, k, public, kmsapi.EncryptionAlgorithmSpec(alg))
			}
			for _, alg := range kmsapi.MacAlgorithmSpec("").Values() {
				makesMAC(t, k, kmsapi.MacAlgorithmSpec(alg))
			}
			agrees(t, k)
			encapsulates(t, k, public)
		})
	}
}

// refusal is the code that a cell must be refused with, "" if it is legal.
func refusal(s *keyspec.Spec, alg, as string, size int) kmsapi.Code {
	if !does(s, alg) {
		return kmsapi.InvalidKeyUsage
	}
	need, taken := map[string]int{"": 0, "RAW": 0}, true
	switch {
	case alg == "ML_DSA_SHAKE_256":
		need["EXTERNAL_MU"] = 64
	case alg == "ED25519_PH_SHA_512":
		need = map[string]int{"DIGEST": 64}
	case alg == "SM2DSA", strings.HasSuffix(alg, "_256"):
		need["DIGEST"] = 32
	case strings.HasSuffix(alg, "_384"):
		need["DIGEST"] = 48
	case alg != "ED25519_SHA_512":
		need["DIGEST"] = 64
	}
	length, taken := need[as]
	if !taken || length != 0 && length != size {
		return kmsapi.Validation
	}
	return ""
}

func signs(t *testing.T, k keyspec.Key, public keyspec.PublicKey, alg kmsapi.SigningAlgorithmSpec, as kmsapi.MessageType) {
	for _, size := range sizes {
		message := bytes.Repeat([]byte{byte(size)}, size)
		where := fmt.Sprintf("%s %s %d", alg, as, size)
		want := refusal(k.Spec(), string(alg), string(as), size)
		signature, err := k.Sign(alg, as, message)
		if kmsapi.CodeOf(err) != want {
			t.Errorf("%s: %v, want %q", where, err, want)
			continue
		}
		if want != "" {
			if err := public.Verify(alg, as, message, []byte{0}); kmsapi.CodeOf(err) != want {
				t.Errorf("verifying %s: %v, want %q", where, err, want)
			}
			continue
		}
		if err := k.Verify(alg, as, message, signature); err != nil {
			t.Errorf("%s does not verify: %v", where, err)
		}
		if err := public.Verify(alg, as, message, signature); err != nil {
			t.Errorf("%s does not verify with the public half: %v", where, err)
		}
		message[size/2] ^= 4
		wantError(t, public.Verify(alg, as, message, signature), kmsapi.KMSInvalidSignature, "")
		message[size/2] ^= 4
		signature[len(signature)/2] ^= 4
		wantError(t, public.Verify(alg, as, message, signature), kmsapi.KMSInvalidSignature, "")
		wantError(t, public.Verify(alg, as, message, nil), kmsapi.KMSInvalidSignature, "")
	}
}

func encrypts(t *testing.T, k keyspec.Key, public keyspec.PublicKey, alg kmsapi.EncryptionAlgorithmSpec) {
	s := k.Spec()
	if !does(s, string(alg)) {
		text := fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", alg, s.Name)
		_, err := public.Encrypt(alg, []byte("a"))
		wantError(t, err, kmsapi.InvalidKeyUsage, text)
		_, err = k.Decrypt(alg, []byte("a"))
		wantError(t, err, kmsapi.InvalidKeyUsage, text)
		return
	}
	if s.Symmetric() {
		_, err := public.Encrypt(alg, []byte("a"))
		wantCode(t, err, kmsapi.KMSInternal)
		_, err = k.Decrypt(alg, []byte("a"))
		wantCode(t, err, kmsapi.KMSInternal)
		return
	}
	if enforced() && alg == kmsapi.RSAESOaepSHA1 {
		_, err := public.Encrypt(alg, []byte("a"))
		wantCode(t, err, kmsapi.UnsupportedOperation)
		_, err = k.Decrypt(alg, []byte("a"))
		wantCode(t, err, kmsapi.UnsupportedOperation)
		return
	}
	limit := map[string]int{
		"RSA_2048 RSAES_OAEP_SHA_1": 214, "RSA_3072 RSAES_OAEP_SHA_1": 342, "RSA_4096 RSAES_OAEP_SHA_1": 470,
		"RSA_2048 RSAES_OAEP_SHA_256": 190, "RSA_3072 RSAES_OAEP_SHA_256": 318, "RSA_4096 RSAES_OAEP_SHA_256": 446,
		"SM2 SM2PKE": 1024,
	}[string(s.Name)+" "+string(alg)]
	for _, size := range []int{1, 32, limit} {
		plaintext := bytes.Repeat([]byte{7}, size)
		ciphertext, err := public.Encrypt(alg, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decrypt(alg, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s of %d bytes: %v", alg, size, err)
		}
		ciphertext[len(ciphertext)-1] ^= 1
		_, err = k.Decrypt(alg, ciphertext)
		wantError(t, err, kmsapi.InvalidCiphertext, "")
	}
	_, err := public.Encrypt(alg, make([]byte, limit+1))
	wantError(t, err, kmsapi.Validation, fmt.Sprintf("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", alg, s.Name, limit))
	_, err = public.Encrypt(alg, nil)
	wantCode(t, err, kmsapi.Validation)
	_, err = k.Decrypt(alg, nil)
	wantError(t, err, kmsapi.InvalidCiphertext, "")
}

func makesMAC(t *testing.T, k keyspec.Key, alg kmsapi.MacAlgorithmSpec) {
	mac, err := k.MAC(alg, []byte("message"))
	if !does(k.Spec(), string(alg)) {
		text := fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", alg, k.Spec().Name)
		wantError(t, err, kmsapi.InvalidKeyUsage, text)
		wantError(t, k.VerifyMAC(alg, []byte("message"), mac), kmsapi.InvalidKeyUsage, text)
		return
	}
	if err != nil || len(mac) != len(materialOf(k.Spec())) {
		t.Fatalf("%d bytes, %v", len(mac), err)
	}
	if err := k.VerifyMAC(alg, []byte("message"), mac); err != nil {
		t.Error(err)
	}
	wantError(t, k.VerifyMAC(alg, []byte("Message"), mac), kmsapi.KMSInvalidMac, "")
	wantError(t, k.VerifyMAC(alg, []byte("message"), mac[1:]), kmsapi.KMSInvalidMac, "")
}

func agrees(t *testing.T, k keyspec.Key) {
	s := k.Spec()
	if !does(s, "ECDH") {
		_, err := k.SharedSecret(k.SPKI())
		wantError(t, err, kmsapi.InvalidKeyUsage, fmt.Sprintf("Algorithm ECDH is incompatible with key spec %s.", s.Name))
		return
	}
	material, err := s.Generate()
	if err != nil {
		t.Fatal(err)
	}
	peer := open(t, s, material)
	one, err := k.SharedSecret(peer.SPKI())
	if err != nil {
		t.Fatal(err)
	}
	other, err := peer.SharedSecret(k.SPKI())
	if err != nil || !bytes.Equal(one, other) || bytes.Equal(one, make([]byte, len(one))) {
		t.Errorf("no agreement: %v", err)
	}
	offCurve := peer.SPKI()
	offCurve[len(offCurve)-1] ^= 1
	for _, bad := range [][]byte{nil, {1}, offCurve, append(peer.SPKI(), 0), keyOf(t, kmsapi.RSA2048).SPKI(), keyOf(t, kmsapi.ECCNistEdwards).SPKI()} {
		_, err := k.SharedSecret(bad)
		wantError(t, err, kmsapi.Validation, "")
	}
}

func encapsulates(t *testing.T, k keyspec.Key, public keyspec.PublicKey) {
	s := k.Spec()
	shared, ciphertext, err := public.Encapsulate()
	if !does(s, "ML_KEM") {
		text := fmt.Sprintf("Algorithm ML_KEM is incompatible with key spec %s.", s.Name)
		wantError(t, err, kmsapi.InvalidKeyUsage, text)
		_, err := k.Decapsulate(ciphertext)
		wantError(t, err, kmsapi.InvalidKeyUsage, text)
		return
	}
	if want := map[kmsapi.KeySpec]int{kmsapi.MLKEM512: 768, kmsapi.MLKEM768: 1088, kmsapi.MLKEM1024: 1568}[s.Name]; err != nil || len(ciphertext) != want || len(shared) != 32 {
		t.Fatalf("%d and %d bytes: %v", len(shared), len(ciphertext), err)
	}
	if got, err := k.Decapsulate(ciphertext); err != nil || !bytes.Equal(got, shared) {
		t.Errorf("another secret: %v", err)
	}
	ciphertext[5] ^= 1
	one, err := k.Decapsulate(ciphertext)
	if err != nil || bytes.Equal(one, shared) || len(one) != 32 {
		t.Errorf("no implicit rejection: %v", err)
	}
	if again, err := k.Decapsulate(ciphertext); err != nil || !bytes.Equal(again, one) {
		t.Errorf("implicit rejection is not steady: %v", err)
	}
	for _, bad := range [][]byte{nil, ciphertext[1:], append(ciphertext, 0)} {
		_, err := k.Decapsulate(bad)
		wantError(t, err, kmsapi.InvalidCiphertext, "")
	}
}

func TestTextsOfRefusals(t *testing.T) {
	t.Parallel()
	p256, hmac := keyOf(t, kmsapi.ECCNistP256), keyOf(t, kmsapi.HMAC224)
	_, err := hmac.MAC(kmsapi.HMACSHA256, nil)
	wantError(t, err, kmsapi.InvalidKeyUsage, "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.")
	_, err = p256.Sign(kmsapi.ECDSASHA384, "", nil)
	wantError(t, err, kmsapi.InvalidKeyUsage, "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256.")
	_, err = p256.Sign(kmsapi.ECDSASHA256, kmsapi.MessageDigest, make([]byte, 31))
	wantError(t, err, kmsapi.Validation, "Digest is invalid length for algorithm ECDSA_SHA_256.")
	_, err = p256.Sign(kmsapi.ECDSASHA256, kmsapi.MessageExternalMu, make([]byte, 64))
	wantError(t, err, kmsapi.Validation, "Algorithm ECDSA_SHA_256 does not take messages of type EXTERNAL_MU.")
	if enforced() {
		return
	}
	_, err = keyOf(t, kmsapi.MLDSA44).Sign(kmsapi.MLDSAShake256, kmsapi.MessageExternalMu, make([]byte, 63))
	wantError(t, err, kmsapi.Validation, "External mu is invalid length for algorithm ML_DSA_SHAKE_256.")
}

func TestKeysPrintAsTheirSpec(t *testing.T) {
	t.Parallel()
	for _, s := range available() {
		k := open(t, s, materialOf(s))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if got := fmt.Sprintf(verb, k); got != string(s.Name)+" key" {
				t.Errorf("%s prints %.60s", verb, got)
			}
		}
	}
}
