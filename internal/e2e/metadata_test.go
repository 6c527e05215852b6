package e2e_test

import (
	"crypto/fips140"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/kastellantest"
)

// always are the members that every KeyMetadata has.
var always = strings.Fields(`AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled KeyId KeyManager KeySpec
	KeyState KeyUsage MultiRegion Origin`)

// members names what a KeyMetadata has, in order.
func members(k *types.KeyMetadata) (names []string) {
	v := reflect.ValueOf(k).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && (!v.Field(i).IsZero() || f.Name == "Enabled") {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}

// wantMembers tells when metadata has not exactly those members beside the usual ones.
func wantMembers(t *testing.T, k *types.KeyMetadata, more ...string) {
	t.Helper()
	want := slices.Sorted(slices.Values(append(slices.Clone(always), more...)))
	if diff := cmp.Diff(want, members(k)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

// algorithmsOf are the algorithms of every key spec and usage.
const algorithmsOf = `
SYMMETRIC_DEFAULT     ENCRYPT_DECRYPT         Encryption SYMMETRIC_DEFAULT
HMAC_224              GENERATE_VERIFY_MAC     Mac HMAC_SHA_224
HMAC_256              GENERATE_VERIFY_MAC     Mac HMAC_SHA_256
HMAC_384              GENERATE_VERIFY_MAC     Mac HMAC_SHA_384
HMAC_512              GENERATE_VERIFY_MAC     Mac HMAC_SHA_512
RSA_2048              ENCRYPT_DECRYPT         Encryption RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256
RSA_2048              SIGN_VERIFY             Signing RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512 RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512
RSA_3072              SIGN_VERIFY             Signing RSASSA_PKCS1_V1_5_SHA_256 RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512 RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512
ECC_NIST_P256         SIGN_VERIFY             Signing ECDSA_SHA_256
ECC_NIST_P256         KEY_AGREEMENT           KeyAgreement ECDH
ECC_NIST_P384         SIGN_VERIFY             Signing ECDSA_SHA_384
ECC_NIST_P384         KEY_AGREEMENT           KeyAgreement ECDH
ECC_NIST_P521         SIGN_VERIFY             Signing ECDSA_SHA_512
ECC_NIST_P521         KEY_AGREEMENT           KeyAgreement ECDH
ECC_SECG_P256K1       SIGN_VERIFY             Signing ECDSA_SHA_256
ECC_NIST_EDWARDS25519 SIGN_VERIFY             Signing ED25519_PH_SHA_512 ED25519_SHA_512
ML_DSA_44             SIGN_VERIFY             Signing ML_DSA_SHAKE_256
ML_DSA_65             SIGN_VERIFY             Signing ML_DSA_SHAKE_256
ML_DSA_87             SIGN_VERIFY             Signing ML_DSA_SHAKE_256
ML_KEM_512            ENCAPSULATE_DECAPSULATE Encapsulation ML_KEM
ML_KEM_768            ENCAPSULATE_DECAPSULATE Encapsulation ML_KEM
ML_KEM_1024           ENCAPSULATE_DECAPSULATE Encapsulation ML_KEM
SM2                   ENCRYPT_DECRYPT         Encryption SM2PKE
SM2                   SIGN_VERIFY             Signing SM2DSA
SM2                   KEY_AGREEMENT           KeyAgreement ECDH
`

// algorithmsIn gives the one list of algorithms that a structure of the SDK has.
func algorithmsIn(t *testing.T, of any) (list string, names []string) {
	t.Helper()
	v := reflect.ValueOf(of).Elem()
	for i := range v.NumField() {
		kind, ok := strings.CutSuffix(v.Type().Field(i).Name, "Algorithms")
		if !ok || v.Field(i).Len() == 0 {
			continue
		}
		if list != "" {
			t.Errorf("both %s and %s algorithms", list, kind)
		}
		list = kind
		for j := range v.Field(i).Len() {
			names = append(names, v.Field(i).Index(j).String())
		}
	}
	slices.Sort(names)
	return list, names
}

// TestMetadataOfEverySpec compares what CreateKey, DescribeKey and GetPublicKey tell of keys.
func TestMetadataOfEverySpec(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{})
	for line := range strings.Lines(strings.TrimSpace(algorithmsOf)) {
		row := strings.Fields(line)
		t.Run(row[0]+" "+row[1], func(t *testing.T) {
			t.Parallel()
			client, ctx := server.Client(admin), t.Context()
			if row[0] == "SM2" {
				client = server.ClientIn(admin, "cn-north-1")
			}
			answer, err := client.CreateKey(ctx, &awskms.CreateKeyInput{
				KeySpec: types.KeySpec(row[0]), KeyUsage: types.KeyUsageType(row[1]), Description: aws.String("words"),
			})
			if fips140.Enforced() && err != nil {
				t.Skip(err)
			}
			created := must[*awskms.CreateKeyOutput](t)(answer, err).KeyMetadata
			described := must[*awskms.DescribeKeyOutput](t)(client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: created.KeyId})).KeyMetadata
			if !reflect.DeepEqual(created, described) {
				t.Errorf("created %+v, described %+v", created, described)
			}
			more := []string{row[2] + "Algorithms"}
			if row[0] == "SYMMETRIC_DEFAULT" {
				more = append(more, "CurrentKeyMaterialId")
			}
			wantMembers(t, described, more...)
			if list, names := algorithmsIn(t, described); list != row[2] || !slices.Equal(names, row[3:]) {
				t.Errorf("%s algorithms %v", list, names)
			}
			if string(described.KeySpec) != row[0] || string(described.CustomerMasterKeySpec) != row[0] || string(described.KeyUsage) != row[1] {
				t.Errorf("%s, %s, %s", described.KeySpec, described.CustomerMasterKeySpec, described.KeyUsage)
			}
			public, err := client.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: created.KeyId})
			if row[0] == "SYMMETRIC_DEFAULT" || row[2] == "Mac" {
				wantError(t, err, "UnsupportedOperationException")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if list, names := algorithmsIn(t, public); list != row[2] || !slices.Equal(names, row[3:]) || *public.KeyId != *created.Arn || string(public.KeySpec) != row[0] {
				t.Errorf("the public key: %s algorithms %v of %s", list, names, *public.KeyId)
			}
		})
	}
}

