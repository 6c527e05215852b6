package clusters_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// TestAKeyStoreMovesToAClusterRestoredFromABackup is the recovery that AWS documents: all HSMs are lost at once, another cluster is
// made from a backup, and the key store uses that one. The backup is older than the kmsuser's password.
func TestAKeyStoreMovesToAClusterRestoredFromABackup(t *testing.T) {
	t.Parallel()
	s := newSite(t, "abcd")
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	sealed := s.encrypt(s.hsmKey(store), "a secret")
	b := s.freshBackup(m.ID)
	s.Disconnect(store)
	s.Connect(store) // and so the password changes
	after := s.hsmKey(store)
	s.loseAll(m, "ab")
	polltest.Until(t, "a cluster without HSMs to decrypt nothing", func() bool { return !s.opens(sealed, "a secret") })

	origin := s.DescribeCluster(m.ID)
	id := s.clusterFrom(*b.BackupId, "cd")
	c := s.DescribeCluster(id)
	if *c.SourceBackupId != *b.BackupId || c.SubnetMapping["us-east-1c"] != kastellantest.Subnet("c") || len(c.Hsms) != 0 {
		t.Errorf("the new cluster is %+v", c)
	}
	s.HSM(id, "c")
	s.HSM(id, "d")
	c = s.WaitCluster(id, hsmtypes.ClusterStateActive)
	if *c.Certificates.ClusterCertificate != *origin.Certificates.ClusterCertificate || c.Certificates.ClusterCsr != nil {
		t.Errorf("its certificates are %+v, want those of %+v", c.Certificates, origin.Certificates)
	}
	if err := s.move(store, id); err == nil {
		t.Error("a key store that is connected moves to another cluster")
	}
	s.Disconnect(store)
	if err := s.move(store, id); err != nil {
		t.Fatal(err)
	}
	if code := s.failure(store); code != types.ConnectionErrorCodeTypeInvalidCredentials {
		t.Errorf("with a password that is newer than the backup, the connection fails with %s", code)
	}
	s.Disconnect(store)
	session, err := s.LogIn(id, "admin", kastellantest.AdminPassword)
	if err != nil {
		t.Fatalf("the admin of the backup: %v", err)
	}
	in := map[string]string{"SessionId": session, "UserName": "kmsuser", "Role": "crypto-user", "NewPassword": "anotherPassword"}
	if err := s.AtHSM("ChangePassword", in, nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.Client(admin).UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &store, KeyStorePassword: aws.String("anotherPassword")})
	if err != nil {
		t.Fatal(err)
	}
	s.Connect(store)
	if !s.opens(sealed, "a secret") {
		t.Error("a ciphertext from before the loss does not decrypt")
	}
	if again := s.encrypt(s.hsmKey(store), "another secret"); !s.opens(again, "another secret") {
		t.Error("a new key does not work")
	}
	var state *types.KMSInvalidStateException
	if _, err := s.Client(admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &after, Plaintext: []byte("x")}); !errors.As(err, &state) {
		t.Errorf("a key that was made after the backup: %v", err)
	}
}

// TestABackupWithTheCurrentPasswordNeedsNoOther moves a key store to a cluster that was made from the latest backup.
func TestABackupWithTheCurrentPasswordNeedsNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t, "abcd")
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	sealed := s.encrypt(s.hsmKey(store), "a secret")
	b := s.freshBackup(m.ID)
	id := s.restored(*b.BackupId, "cd")
	s.Disconnect(store)
	if err := s.move(store, id); err != nil {
		t.Fatal(err)
	}
	s.Connect(store)
	polltest.Until(t, "the ciphertext to decrypt", func() bool { return s.opens(sealed, "a secret") })
}

// TestAClusterThatLostItsHSMsIsFilledFromItsLatestBackup keeps the cluster: CreateHsm restores what the last backup has.
func TestAClusterThatLostItsHSMsIsFilledFromItsLatestBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	sealed := s.encrypt(s.hsmKey(store), "a secret")
	s.freshBackup(m.ID)
	s.loseAll(m, "ab")
	if state := s.DescribeCluster(m.ID).State; state != hsmtypes.ClusterStateDegraded {
		t.Errorf("the cluster is %s", state)
	}
	s.HSM(m.ID, "a")
	polltest.Until(t, "the keys to be back", func() bool { return s.opens(sealed, "a secret") })
	for _, id := range m.HSMs {
		s.deleteHSM(m.ID, id)
	}
	s.HSM(m.ID, "b")
	if again := s.encrypt(s.hsmKey(store), "another secret"); !s.opens(again, "another secret") {
		t.Error("a new key does not work")
	}
}

