package clusters_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/store"
)

// makeKeys makes keys directly on the token of a pool.
func (s *site) makeKeys(pool string, n int) (labels []string) {
	s.t.Helper()
	token := s.open(pool)
	defer token.Close()
	for i := range n {
		labels = append(labels, fmt.Sprintf("arn:aws:kms:us-east-1:111122223333:key/%04d", i))
		template := pkcs11.Template{Label: labels[i], ID: []byte(labels[i]), Token: true, Encrypt: true, Extractable: true}
		if _, err := token.GenerateKey(s.t.Context(), template); err != nil {
			s.t.Fatal(err)
		}
	}
	return labels
}

// keyLabels are the labels of the KMS keys on the first token of a pool, sorted.
func (s *site) keyLabels(pool string) []string {
	s.t.Helper()
	all := slices.DeleteFunc(s.labels(pool), func(label string) bool { return hsm.IsOwn(label, nil) })
	slices.Sort(all)
	return all
}

// rewrite changes the storage records whose keys begin with prefix; nil deletes one. It fails unless there are such.
func (s *site) rewrite(prefix string, change func(key string, value []byte) []byte) {
	s.t.Helper()
	_, err := s.plane.Load().Store.Update(s.t.Context(), func(tx store.Tx) error {
		found := make(map[string][]byte)
		for entry, err := range tx.Scan(prefix) {
			if err != nil {
				return err
			}
			found[entry.Key] = entry.Value
		}
		if len(found) == 0 {
			return errors.New("there is no record")
		}
		for key, value := range found {
			changed := change(key, bytes.Clone(value))
			if changed == nil {
				if err := tx.Delete(key); err != nil {
					return err
				}
			} else if err := tx.Put(key, changed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatalf("changing the records at %s: %v", prefix, err)
	}
}

const (
	backupRecords  = "cloudhsm-backup/111122223333/us-east-1/"
	contentRecords = "cloudhsm-backup-content/111122223333/us-east-1/"
	userRecords    = "cloudhsm-users/111122223333/us-east-1/"
)

// TestABackupOfManyKeysIsRestoredWhole has more keys than fit into one record.
func TestABackupOfManyKeysIsRestoredWhole(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab", controlled(func(cfg *control.Config) { cfg.Chunk = 10 }))
	m := s.Ready("a")
	s.backup(m.ID)
	labels := s.makeKeys("pool-a", 21)
	b := s.freshBackup(m.ID)
	s.rewrite(contentRecords+*b.BackupId+"/00002", func(_ string, value []byte) []byte { return value })
	id := s.restored(*b.BackupId, "b")
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
	if got := s.keyLabels("pool-b"); !slices.Equal(got, labels) {
		t.Errorf("%d keys were restored, want %d", len(got), len(labels))
	}
}

// TestContentThatIsNotAsItWasMakesNoHSM changes a record of a backup. The HSM that is to be made of it says why it is not ready,
// and does not become ACTIVE with fewer keys.
func TestContentThatIsNotAsItWasMakesNoHSM(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("a")
	s.backup(m.ID)
	s.makeKeys("pool-a", 3)
	b := s.freshBackup(m.ID)
	id := s.clusterFrom(*b.BackupId, "b")
	var whole []byte
	s.rewrite(contentRecords+*b.BackupId, func(_ string, v []byte) []byte {
		whole = bytes.Clone(v)
		v[len(v)/2] ^= 1
		return v
	})
	made := s.create(id, "b")
	s.explains(id, made, *b.BackupId)
	if state := s.DescribeCluster(id).State; state != hsmtypes.ClusterStateUninitialized {
		t.Errorf("the cluster is %s", state)
	}
	s.rewrite(contentRecords+*b.BackupId, func(string, []byte) []byte { return whole })
	polltest.Until(t, "the HSM to be made when the record is as it was", func() bool {
		s.pass(time.Minute)
		return s.DescribeCluster(id).Hsms[0].State == hsmtypes.HsmStateActive
	})
	if h := s.DescribeCluster(id).Hsms[0]; *h.HsmId != made || aws.ToString(h.StateMessage) != "" {
		t.Errorf("the HSM is %+v", h)
	}
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
}

// TestABackupThatIsDamagedIsNotPassedOver has the owner of a cluster decide that an older backup will do, by deleting the damaged one.
func TestABackupThatIsDamagedIsNotPassedOver(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	s.deleteHSM(m.ID, m.HSMs[1])
	polltest.Until(t, "its token to be wiped", func() bool { return len(s.tokens("b")) == 0 })
	m.HSMs = m.HSMs[:1]
	s.backup(m.ID)
	older := s.makeKeys("pool-a", 1)
	s.freshBackup(m.ID)
	s.makeKeys("pool-a", 2)
	b := s.freshBackup(m.ID)
	s.rewrite(contentRecords+*b.BackupId, func(string, []byte) []byte { return nil })
	s.loseAll(m, "a")
	id := s.create(m.ID, "b")
	s.explains(m.ID, id, *b.BackupId)
	if _, err := s.CloudHSM(admin).DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: b.BackupId}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the HSM to be made from the backup before", func() bool {
		s.pass(time.Minute)
		return slices.ContainsFunc(s.DescribeCluster(m.ID).Hsms, func(h hsmtypes.Hsm) bool { return *h.HsmId == id && h.State == hsmtypes.HsmStateActive })
	})
	if got := s.keyLabels("pool-b"); !slices.Equal(got, older) {
		t.Errorf("the HSM has the keys %v", got)
	}
}

