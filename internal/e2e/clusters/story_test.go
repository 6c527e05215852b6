package clusters_test

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	kastellantest.ServeMain()
	debug.SetGCPercent(400) // many servers at once, and memory to spare
	os.Exit(m.Run())
}

const admin = kastellantest.Admin

// TestFromNothingToAnEncryptedByte walks the whole path: a cluster is made, a key store on it is connected, its only HSM but one
// is lost to a deletion, the error code says what is missing, and CreateHsm brings everything back.
func TestFromNothingToAnEncryptedByte(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.WithPools(t, "ab"))
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("owned"))
	key := s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &store}).KeyId
	client := s.Client(admin)
	sealed, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key, Plaintext: []byte("a secret")})
	if err != nil {
		t.Fatal(err)
	}
	opens := func() bool {
		out, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		return err == nil && string(out.Plaintext) == "a secret"
	}
	if !opens() {
		t.Fatal("the ciphertext cannot be decrypted")
	}

	for _, id := range m.HSMs {
		if _, err := s.CloudHSM(admin).DeleteHsm(t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &m.ID, HsmId: aws.String(id)}); err != nil {
			t.Fatal(err)
		}
		s.WaitHSM(m.ID, id, hsmtypes.HsmStateDeleted)
	}
	polltest.Until(t, "a cluster without HSMs to decrypt nothing", func() bool { return !opens() })
	s.Disconnect(store)
	if _, err := client.ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &store}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the connection to fail", func() bool { return s.Describe(store).ConnectionState == types.ConnectionStateTypeFailed })
	if code := s.Describe(store).ConnectionErrorCode; code != types.ConnectionErrorCodeTypeInsufficientCloudhsmHsms {
		t.Errorf("the connection failed with %s", code)
	}
	s.HSM(m.ID, "a")
	s.Disconnect(store)
	s.Connect(store)
	polltest.Until(t, "the keys to be back", opens)
}
