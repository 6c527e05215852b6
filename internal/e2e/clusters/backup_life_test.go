package clusters_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/metricstest"
	"kastellan.dev/internal/polltest"
)

// TestBackupsComeDailyAndGoWithTime takes one cluster through the weeks: a backup each day, none older than the cluster's policy
// says, but for those that never expire.
func TestBackupsComeDailyAndGoWithTime(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	m := s.Ready("a")
	first := s.backup(m.ID)
	if first.BackupState != hsmtypes.BackupStateReady || *first.ClusterId != m.ID || *first.NeverExpires || first.DeleteTimestamp != nil ||
		first.SourceBackup != nil || first.CopyTimestamp != nil || first.Mode != hsmtypes.ClusterModeFips || *first.HsmType != "hsm2m.medium" {
		t.Errorf("the first backup is %+v", first)
	}
	client := s.CloudHSM(admin)
	_, err := client.ModifyCluster(t.Context(), &cloudhsmv2.ModifyClusterInput{ClusterId: &m.ID, BackupRetentionPolicy: &hsmtypes.BackupRetentionPolicy{
		Type: hsmtypes.BackupRetentionTypeDays, Value: aws.String("7"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ModifyBackupAttributes(t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: first.BackupId, NeverExpires: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	s.pass(23 * time.Hour)
	if b := s.backup(m.ID); *b.BackupId != *first.BackupId {
		t.Error("a backup was taken before a day was over")
	}
	for range 9 {
		known := s.backup(m.ID)
		s.pass(day)
		s.backup(m.ID, known)
	}
	polltest.Until(t, "backups that are a week old to go", func() bool { return len(s.backups(m.ID)) == 8 })
	all := s.backups(m.ID)
	if oldest := all[len(all)-1]; *oldest.BackupId != *first.BackupId || !*oldest.NeverExpires {
		t.Errorf("the backup that never expires is gone: the oldest is %+v", oldest)
	}
	if age := all[0].CreateTimestamp.Sub(*all[len(all)-2].CreateTimestamp); age >= 7*day {
		t.Errorf("backups of %s are there", age)
	}

	s.deleteHSM(m.ID, m.HSMs[0])
	polltest.Until(t, "its token to be wiped", func() bool { return len(s.tokens("a")) == 0 })
	if _, err := client.DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &m.ID}); err != nil {
		t.Fatal(err)
	}
	s.WaitCluster(m.ID, hsmtypes.ClusterStateDeleted) // from then on it is remembered for a while
	last := s.backup(m.ID)
	s.pass(400 * day)
	polltest.Until(t, "all to go but those that stay", func() bool { return len(s.backups(m.ID)) == 2 })
	if kept := s.backups(m.ID); *kept[0].BackupId != *last.BackupId || *kept[1].BackupId != *first.BackupId {
		t.Errorf("%v are left", kept)
	}
	polltest.Until(t, "the cluster to be forgotten", func() bool { return s.DescribeCluster(m.ID).ClusterId == nil })
	id := s.restored(*last.BackupId, "a")
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
}

func TestABackupThatIsDeletedCanBeRestoredForAWeek(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	m := s.Ready("a")
	client := s.CloudHSM(admin)
	first := s.backup(m.ID)
	second := s.freshBackup(m.ID)
	deleted, err := client.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: first.BackupId})
	if err != nil {
		t.Fatal(err)
	}
	if in := deleted.Backup.DeleteTimestamp.Sub(time.Now().Add(25 * time.Hour)); in < 7*day-time.Minute || in > 7*day+time.Minute {
		t.Errorf("it is deleted in %s", in)
	}
	if deleted.Backup.BackupState != hsmtypes.BackupStatePendingDeletion {
		t.Errorf("its state is %s", deleted.Backup.BackupState)
	}
	for name, do := range map[string]func() error{
		"deleting it again": func() error {
			_, err := client.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: first.BackupId})
			return err
		},
		"making a cluster of it": func() error {
			_, err := client.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
				HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("a")}, SourceBackupId: first.BackupId,
			})
			return err
		},
		"copying it": func() error {
			_, err := client.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: first.BackupId, DestinationRegion: aws.String("eu-west-1")})
			return err
		},
		"restoring one that is not deleted": func() error {
			_, err := client.RestoreBackup(t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: second.BackupId})
			return err
		},
	} {
		if err := do(); !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	restored, err := client.RestoreBackup(t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: first.BackupId})
	if err != nil || restored.Backup.BackupState != hsmtypes.BackupStateReady || restored.Backup.DeleteTimestamp != nil {
		t.Fatalf("restoring it: %+v, %v", restored, err)
	}
	if _, err := client.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: first.BackupId}); err != nil {
		t.Fatal(err)
	}
	s.pass(7*day + time.Minute)
	polltest.Until(t, "it to be gone", func() bool { return len(s.backupsBy("backupIds", *first.BackupId)) == 0 })
	if _, err := client.RestoreBackup(t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: first.BackupId}); !isNotFound(err) {
		t.Errorf("restoring a backup that is gone: %v", err)
	}
}