func (s *site) create(cluster, letter string) (id string) {
	s.t.Helper()
	out, err := s.CloudHSM(admin).CreateHsm(s.t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &cluster, AvailabilityZone: aws.String(kastellantest.Region + letter)})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.Hsm.HsmId
}

// explains waits until an HSM that cannot be made says why, in these words among others.
func (s *site) explains(cluster, id, why string) {
	s.t.Helper()
	polltest.Until(s.t, "the HSM to say why it is not ready", func() bool {
		hsms := s.DescribeCluster(cluster).Hsms
		i := slices.IndexFunc(hsms, func(h hsmtypes.Hsm) bool { return *h.HsmId == id })
		if i < 0 || hsms[i].State != hsmtypes.HsmStateCreateInProgress {
			s.t.Fatalf("the HSM is not being made: %+v", hsms)
		}
		return strings.Contains(aws.ToString(hsms[i].StateMessage), why)
	})
}

func withMembers(members map[string]any) func(string, []byte) []byte {
	return func(_ string, value []byte) []byte {
		record := make(map[string]any)
		if err := json.Unmarshal(value, &record); err != nil {
			panic(err)
		}
		for name, member := range members {
			record[name] = member
		}
		changed, err := json.Marshal(record)
		if err != nil {
			panic(err)
		}
		return changed
	}
}

// TestUsersOpenAtTheirPlaceOnly copies the users of one cluster to another.
func TestUsersOpenAtTheirPlaceOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab", func(o *kastellantest.Options) { tune(o, 12) })
	mine, theirs := s.Ready("a"), s.Ready("a")
	var users []byte
	s.rewrite(userRecords+mine.ID, func(_ string, v []byte) []byte { users = v; return v })
	s.rewrite(userRecords+theirs.ID, func(string, []byte) []byte { return users })
	if _, err := s.LogIn(theirs.ID, "admin", kastellantest.AdminPassword); err == nil {
		t.Error("the users of one cluster open as those of another one")
	}
	b, older := s.freshBackup(mine.ID), s.backups(mine.ID)
	var sealed any
	s.rewrite(backupRecords+*older[len(older)-1].BackupId, func(_ string, v []byte) []byte {
		record := make(map[string]any)
		if err := json.Unmarshal(v, &record); err != nil {
			t.Fatal(err)
		}
		sealed = record["Users"]
		return v
	})
	s.rewrite(backupRecords+*b.BackupId, withMembers(map[string]any{"Users": sealed}))
	_, err := s.CloudHSM(admin).CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
		HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("b")}, SourceBackupId: b.BackupId,
	})
	if err == nil {
		t.Error("a cluster was made of a backup with the users of another one")
	}
}

