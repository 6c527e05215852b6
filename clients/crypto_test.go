package clients_test

import (
	"bytes"
	"crypto/sha3"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/cloudflare/circl/kem"
	kems "github.com/cloudflare/circl/kem/schemes"
	"github.com/cloudflare/circl/sign"
	signatures "github.com/cloudflare/circl/sign/schemes"

	"kastellan.dev/internal/kastellantest"
)

// rawKey takes the key out of a SubjectPublicKeyInfo.
func rawKey(t *testing.T, spki []byte) []byte {
	t.Helper()
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		t.Fatal(err)
	}
	return info.Key.Bytes
}

func (s *server) public(key string) []byte {
	s.t.Helper()
	out, err := s.sdk(kastellantest.Region).GetPublicKey(s.t.Context(), &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		s.t.Fatal(err)
	}
	return rawKey(s.t, out.PublicKey)
}

// TestCIRCLVerifiesMLDSA has signatures of both types of message verified by CIRCL.
func TestCIRCLVerifiesMLDSA(t *testing.T) {
	s := start(t)
	for _, n := range []string{"44", "65", "87"} {
		t.Run(n, func(t *testing.T) {
			var scheme sign.Scheme = signatures.ByName("ML-DSA-" + n)
			key := s.key(kastellantest.Region, types.KeySpec("ML_DSA_"+n), types.KeyUsageTypeSignVerify)
			raw := s.public(key)
			public, err := scheme.UnmarshalBinaryPublicKey(raw)
			if err != nil {
				t.Fatal(err)
			}
			message := []byte("a message")
			tr := sha3.SumSHAKE256(raw, 64)
			representative := sha3.SumSHAKE256(append(append(tr, 0, 0), message...), 64)
			for as, signed := range map[types.MessageType][]byte{types.MessageTypeRaw: message, types.MessageTypeExternalMu: representative} {
				out, err := s.sdk(kastellantest.Region).Sign(t.Context(), &kms.SignInput{
					KeyId: &key, Message: signed, MessageType: as, SigningAlgorithm: types.SigningAlgorithmSpecMlDsaShake256,
				})
				if err != nil {
					t.Fatal(err)
				}
				if !scheme.Verify(public, message, out.Signature, nil) {
					t.Errorf("CIRCL does not verify a signature of %s", as)
				}
				if scheme.Verify(public, []byte("another"), out.Signature, nil) {
					t.Errorf("CIRCL verifies anything")
				}
			}
		})
	}
}

// TestCIRCLAndMLKEM has CIRCL make the secrets that keys decapsulate, and use the keys of data key pairs.
func TestCIRCLAndMLKEM(t *testing.T) {
	s := start(t)
	client, symmetric := s.sdk(kastellantest.Region), s.symmetric()
	for _, n := range []string{"512", "768", "1024"} {
		t.Run(n, func(t *testing.T) {
			var scheme kem.Scheme = kems.ByName("ML-KEM-" + n)
			key := s.key(kastellantest.Region, types.KeySpec("ML_KEM_"+n), types.KeyUsageTypeEncapsulateDecapsulate)
			public, err := scheme.UnmarshalBinaryPublicKey(s.public(key))
			if err != nil {
				t.Fatal(err)
			}
			ciphertext, secret, err := scheme.Encapsulate(public)
			if err != nil {
				t.Fatal(err)
			}
			out, err := client.Decapsulate(t.Context(), &kms.DecapsulateInput{KeyId: &key, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
			if err != nil || !bytes.Equal(out.SharedSecret, secret) {
				t.Errorf("the secrets differ, %v", err)
			}

			pair, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &symmetric, KeyPairSpec: types.DataKeyPairSpec("ML_KEM_" + n)})
			if err != nil {
				t.Fatal(err)
			}
			var private struct {
				Version   int
				Algorithm pkix.AlgorithmIdentifier
				Key       []byte
			}
			if _, err := asn1.Unmarshal(pair.PrivateKeyPlaintext, &private); err != nil {
				t.Fatal(err)
			}
			derived, _ := scheme.DeriveKeyPair(private.Key[len(private.Key)-scheme.SeedSize():])
			again, err := derived.MarshalBinary()
			if err != nil || !bytes.Equal(again, rawKey(t, pair.PublicKey)) {
				t.Errorf("CIRCL has another public key of the pair, %v", err)
			}
		})
	}
}

// TestOpenSSLOpensDataKeyPairs checks both halves with the command line, where it knows the algorithm.
func TestOpenSSLOpensDataKeyPairs(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	s := start(t)
	keys := map[string]string{kastellantest.Region: s.symmetric(), "cn-north-1": s.key("cn-north-1", types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)}
	for _, spec := range types.DataKeyPairSpec("").Values() {
		if strings.HasPrefix(string(spec), "ML_") {
			continue // OpenSSL 3.0 does not know it
		}
		t.Run(string(spec), func(t *testing.T) {
			region := kastellantest.Region
			if spec == types.DataKeyPairSpecSm2 {
				region = "cn-north-1"
			}
			client := s.sdk(region)
			pair, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: aws.String(keys[region]), KeyPairSpec: spec})
			if err != nil {
				t.Fatal(err)
			}
			opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: pair.PrivateKeyCiphertextBlob})
			if err != nil || !bytes.Equal(opened.Plaintext, pair.PrivateKeyPlaintext) {
				t.Fatalf("the ciphertext has another key, %v", err)
			}
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, pair.PrivateKeyPlaintext, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "openssl", "pkey", "-inform", "DER", "-in", file, "-check", "-noout").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			public, err := exec.CommandContext(t.Context(), "openssl", "pkey", "-inform", "DER", "-in", file, "-pubout", "-outform", "DER").Output()
			if err != nil || !bytes.Equal(public, pair.PublicKey) {
				t.Errorf("OpenSSL has another public key, %v", err)
			}
		})
	}
}
