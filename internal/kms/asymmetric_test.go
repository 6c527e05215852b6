package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/nitro/nitrotest"
	"kastellan.dev/internal/secret"
)

// permitted skips what FIPS 140-3 does not approve, in a process that is held to it.
func permitted(t *testing.T, spec *keyspec.Spec) {
	t.Helper()
	if err := spec.Permitted(); err != nil {
		t.Skip(err)
	}
}

// whereIt is a caller in a Region that has a key spec.
func whereIt(spec *keyspec.Spec) identity.Caller {
	if spec.AllowedIn(region) {
		return root(account)
	}
	return at(beijing)
}

// everyKey makes a key of each spec and usage, and runs fn with it and with a caller in its Region.
func everyKey(t *testing.T, w *world, fn func(t *testing.T, who identity.Caller, k *kmsapi.KeyMetadata, spec *keyspec.Spec)) {
	for _, spec := range keyspec.All() {
		for _, usage := range spec.Usages() {
			t.Run(string(spec.Name)+" "+string(usage), func(t *testing.T) {
				permitted(t, spec)
				who := whereIt(spec)
				fn(t, who, w.createKeyAs(who, &kmsapi.CreateKeyRequest{KeySpec: spec.Name, KeyUsage: usage}), spec)
			})
		}
	}
}

// message gives what an algorithm signs.
func message(a kmsapi.SigningAlgorithmSpec) (kmsapi.MessageType, []byte) {
	if a == kmsapi.Ed25519phSHA512 {
		return kmsapi.MessageDigest, bytes.Repeat([]byte{7}, 64)
	}
	return kmsapi.MessageRaw, []byte("message")
}

func TestEveryKeyDoesWhatItIsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	everyKey(t, w, func(t *testing.T, who identity.Caller, k *kmsapi.KeyMetadata, spec *keyspec.Spec) {
		for _, a := range k.SigningAlgorithms {
			as, m := message(a)
			signed := must(do[kmsapi.SignResponse](w, who, "Sign", &kmsapi.SignRequest{KeyID: k.Arn, SigningAlgorithm: a, MessageType: as, Message: secret.New(m)}))(t)
			in := &kmsapi.VerifyRequest{KeyID: k.KeyID, SigningAlgorithm: a, MessageType: as, Message: secret.New(m), Signature: signed.Signature}
			if out := must(do[kmsapi.VerifyResponse](w, who, "Verify", in))(t); !out.SignatureValid || out.KeyID != k.Arn || out.SigningAlgorithm != a {
				t.Errorf("%+v", out)
			}
			in.Signature = slices.Concat(signed.Signature[:len(signed.Signature)-1], []byte{signed.Signature[len(signed.Signature)-1] ^ 1})
			_, err := do[kmsapi.VerifyResponse](w, who, "Verify", in)
			wantCode(t, err, kmsapi.KMSInvalidSignature)
		}
		for _, a := range k.MacAlgorithms {
			made := must(do[kmsapi.GenerateMacResponse](w, who, "GenerateMac", &kmsapi.GenerateMacRequest{KeyID: k.Arn, MacAlgorithm: a, Message: secretBytes("m")}))(t)
			in := &kmsapi.VerifyMacRequest{KeyID: k.KeyID, MacAlgorithm: a, Message: secretBytes("m"), Mac: made.Mac}
			if out := must(do[kmsapi.VerifyMacResponse](w, who, "VerifyMac", in))(t); !out.MacValid || out.MacAlgorithm != a {
				t.Errorf("%+v", out)
			}
			in.Message = secretBytes("n")
			_, err := do[kmsapi.VerifyMacResponse](w, who, "VerifyMac", in)
			wantCode(t, err, kmsapi.KMSInvalidMac)
		}
		for _, a := range k.EncryptionAlgorithms {
			if a == kmsapi.RSAESOaepSHA1 && fips140.Enforced() {
				continue
			}
			sealed := must(do[kmsapi.EncryptResponse](w, who, "Encrypt", &kmsapi.EncryptRequest{KeyID: k.Arn, EncryptionAlgorithm: a, Plaintext: secretBytes("x")}))(t)
			out := must(do[kmsapi.DecryptResponse](w, who, "Decrypt", &kmsapi.DecryptRequest{KeyID: k.KeyID, EncryptionAlgorithm: a, CiphertextBlob: sealed.CiphertextBlob}))(t)
			if string(out.Plaintext.Reveal()) != "x" || out.EncryptionAlgorithm != a || spec.Symmetric() != (out.KeyMaterialID != "") {
				t.Errorf("%+v", out)
			}
		}
		for _, a := range k.KeyAgreementAlgorithms {
			w.agree(t, who, k, w.createKeyAs(who, &kmsapi.CreateKeyRequest{KeySpec: spec.Name, KeyUsage: k.KeyUsage}), a)
		}
		for _, a := range k.EncapsulationAlgorithms {
			made := must(do[kmsapi.EncapsulateResponse](w, who, "Encapsulate", &kmsapi.EncapsulateRequest{KeyID: k.Arn, EncapsulationAlgorithm: a}))(t)
			out := must(do[kmsapi.DecapsulateResponse](w, who, "Decapsulate", &kmsapi.DecapsulateRequest{KeyID: k.KeyID, EncapsulationAlgorithm: a, SharedSecretCiphertextBlob: made.SharedSecretCiphertextBlob}))(t)
			if !out.SharedSecret.Equal(made.SharedSecret) || out.SharedSecret.Len() != 32 || out.EncapsulationAlgorithm != a {
				t.Error("the secrets differ")
			}
		}
		if spec.Asymmetric() {
			out := must(do[kmsapi.GetPublicKeyResponse](w, who, "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: k.KeyID}))(t)
			if out.KeySpec != spec.Name || out.KeyUsage != k.KeyUsage || !slices.Equal(out.SigningAlgorithms, k.SigningAlgorithms) || len(out.PublicKey) == 0 {
				t.Errorf("%+v", out)
			}
		} else {
			_, err := do[kmsapi.GetPublicKeyResponse](w, who, "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: k.KeyID})
			wantCode(t, err, kmsapi.UnsupportedOperation)
		}
	})
}

// agree has two keys derive a secret, each with the other's public half.
func (w *world) agree(t *testing.T, who identity.Caller, one, other *kmsapi.KeyMetadata, a kmsapi.KeyAgreementAlgorithmSpec) {
	t.Helper()
	derive := func(k, peer *kmsapi.KeyMetadata) secret.Bytes {
		public := must(do[kmsapi.GetPublicKeyResponse](w, who, "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: peer.KeyID}))(t)
		in := &kmsapi.DeriveSharedSecretRequest{KeyID: k.KeyID, KeyAgreementAlgorithm: a, PublicKey: public.PublicKey}
		return must(do[kmsapi.DeriveSharedSecretResponse](w, who, "DeriveSharedSecret", in))(t).SharedSecret
	}
	if !derive(one, other).Equal(derive(other, one)) {
		t.Error("the secrets differ")
	}
}

// A key refuses what it is not for, and says so.
func TestKeysRefuseOtherUsages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	everyKey(t, w, func(t *testing.T, who identity.Caller, k *kmsapi.KeyMetadata, _ *keyspec.Spec) {
		if strings.HasPrefix(string(k.KeySpec), "RSA_") && k.KeySpec != kmsapi.RSA2048 {
			return // they differ in nothing but size
		}
		for name, tc := range map[string]struct {
			in    any
			usage kmsapi.KeyUsageType
		}{
			"Sign":               {&kmsapi.SignRequest{KeyID: k.KeyID, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("m")}, kmsapi.SignVerify},
			"Verify":             {&kmsapi.VerifyRequest{KeyID: k.KeyID, SigningAlgorithm: kmsapi.ECDSASHA256, Message: secretBytes("m"), Signature: []byte("s")}, kmsapi.SignVerify},
			"GenerateMac":        {&kmsapi.GenerateMacRequest{KeyID: k.KeyID, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("m")}, kmsapi.GenerateVerifyMac},
			"VerifyMac":          {&kmsapi.VerifyMacRequest{KeyID: k.KeyID, MacAlgorithm: kmsapi.HMACSHA256, Message: secretBytes("m"), Mac: []byte("m")}, kmsapi.GenerateVerifyMac},
			"Encrypt":            {&kmsapi.EncryptRequest{KeyID: k.KeyID, Plaintext: secretBytes("m")}, kmsapi.EncryptDecrypt},
			"DeriveSharedSecret": {&kmsapi.DeriveSharedSecretRequest{KeyID: k.KeyID, KeyAgreementAlgorithm: kmsapi.ECDH, PublicKey: []byte("p")}, kmsapi.KeyAgreement},
			"Encapsulate":        {&kmsapi.EncapsulateRequest{KeyID: k.KeyID, EncapsulationAlgorithm: kmsapi.MLKEM}, kmsapi.EncapsulateDecapsulate},
			"Decapsulate":        {&kmsapi.DecapsulateRequest{KeyID: k.KeyID, EncapsulationAlgorithm: kmsapi.MLKEM, SharedSecretCiphertextBlob: []byte("c")}, kmsapi.EncapsulateDecapsulate},
		} {
			if k.KeyUsage == tc.usage {
				continue
			}
			_, err := w.s.Do(t.Context(), operation(t, name), who, tc.in)
			wantCode(t, err, kmsapi.InvalidKeyUsage)
			if !strings.HasSuffix(err.Error(), k.Arn+" key usage is "+string(k.KeyUsage)+" which is not valid for "+name+".") {
				t.Error(err)
			}
		}
		if k.KeyUsage != kmsapi.EncryptDecrypt {
			_, err := do[kmsapi.DecryptResponse](w, who, "Decrypt", &kmsapi.DecryptRequest{KeyID: k.KeyID, CiphertextBlob: []byte("c")})
			wantCode(t, err, kmsapi.IncorrectKey)
		}
		if k.KeySpec != kmsapi.SymmetricDefault {
			_, err := do[kmsapi.GenerateDataKeyResponse](w, who, "GenerateDataKey", &kmsapi.GenerateDataKeyRequest{KeyID: k.KeyID, KeySpec: kmsapi.DataKeyAES256})
			wantCode(t, err, kmsapi.InvalidKeyUsage)
		}
	})
}

func TestSharedSecretsAreShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.ECCNistP384, KeyUsage: kmsapi.KeyAgreement})
	mine, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	out := must(do[kmsapi.DeriveSharedSecretResponse](w, root(account), "DeriveSharedSecret", &kmsapi.DeriveSharedSecretRequest{KeyID: k.KeyID, KeyAgreementAlgorithm: kmsapi.ECDH, PublicKey: spki}))(t)
	theirs, err := x509.ParsePKIXPublicKey(must(do[kmsapi.GetPublicKeyResponse](w, root(account), "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: k.KeyID}))(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := theirs.(interface {
		ECDH() (*ecdh.PublicKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	want, err := mine.ECDH(peer)
	if err != nil || !bytes.Equal(want, out.SharedSecret.Reveal()) || out.KeyOrigin != kmsapi.OriginAWSKMS {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestCapsulesOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.MLKEM768, KeyUsage: kmsapi.EncapsulateDecapsulate})
	made := must(do[kmsapi.EncapsulateResponse](w, root(account), "Encapsulate", &kmsapi.EncapsulateRequest{KeyID: k.KeyID, EncapsulationAlgorithm: kmsapi.MLKEM}))(t)
	open := func(c []byte) (*kmsapi.DecapsulateResponse, error) {
		return do[kmsapi.DecapsulateResponse](w, root(account), "Decapsulate", &kmsapi.DecapsulateRequest{KeyID: k.KeyID, EncapsulationAlgorithm: kmsapi.MLKEM, SharedSecretCiphertextBlob: c})
	}
	if out := must(open(made.SharedSecretCiphertextBlob))(t); !out.SharedSecret.Equal(made.SharedSecret) || out.SharedSecret.Len() != 32 {
		t.Error("the secrets differ")
	}
	touched := bytes.Clone(made.SharedSecretCiphertextBlob)
	touched[0] ^= 1
	if out := must(open(touched))(t); out.SharedSecret.Equal(made.SharedSecret) || out.SharedSecret.Len() != 32 {
		t.Error("a touched capsule is not rejected implicitly")
	}
	_, err := open(touched[1:])
	wantCode(t, err, kmsapi.InvalidCiphertext)
}

func TestDataKeyPairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.createKey(&kmsapi.CreateKeyRequest{})
	for _, spec := range keyspec.All() {
		if !spec.DataKeyPair() || spec.Name == kmsapi.RSA4096 {
			continue
		}
		t.Run(string(spec.Name), func(t *testing.T) {
			who := whereIt(spec)
			k := w.createKeyAs(who, &kmsapi.CreateKeyRequest{})
			want := kmsapi.DryRunOperation
			if spec.Permitted() != nil {
				want = kmsapi.UnsupportedOperation
			}
			_, err := do[kmsapi.GenerateDataKeyPairResponse](w, who, "GenerateDataKeyPair", &kmsapi.GenerateDataKeyPairRequest{
				KeyID: k.KeyID, KeyPairSpec: kmsapi.DataKeyPairSpec(spec.Name), DryRun: true,
			})
			wantCode(t, err, want)
			permitted(t, spec)
			context := map[string]string{"a": "b"}
			out := must(do[kmsapi.GenerateDataKeyPairResponse](w, who, "GenerateDataKeyPair", &kmsapi.GenerateDataKeyPairRequest{
				KeyID: k.KeyID, KeyPairSpec: kmsapi.DataKeyPairSpec(spec.Name), EncryptionContext: context,
			}))(t)
			back := must(do[kmsapi.DecryptResponse](w, who, "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: out.PrivateKeyCiphertextBlob, EncryptionContext: context}))(t)
			if !back.Plaintext.Equal(out.PrivateKeyPlaintext) || out.KeyMaterialID != k.CurrentKeyMaterialID {
				t.Error("the private key is not what was encrypted")
			}
			private, err := spec.Open(out.PrivateKeyPlaintext.Reveal())
			if err != nil || !bytes.Equal(private.SPKI(), out.PublicKey) {
				t.Errorf("the halves do not fit: %v", err)
			}
		})
	}
	only := must(do[kmsapi.GenerateDataKeyPairWithoutPlaintextResponse](w, root(account), "GenerateDataKeyPairWithoutPlaintext", &kmsapi.GenerateDataKeyPairWithoutPlaintextRequest{
		KeyID: k.KeyID, KeyPairSpec: "ECC_NIST_P256",
	}))(t)
	back := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: only.PrivateKeyCiphertextBlob}))(t)
	if private, err := keyspec.Of(kmsapi.ECCNistP256).Open(back.Plaintext.Reveal()); err != nil || !bytes.Equal(private.SPKI(), only.PublicKey) {
		t.Errorf("the halves do not fit: %v", err)
	}
	_, err := do[kmsapi.GenerateDataKeyPairResponse](w, root(account), "GenerateDataKeyPair", &kmsapi.GenerateDataKeyPairRequest{KeyID: k.KeyID, KeyPairSpec: "SM2"})
	wantCode(t, err, kmsapi.UnsupportedOperation)
}

func TestAnswersForAnEnclave(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // as every world's clock
	pki := nitrotest.NewRoot(t, now)
	enclave := nitrotest.NewEnclave(t, pki, now)
	verifier, err := nitro.New(pki.Pool())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *kms.Config) { c.Nitro = verifier })
	to := &kmsapi.RecipientInfo{KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256", AttestationDocument: enclave.Document(t, w.clock.Now())}
	k := w.createKey(&kmsapi.CreateKeyRequest{})
	read := func(ciphertext []byte) []byte {
		t.Helper()
		plaintext, err := enclave.Open(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		return plaintext
	}
	sealed := w.encrypt(k.KeyID, "for the enclave")
	opened := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed, Recipient: to}))(t)
	if opened.Plaintext.Len() != 0 || opened.KeyMaterialID != "" || string(read(opened.CiphertextForRecipient)) != "for the enclave" {
		t.Errorf("%+v", opened)
	}
	data := must(do[kmsapi.GenerateDataKeyResponse](w, root(account), "GenerateDataKey", &kmsapi.GenerateDataKeyRequest{KeyID: k.KeyID, KeySpec: kmsapi.DataKeyAES256, Recipient: to}))(t)
	back := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: data.CiphertextBlob}))(t)
	if data.Plaintext.Len() != 0 || !bytes.Equal(read(data.CiphertextForRecipient), back.Plaintext.Reveal()) {
		t.Errorf("%+v", data)
	}
	pair := must(do[kmsapi.GenerateDataKeyPairResponse](w, root(account), "GenerateDataKeyPair", &kmsapi.GenerateDataKeyPairRequest{KeyID: k.KeyID, KeyPairSpec: "ECC_NIST_P256", Recipient: to}))(t)
	if private, err := x509.ParsePKCS8PrivateKey(read(pair.CiphertextForRecipient)); err != nil || private == nil || pair.PrivateKeyPlaintext.Len() != 0 {
		t.Errorf("%+v, %v", pair, err)
	}
	random := must(do[kmsapi.GenerateRandomResponse](w, root(account), "GenerateRandom", &kmsapi.GenerateRandomRequest{NumberOfBytes: ptr(int32(99)), Recipient: to}))(t)
	if random.Plaintext.Len() != 0 || len(read(random.CiphertextForRecipient)) != 99 {
		t.Errorf("%+v", random)
	}
	agreeing := w.createKey(&kmsapi.CreateKeyRequest{KeySpec: kmsapi.ECCNistP256, KeyUsage: kmsapi.KeyAgreement})
	public := must(do[kmsapi.GetPublicKeyResponse](w, root(account), "GetPublicKey", &kmsapi.GetPublicKeyRequest{KeyID: agreeing.KeyID}))(t).PublicKey
	shared := must(do[kmsapi.DeriveSharedSecretResponse](w, root(account), "DeriveSharedSecret", &kmsapi.DeriveSharedSecretRequest{KeyID: agreeing.KeyID, KeyAgreementAlgorithm: kmsapi.ECDH, PublicKey: public, Recipient: to}))(t)
	if shared.SharedSecret.Len() != 0 || len(read(shared.CiphertextForRecipient)) != 32 {
		t.Errorf("%+v", shared)
	}

	touched := bytes.Clone(to.AttestationDocument)
	touched[len(touched)-1] ^= 1
	for name, r := range map[string]*kmsapi.RecipientInfo{
		"nothing": {}, "nonsense": {AttestationDocument: []byte("x")}, "touched": {AttestationDocument: touched},
		"old": {AttestationDocument: enclave.Document(t, w.clock.Now().Add(-verifier.MaxAge*2))},
	} {
		_, err := do[kmsapi.DecryptResponse](w, root(account), "Decrypt", &kmsapi.DecryptRequest{CiphertextBlob: sealed, Recipient: r})
		if kmsapi.CodeOf(err) != kmsapi.Validation {
			t.Errorf("%s: %v", name, err)
		}
	}
}