func (s *site) backupsBy(filter string, values ...string) []hsmtypes.Backup {
	s.t.Helper()
	out, err := s.CloudHSM(admin).DescribeBackups(s.t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: map[string][]string{filter: values}})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Backups
}

func (s *site) deleteBackups(cluster string) {
	s.t.Helper()
	for _, each := range s.backups(cluster) {
		if _, err := s.CloudHSM(admin).DeleteBackup(s.t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: each.BackupId}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestABackupStaysWhileAClusterWaitsForItsKeys deletes the backup that a cluster was made from before it has an HSM.
func TestABackupStaysWhileAClusterWaitsForItsKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab", func(o *kastellantest.Options) { tune(o, 12) })
	m := s.Ready("a")
	b := s.backup(m.ID)
	id := s.clusterFrom(*b.BackupId, "b")
	s.deleteHSM(m.ID, m.HSMs[0])
	polltest.Until(t, "its token to be wiped", func() bool { return len(s.tokens("a")) == 0 })
	last := s.backup(m.ID, b)
	s.deleteBackups(m.ID)
	if _, err := s.CloudHSM(admin).DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &m.ID}); err != nil {
		t.Fatal(err)
	}
	s.pass(8 * day)
	polltest.Until(t, "the other backup to be deleted", func() bool { return len(s.backupsBy("backupIds", *last.BackupId)) == 0 })
	if left := s.backups(m.ID); len(left) != 1 || *left[0].BackupId != *b.BackupId {
		t.Fatalf("%v are left", left)
	}
	if n := s.clusterKeys(); !slices.Contains(n, m.ID) {
		t.Fatalf("the backup HSM has the cluster keys %v", n)
	}
	s.HSM(id, "b")
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
	if _, err := s.LogIn(id, "admin", kastellantest.AdminPassword); err != nil {
		t.Errorf("the admin of the backup: %v", err)
	}
	polltest.Until(t, "the backup to be deleted", func() bool { return len(s.backups(m.ID)) == 0 })
	polltest.Until(t, "the cluster key of the first cluster to go", func() bool { return !slices.Contains(s.clusterKeys(), m.ID) })
	if keys := s.clusterKeys(); !slices.Contains(keys, id) {
		polltest.Until(t, "the second cluster to be backed up", func() bool { return slices.Contains(s.clusterKeys(), id) })
	}
}

// TestAClusterKeyGoesWithTheLastThatNeedsIt counts the cluster itself, its backups, and copies of them in other Regions.
func TestAClusterKeyGoesWithTheLastThatNeedsIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	m := s.Ready("a")
	b := s.backup(m.ID)
	client, abroad := s.CloudHSM(admin), s.CloudHSMIn(admin, "eu-west-1")
	if _, err := client.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: b.BackupId, DestinationRegion: aws.String("eu-west-1")}); err != nil {
		t.Fatal(err)
	}
	copies, err := abroad.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{})
	if err != nil || len(copies.Backups) != 1 {
		t.Fatalf("the copies: %+v, %v", copies, err)
	}
	s.deleteHSM(m.ID, m.HSMs[0])
	polltest.Until(t, "its token to be wiped", func() bool { return len(s.tokens("a")) == 0 })
	s.deleteBackups(m.ID)
	s.pass(8 * day)
	polltest.Until(t, "the backups to go", func() bool { return len(s.backups(m.ID)) == 0 })
	if _, err := client.DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &m.ID}); err != nil {
		t.Fatal(err)
	}
	s.WaitCluster(m.ID, hsmtypes.ClusterStateDeleted)
	s.pass(2 * time.Hour)
	polltest.Until(t, "the cluster to go", func() bool { return s.DescribeCluster(m.ID).ClusterId == nil })
	if keys := s.clusterKeys(); !slices.Equal(keys, []string{m.ID}) {
		t.Fatalf("the backup HSM has the cluster keys %v while there is a copy", keys)
	}
	bring := s.lose(vault)
	if _, err := abroad.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: copies.Backups[0].BackupId}); err != nil {
		t.Fatal(err)
	}
	s.pass(8 * day)
	polltest.Until(t, "the copy to go", func() bool {
		left, err := abroad.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{})
		return err == nil && len(left.Backups) == 0
	})
	bring() // the key could not be destroyed meanwhile
	polltest.Until(t, "the cluster key to go", func() bool {
		s.pass(time.Minute)
		return len(s.clusterKeys()) == 0
	})
}