// TestTheLastHSMIsBackedUpBeforeItGoes deletes all HSMs one after the other, and has them back with all keys.
func TestTheLastHSMIsBackedUpBeforeItGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	first := s.backup(m.ID)
	sealed := s.encrypt(s.hsmKey(store), "a secret")
	s.deleteHSM(m.ID, m.HSMs[1])
	if b := s.backup(m.ID); *b.BackupId != *first.BackupId {
		t.Errorf("an HSM that is not the last one was backed up: %s", *b.BackupId)
	}
	// As long as a token is not wiped, what is on it may get into a backup of its own.
	polltest.Until(t, "the first token to be wiped", func() bool { return len(s.tokens("b")) == 0 })
	s.deleteHSM(m.ID, m.HSMs[0])
	if b := s.backup(m.ID); *b.BackupId == *first.BackupId {
		t.Error("the last HSM is gone, and there is no backup of it")
	}
	if c := s.DescribeCluster(m.ID); c.State != hsmtypes.ClusterStateActive || len(c.Hsms) != 0 {
		t.Errorf("a cluster without HSMs: %+v", c)
	}
	polltest.Until(t, "the tokens to be wiped", func() bool { return len(s.tokens("a"))+len(s.tokens("b")) == 0 })
	if all := s.backups(m.ID); len(all) != 2 {
		t.Errorf("%d backups, want that of the activation and that of the last HSM", len(all))
	}
	s.HSM(m.ID, "b")
	polltest.Until(t, "the keys to be back", func() bool { return s.opens(sealed, "a secret") })
}

func (s *site) deleteHSM(cluster, id string) {
	s.t.Helper()
	if _, err := s.CloudHSM(admin).DeleteHsm(s.t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &cluster, HsmId: &id}); err != nil {
		s.t.Fatalf("deleting %s: %v", id, err)
	}
	s.WaitHSM(cluster, id, hsmtypes.HsmStateDeleted)
}

// TestClustersAreRelatedByTheirBackups tells which clusters a key store can use in place of its own, and which another store cannot use beside it.
func TestClustersAreRelatedByTheirBackups(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab", func(o *kastellantest.Options) { tune(o, 12) })
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	child := s.restored(*s.freshBackup(m.ID).BackupId, "ab")
	grandchild := s.restored(*s.backup(child).BackupId, "ab")
	stranger := s.Ready("ab")
	for name, id := range map[string]string{"child": child, "grandchild": grandchild} {
		in := m.CreateInput(name)
		in.CloudHsmClusterId = &id
		var inUse *types.CloudHsmClusterInUseException
		if _, err := s.Client(admin).CreateCustomKeyStore(t.Context(), in); !errors.As(err, &inUse) {
			t.Errorf("a second key store on the %s: %v", name, err)
		}
	}
	other := s.KeyStore(stranger.CreateInput("other"))
	s.Disconnect(other)
	s.Disconnect(store)
	var unrelated *types.CloudHsmClusterNotRelatedException
	if err := s.move(store, stranger.ID); !errors.As(err, &unrelated) {
		t.Errorf("moving to a cluster with another history: %v", err)
	}
	if err := s.move(other, child); !errors.As(err, &unrelated) {
		t.Errorf("moving another key store to the child: %v", err)
	}
	for _, id := range []string{grandchild, child, m.ID} {
		if err := s.move(store, id); err != nil {
			t.Errorf("moving to a related cluster: %v", err)
		}
	}
	for _, h := range s.DescribeCluster(m.ID).Hsms {
		s.deleteHSM(m.ID, *h.HsmId)
	}
	if _, err := s.CloudHSM(admin).DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &m.ID}); err != nil {
		t.Fatal(err)
	}
	s.WaitCluster(m.ID, hsmtypes.ClusterStateDeleted)
	if err := s.move(store, grandchild); err != nil {
		t.Errorf("moving to a grandchild of a cluster that is gone: %v", err)
	}
	if err := s.move(other, grandchild); !errors.As(err, &unrelated) {
		t.Errorf("moving another key store to the grandchild: %v", err)
	}
}

// tune raises the quotas and the number of tokens.
func tune(o *kastellantest.Options, hsms int) {
	configured(func(cfg *config.Config) {
		cfg.HSM.Quotas.HSMs, cfg.HSM.Quotas.Clusters = hsms, hsms
		for _, pool := range cfg.HSM.Pools {
			pool.SoftHSM2.Tokens = hsms
		}
	})(o)
}
