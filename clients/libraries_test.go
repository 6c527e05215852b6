package clients_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/getsops/sops/v3"
	sopsaes "github.com/getsops/sops/v3/aes"
	sopsconfig "github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/decrypt"
	"github.com/getsops/sops/v3/keyservice"
	sopskms "github.com/getsops/sops/v3/kms"
	sopsyaml "github.com/getsops/sops/v3/stores/yaml"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	wrapper "github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"go.step.sm/crypto/kms/apiv1"
	stepkms "go.step.sm/crypto/kms/awskms"
	gocloud "gocloud.dev/secrets/awskms"

	"kastellan.dev/internal/kastellantest"
)

// TestSops encrypts a file and opens it, in the way of the program.
func TestSops(t *testing.T) {
	s := start(t)
	key := s.symmetric()
	tenant := "blue"
	master := sopskms.NewMasterKeyFromArn(key, map[string]*string{"tenant": &tenant}, "")
	store := sopsyaml.NewStore(&sopsconfig.YAMLStoreConfig{})
	branches, err := store.LoadPlainFile([]byte("password: hunter2\n"))
	if err != nil {
		t.Fatal(err)
	}
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{KeyGroups: []sops.KeyGroup{{master}}, Version: "3.13.3"}}
	dataKey, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := sopsaes.NewCipher()
	mac, err := tree.Encrypt(dataKey, cipher)
	if err != nil {
		t.Fatal(err)
	}
	tree.Metadata.LastModified = time.Now().UTC()
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, dataKey, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	file, err := store.EmitEncryptedFile(tree)
	if err != nil || bytes.Contains(file, []byte("hunter2")) || !bytes.Contains(file, []byte(key)) {
		t.Fatalf("%v\n%s", err, file)
	}
	plain, err := decrypt.Data(file, "yaml")
	if err != nil || string(plain) != "password: hunter2\n" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := decrypt.Data(bytes.Replace(file, []byte("blue"), []byte("pink"), 1), "yaml"); err == nil {
		t.Error("it opens under another encryption context")
	}
	s.disable(key)
	if _, err := decrypt.Data(file, "yaml"); err == nil {
		t.Error("it opens with a disabled key")
	}
}

// TestTink encrypts under an envelope key.
func TestTink(t *testing.T) {
	s := start(t)
	uri := "aws-kms://" + s.symmetric()
	client, err := awskms.NewClientWithOptions(t.Context(), uri, awskms.WithKMS(s.sdk(kastellantest.Region)))
	if err != nil {
		t.Fatal(err)
	}
	remote, err := client.GetAEAD(uri)
	if err != nil {
		t.Fatal(err)
	}
	envelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)
	sealed, err := envelope.Encrypt([]byte("tink"), []byte("associated"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := envelope.Decrypt(sealed, []byte("associated")); err != nil || string(plain) != "tink" {
		t.Errorf("%q, %v", plain, err)
	}
	direct, err := remote.Encrypt([]byte("tink"), []byte("associated"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Decrypt(direct, []byte("another")); err == nil {
		t.Error("it opens with other associated data")
	}
}

// TestGoCloud opens a keeper by its URL.
func TestGoCloud(t *testing.T) {
	s := start(t)
	key := s.symmetric()
	keeper := gocloud.OpenKeeper(s.sdk(kastellantest.Region), key, &gocloud.KeeperOptions{EncryptionContext: map[string]string{"a": "b"}})
	defer keeper.Close()
	sealed, err := keeper.Encrypt(t.Context(), []byte("cloud"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := keeper.Decrypt(t.Context(), sealed); err != nil || string(plain) != "cloud" {
		t.Errorf("%q, %v", plain, err)
	}
	s.disable(key)
	if _, err := keeper.Decrypt(t.Context(), sealed); err == nil || !strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("with a disabled key: %v", err)
	}
}

// TestGoKMSWrapping is how Vault, OpenBao and Boundary unseal themselves. It uses the SDK's first version.
func TestGoKMSWrapping(t *testing.T) {
	s := start(t)
	w, id := wrapper.NewWrapper(), s.symmetric()
	if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"kms_key_id": id, "endpoint": s.Endpoint, "region": kastellantest.Region})); err != nil {
		t.Fatal(err)
	}
	blob, err := w.Encrypt(t.Context(), []byte("unseal key"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := w.Decrypt(t.Context(), blob); err != nil || string(plain) != "unseal key" {
		t.Errorf("%q, %v", plain, err)
	}
	if blob.KeyInfo.KeyId != id {
		t.Errorf("the blob names %s", blob.KeyInfo.KeyId)
	}
}

// TestStep makes keys and signs certificates with them, as step-ca does.
func TestStep(t *testing.T) {
	start(t)
	km, err := stepkms.New(t.Context(), apiv1.Options{Region: kastellantest.Region})
	if err != nil {
		t.Fatal(err)
	}
	for name, algorithm := range map[string]apiv1.SignatureAlgorithm{
		"ecdsa-256": apiv1.ECDSAWithSHA256, "ecdsa-384": apiv1.ECDSAWithSHA384, "ecdsa-521": apiv1.ECDSAWithSHA512,
		"rsa": apiv1.SHA256WithRSA, "rsa-pss": apiv1.SHA256WithRSAPSS,
	} {
		t.Run(name, func(t *testing.T) {
			made, err := km.CreateKey(&apiv1.CreateKeyRequest{Name: name, SignatureAlgorithm: algorithm})
			if err != nil {
				t.Fatal(err)
			}
			signer, err := km.CreateSigner(&made.CreateSignerRequest)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
			if name == "rsa-pss" {
				template.SignatureAlgorithm = x509.SHA256WithRSAPSS
			}
			der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
			if err != nil {
				t.Fatal(err)
			}
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := certificate.CheckSignatureFrom(certificate); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStepDecrypts uses an RSA key as a crypto.Decrypter.
func TestStepDecrypts(t *testing.T) {
	s := start(t)
	km, err := stepkms.New(t.Context(), apiv1.Options{Region: kastellantest.Region})
	if err != nil {
		t.Fatal(err)
	}
	d, err := km.CreateDecrypter(&apiv1.CreateDecrypterRequest{DecryptionKey: "awskms:key-id=" + s.key(kastellantest.Region, "RSA_2048", "ENCRYPT_DECRYPT")})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, d.Public().(*rsa.PublicKey), []byte("step"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := d.Decrypt(rand.Reader, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil || string(plain) != "step" {
		t.Errorf("%q, %v", plain, err)
	}
}