// TestTheKeyOfAClusterWithoutBackupsGoesWithIt deletes the backups first and the cluster later.
func TestTheKeyOfAClusterWithoutBackupsGoesWithIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a")
	m := s.Ready("a")
	s.backup(m.ID)
	s.deleteHSM(m.ID, m.HSMs[0])
	polltest.Until(t, "its token to be wiped", func() bool { return len(s.tokens("a")) == 0 })
	s.deleteBackups(m.ID)
	s.pass(8 * day)
	polltest.Until(t, "the backups to go", func() bool { return len(s.backups(m.ID)) == 0 })
	if keys := s.clusterKeys(); !slices.Equal(keys, []string{m.ID}) {
		t.Fatalf("the backup HSM has the cluster keys %v while the cluster is there", keys)
	}
	if _, err := s.CloudHSM(admin).DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &m.ID}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the cluster key to go", func() bool { return len(s.clusterKeys()) == 0 })
}

// TestAClusterIsBackedUpDespiteFailures loses the backup HSM: that is told, the last HSM stays, and all is well when it is back.
func TestAClusterIsBackedUpDespiteFailures(t *testing.T) {
	t.Parallel()
	log := &auditLog{}
	s := newSite(t, "a", func(o *kastellantest.Options) { o.Audit = log })
	m := s.Ready("a")
	known := s.backup(m.ID)
	bring := s.lose(vault)
	s.pass(25 * time.Hour)
	failures := func() float64 {
		n, _ := metricstest.Value(t, s.Node.Metrics, "kastellan_cloudhsm_backup_failures_total", metricstest.Labels{"cluster": m.ID})
		return n
	}
	polltest.Until(t, "two failures", func() bool { return failures() >= 2 })
	if n := log.count("CreateBackup", m.ID, true); n != 1 {
		t.Errorf("the failures are on record %d times, want once", n)
	}
	if all := s.backups(m.ID); len(all) != 1 {
		t.Errorf("backups that failed are described: %v", all)
	}
	_, err := s.CloudHSM(admin).DeleteHsm(t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &m.ID, HsmId: &m.HSMs[0]})
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the HSM to say why it stays", func() bool {
		hsms := s.DescribeCluster(m.ID).Hsms
		return len(hsms) == 1 && hsms[0].State == hsmtypes.HsmStateDeleteInProgress && aws.ToString(hsms[0].StateMessage) != ""
	})
	bring()
	polltest.Until(t, "the HSM to be deleted", func() bool { s.pass(time.Minute); return len(s.DescribeCluster(m.ID).Hsms) == 0 })
	b := s.backup(m.ID, known)
	if n, _ := metricstest.Value(t, s.Node.Metrics, "kastellan_cloudhsm_last_backup_timestamp_seconds", metricstest.Labels{"cluster": m.ID}); int64(n) != b.CreateTimestamp.Unix() {
		t.Errorf("the last backup is of %v, and the metric says %v", b.CreateTimestamp, n)
	}
}

// TestABackupHSMIsReplacedByAnotherOne declares another one under another name. Clusters are backed up to it at once, and
// their older backups open with it too.
func TestABackupHSMIsReplacedByAnotherOne(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("a")
	old := s.freshBackup(m.ID) // with the kmsuser
	s.lose(vault)
	s.Config.HSM.Vault.Name = "second"
	s.Config.HSM.Vault.SoftHSM2 = &config.SoftHSM2{Module: s.Config.HSM.Vault.SoftHSM2.Module, Directory: t.TempDir()}
	s.Restart()
	fresh := s.backup(m.ID, old)
	if age := fresh.CreateTimestamp.Sub(*old.CreateTimestamp); age > 12*time.Hour {
		t.Errorf("the next backup came after %s", age)
	}
	id := s.restored(*old.BackupId, "b")
	s.WaitCluster(id, hsmtypes.ClusterStateActive)
	if _, err := s.LogIn(id, "kmsuser", m.Password); err != nil {
		t.Errorf("the kmsuser of the backup: %v", err)
	}
}