// TestKeysOfOneClusterDoNotGetIntoAnother takes the content of a backup for that of another cluster's, as somebody could who has the root key.
func TestKeysOfOneClusterDoNotGetIntoAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t, "abc", func(o *kastellantest.Options) { tune(o, 12) })
	mine, theirs := s.Ready("a"), s.Ready("b")
	s.backup(mine.ID)
	s.makeKeys("pool-a", 2)
	from, to := s.freshBackup(mine.ID), s.freshBackup(theirs.ID)
	sealer := s.plane.Load().Sealer
	var text []byte
	s.rewrite(contentRecords+*from.BackupId, func(k string, v []byte) []byte {
		var err error
		if text, err = sealer.Open("cloudhsm backup content", k, v); err != nil {
			t.Fatal(err)
		}
		return v
	})
	text = bytes.ReplaceAll(text, []byte(mine.ID), []byte(theirs.ID))
	s.rewrite(contentRecords+*to.BackupId, func(k string, _ []byte) []byte {
		sealed, err := sealer.Seal("cloudhsm backup content", k, text)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	})
	s.rewrite(backupRecords+*to.BackupId, withMembers(map[string]any{"Keys": 2}))
	id := s.clusterFrom(*to.BackupId, "c")
	s.explains(id, s.create(id, "c"), *to.BackupId)
}

// TestNothingOfUsersOrKeysStandsInTheStore looks for what is secret in the file of the metadata.
func TestNothingOfUsersOrKeysStandsInTheStore(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("ledger"))
	key := s.hsmKey(store)
	s.freshBackup(m.ID)
	var pin string
	s.rewrite("cloudhsm-token/pool-a/", func(k string, v []byte) []byte {
		var record struct{ PINs []byte }
		if err := json.Unmarshal(v, &record); err != nil {
			t.Fatal(err)
		}
		text, err := s.plane.Load().Sealer.Open("cloudhsm token pins", k, record.PINs)
		var pins struct{ User string }
		if err := errors.Join(err, json.Unmarshal(text, &pins)); err != nil {
			t.Fatal(err)
		}
		pin = pins.User
		return v
	})
	s.Stop()
	data := readAll(t, filepath.Join(s.Directory, "kastellan.db"))
	if !bytes.Contains(data, []byte(m.ID)) || !bytes.Contains(data, []byte(key)) {
		t.Fatal("the file is not the one that was looked for")
	}
	for what, text := range map[string]string{
		"the admin's password": kastellantest.AdminPassword, "the kmsuser's password": m.Password, "a PIN": pin,
		"a user's verifier": `"verifier"`, "a user's name": "kmsuser", "a wrapped key": `"Wrapped"`,
	} {
		if text == "" || bytes.Contains(data, []byte(text)) {
			t.Errorf("%s stands in the store", what)
		}
	}
}

// TestABackupIsTakenUnderTraffic makes and deletes keys while backups are taken. Each of them can be restored, and has the keys that were
// there all the time.
func TestABackupIsTakenUnderTraffic(t *testing.T) {
	t.Parallel()
	s := newSite(t, "abcd")
	m := s.Ready("ab")
	ledger := s.KeyStore(m.CreateInput("ledger"))
	stays := s.encrypt(s.hsmKey(ledger), "stays")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var traffic sync.WaitGroup
	traffic.Go(func() {
		for n := 0; n < 20 && ctx.Err() == nil; n++ { // backups take longer with each of them
			s.hsmKey(ledger)
		}
	})
	traffic.Go(func() {
		token := s.open("pool-a")
		defer token.Close()
		for i := 0; ctx.Err() == nil; i++ {
			h, err := token.GenerateKey(t.Context(), pkcs11.Template{Label: fmt.Sprint("arn:passing:", i), Token: true, Encrypt: true, Extractable: true})
			if err == nil {
				err = token.Destroy(t.Context(), h)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	traffic.Go(func() {
		for ctx.Err() == nil {
			if !s.opens(stays, "stays") {
				t.Error("a backup stopped decryption")
				return
			}
		}
	})
	var last hsmtypes.Backup
	for range 3 {
		last = s.freshBackup(m.ID)
	}
	cancel()
	traffic.Wait()
	s.Disconnect(ledger)
	id := s.restored(*last.BackupId, "cd")
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
	labels := s.keyLabels("pool-c")
	out, err := s.Client(admin).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: stays})
	if err == nil {
		t.Fatalf("a key store that is not connected decrypts: %v", out)
	}
	if err := s.move(ledger, id); err != nil {
		t.Fatal(err)
	}
	s.Connect(ledger)
	if !s.opens(stays, "stays") {
		t.Errorf("the key that was there all the time is not among the %d of the backup", len(labels))
	}
}