// TestMetadataOfEveryState has members that come and go.
func TestMetadataOfEveryState(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	describe := func(s *subject) *types.KeyMetadata {
		return must[*awskms.DescribeKeyOutput](t)(s.client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &s.id})).KeyMetadata
	}
	multi, material := "MultiRegionConfiguration", "CurrentKeyMaterialId"
	for state, more := range map[types.KeyState][]string{
		types.KeyStateEnabled:                {multi, material},
		types.KeyStateDisabled:               {multi, material},
		types.KeyStatePendingDeletion:        {"DeletionDate", material},
		types.KeyStatePendingReplicaDeletion: {"PendingDeletionWindowInDays", multi, material},
		types.KeyStatePendingImport:          {multi},
		types.KeyStateUnavailable:            {"CustomKeyStoreId", "XksKeyConfiguration"},
		types.KeyStateCreating:               {multi},
		types.KeyStateUpdating:               {multi, material},
	} {
		t.Run(string(state), func(t *testing.T) {
			k := describe(l.in(t, state, "symmetric"))
			k.Description = aws.String("words") // which is left out when it is empty
			wantMembers(t, k, append(more, "EncryptionAlgorithms")...)
			if k.Enabled != (state == types.KeyStateEnabled) {
				t.Errorf("enabled: %t", k.Enabled)
			}
		})
	}
	imported := describe(l.in(t, types.KeyStateEnabled, "imported"))
	imported.Description = aws.String("words")
	wantMembers(t, imported, "EncryptionAlgorithms", material, "ExpirationModel", multi)
	if imported.Origin != types.OriginTypeExternal || imported.KeyManager != types.KeyManagerTypeCustomer {
		t.Errorf("%+v", imported)
	}
}

// TestMultiRegionConfiguration is the same for all related keys.
func TestMultiRegionConfiguration(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{})
	l := &laboratory{fast: server}
	s := l.replicated(t, server, "symmetric")
	s.settled(otherRegion)
	want := map[string]string{kastellantest.Region: "PRIMARY", otherRegion: "REPLICA"}
	for region := range want {
		id := strings.Replace(s.id, kastellantest.Region, region, 1)
		k := must[*awskms.DescribeKeyOutput](t)(server.ClientIn(admin, region).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &id})).KeyMetadata
		got := map[string]string{*k.MultiRegionConfiguration.PrimaryKey.Region: "PRIMARY"}
		for _, r := range k.MultiRegionConfiguration.ReplicaKeys {
			got[*r.Region] = "REPLICA"
		}
		if !maps.Equal(got, want) || string(k.MultiRegionConfiguration.MultiRegionKeyType) != want[region] || !*k.MultiRegion {
			t.Errorf("in %s: %v, %s", region, got, k.MultiRegionConfiguration.MultiRegionKeyType)
		}
	}
}