// TestTheMetricsTellOfHSMsAndTokens counts what there is.
func TestTheMetricsTellOfHSMsAndTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	want := func(name string, labels metricstest.Labels, want float64) {
		t.Helper()
		if got, series := metricstest.Value(t, s.Node.Metrics, name, labels); got != want || series != 1 {
			t.Errorf("%s%v is %v in %d series, want %v", name, labels, got, series, want)
		}
	}
	want("kastellan_cloudhsm_hsms", metricstest.Labels{"cluster": m.ID, "state": "ACTIVE"}, 2)
	want("kastellan_cloudhsm_hsms", metricstest.Labels{"cluster": m.ID, "state": "DEGRADED"}, 0)
	want("kastellan_cloudhsm_tokens_free", metricstest.Labels{"pool": "pool-a"}, 7)
	s.lose("a")
	s.WaitHSM(m.ID, m.HSMs[0], hsmtypes.HsmStateDegraded)
	want("kastellan_cloudhsm_hsms", metricstest.Labels{"cluster": m.ID, "state": "ACTIVE"}, 1)
	want("kastellan_cloudhsm_hsms", metricstest.Labels{"cluster": m.ID, "state": "DEGRADED"}, 1)
}

func TestBackupsAreFilteredSortedAndPaged(t *testing.T) {
	t.Parallel()
	s := newSite(t, "a", controlled(func(cfg *control.Config) { cfg.Timing.Backup = time.Hour }))
	m := s.Ready("a")
	for range 4 {
		known := s.backup(m.ID)
		s.pass(time.Hour)
		s.backup(m.ID, known)
	}
	client := s.CloudHSM(admin)
	all := s.backups(m.ID) // newest first
	if _, err := client.ModifyBackupAttributes(t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: all[1].BackupId, NeverExpires: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: all[3].BackupId}); err != nil {
		t.Fatal(err)
	}
	ids := func(n ...int) (out []string) {
		for _, i := range n {
			out = append(out, *all[i].BackupId)
		}
		return out
	}
	for name, test := range map[string]struct {
		filters   map[string][]string
		ascending bool
		want      []string
	}{
		"all, newest first":             {nil, false, ids(0, 1, 2, 3, 4)},
		"all, oldest first":             {nil, true, ids(4, 3, 2, 1, 0)},
		"two by id":                     {map[string][]string{"backupIds": ids(4, 2)}, false, ids(2, 4)},
		"those that never expire":       {map[string][]string{"neverExpires": {"true"}}, false, ids(1)},
		"those to be deleted":           {map[string][]string{"states": {"PENDING_DELETION"}}, false, ids(3)},
		"those that are ready, by both": {map[string][]string{"states": {"READY"}, "neverExpires": {"false"}}, true, ids(4, 2, 0)},
		"copies":                        {map[string][]string{"sourceBackupIds": ids(0)}, false, nil},
		"of another cluster":            {map[string][]string{"clusterIds": {"cluster-22222222222"}}, false, nil},
	} {
		for _, size := range []int32{1, 2, 50} {
			var got []string
			in := &cloudhsmv2.DescribeBackupsInput{Filters: test.filters, SortAscending: &test.ascending, MaxResults: &size}
			pages := cloudhsmv2.NewDescribeBackupsPaginator(client, in)
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(page.Backups) > int(size) {
					t.Errorf("%s: a page of %d", name, len(page.Backups))
				}
				for _, b := range page.Backups {
					got = append(got, *b.BackupId)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s, by %d: %v, want %v", name, size, got, test.want)
			}
		}
	}
	for name, in := range map[string]*cloudhsmv2.DescribeBackupsInput{
		"a filter that there is not":   {Filters: map[string][]string{"colour": {"red"}}},
		"a token that nobody gave":     {NextToken: aws.String("x")},
		"a filter without values":      {Filters: map[string][]string{"states": {}}},
		"a page of more than there is": {MaxResults: aws.Int32(51)},
	} {
		if _, err := client.DescribeBackups(t.Context(), in); !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
