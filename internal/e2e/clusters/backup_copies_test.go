package clusters_test

import (
	"errors"
	"path/filepath"
	"slices"
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

const abroad = "eu-west-1"

// withAbroad gives a site pools and subnets in two zones of another Region.
func withAbroad(t *testing.T) func(*kastellantest.Options) {
	return configured(func(cfg *config.Config) {
		module, dir := cfg.HSM.Vault.SoftHSM2.Module, t.TempDir()
		for i, zone := range []string{abroad + "a", abroad + "b"} {
			id := subnetAbroad(i)
			cfg.HSM.Subnets = append(cfg.HSM.Subnets, config.Subnet{ID: id, VPC: "vpc-33333333", AvailabilityZone: zone, CIDR: []string{"10.1.1.0/24", "10.1.2.0/24"}[i]})
			cfg.HSM.Pools = append(cfg.HSM.Pools, config.Pool{
				Name: "pool-" + zone, AvailabilityZone: zone, SoftHSM2: &config.SoftHSM2{Module: module, Directory: filepath.Join(dir, zone)},
			})
		}
	})
}

func subnetAbroad(i int) string { return []string{"subnet-3333333a", "subnet-3333333b"}[i] }

// TestACopyOfABackupIsRestoredInItsRegion copies a backup, and makes of it a cluster of the other Region's HSMs. A key store uses that
// beside the one of the first Region, though the clusters share a history.
func TestACopyOfABackupIsRestoredInItsRegion(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab", withAbroad(t))
	m := s.Ready("ab")
	s.KeyStore(m.CreateInput("home")) // changes the password
	s.backup(m.ID)
	s.makeKeys("pool-a", 2)
	b := s.freshBackup(m.ID)
	here, there := s.CloudHSM(admin), s.CloudHSMIn(admin, abroad)
	_, err := here.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: b.BackupId, TagList: []hsmtypes.Tag{{Key: aws.String("team"), Value: aws.String("ledger")}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]*cloudhsmv2.CopyBackupToRegionInput{
		"into its own Region": {BackupId: b.BackupId, DestinationRegion: aws.String(kastellantest.Region)},
		"with a tag twice": {BackupId: b.BackupId, DestinationRegion: aws.String(abroad), TagList: []hsmtypes.Tag{
			{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("a"), Value: aws.String("2")},
		}},
	} {
		if _, err := here.CopyBackupToRegion(t.Context(), in); err == nil {
			t.Errorf("a backup was copied %s", name)
		}
	}
	s.pass(day)
	out, err := here.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: b.BackupId, DestinationRegion: aws.String(abroad)})
	if err != nil {
		t.Fatal(err)
	}
	if d := out.DestinationBackup; *d.SourceBackup != *b.BackupId || *d.SourceCluster != m.ID || *d.SourceRegion != kastellantest.Region || !d.CreateTimestamp.Equal(*b.CreateTimestamp) {
		t.Errorf("the copy is %+v", d)
	}
	other := hsmtypes.Tag{Key: aws.String("team"), Value: aws.String("other")}
	if _, err := here.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: b.BackupId, DestinationRegion: aws.String(abroad), TagList: []hsmtypes.Tag{other}}); err != nil {
		t.Fatal(err)
	}
	copies, err := there.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: map[string][]string{"sourceBackupIds": {*b.BackupId}}})
	if err != nil || len(copies.Backups) != 2 {
		t.Fatalf("%+v, %v", copies, err)
	}
	tags := []string{*copies.Backups[0].TagList[0].Value, *copies.Backups[1].TagList[0].Value}
	slices.Sort(tags)
	if !slices.Equal(tags, []string{"ledger", "other"}) {
		t.Errorf("the copies have the tags %v", tags)
	}
	copied := copies.Backups[0]
	if *copied.BackupId == *b.BackupId || copied.CopyTimestamp == nil || copied.CopyTimestamp.Sub(*copied.CreateTimestamp) < day || *copied.SourceRegion != kastellantest.Region {
		t.Errorf("the copy is %+v", copied)
	}

	made, err := there.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
		HsmType: aws.String("hsm2m.medium"), SourceBackupId: copied.BackupId, SubnetIds: []string{subnetAbroad(0), subnetAbroad(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	cluster := func() hsmtypes.Cluster {
		out, err := there.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"clusterIds": {*made.Cluster.ClusterId}}})
		if err != nil || len(out.Clusters) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.Clusters[0]
	}
	polltest.Until(t, "the cluster to be made", func() bool { return cluster().State == hsmtypes.ClusterStateUninitialized })
	for i, zone := range []string{abroad + "a", abroad + "b"} {
		if _, err := there.CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: made.Cluster.ClusterId, AvailabilityZone: &zone}); err != nil {
			t.Fatal(err)
		}
		polltest.Until(t, "the HSM to be made", func() bool {
			c := cluster()
			return len(c.Hsms) == i+1 && !slices.ContainsFunc(c.Hsms, func(h hsmtypes.Hsm) bool { return h.State != hsmtypes.HsmStateActive })
		})
	}
	if got, want := s.keyLabels("pool-"+abroad+"b"), s.keyLabels("pool-a"); len(want) != 2 || !slices.Equal(got, want) {
		t.Errorf("the HSM has the keys %v, and the one at home %v", got, want)
	}
	in := m.CreateInput("abroad")
	in.CloudHsmClusterId = made.Cluster.ClusterId
	if _, err := s.ClientIn(admin, abroad).CreateCustomKeyStore(t.Context(), in); err != nil {
		t.Errorf("a key store on the cluster abroad: %v", err)
	}
	var notFound *types.CloudHsmClusterNotFoundException
	if _, err := s.Client(admin).CreateCustomKeyStore(t.Context(), &awskms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("other"), CloudHsmClusterId: made.Cluster.ClusterId, TrustAnchorCertificate: &m.Anchor, KeyStorePassword: &m.Password,
	}); !errors.As(err, &notFound) {
		t.Errorf("a key store on a cluster in another Region: %v", err)
	}
}

// TestABackupIsSharedWithAnotherAccount makes a cluster of another account's backup, by its ARN.
func TestABackupIsSharedWithAnotherAccount(t *testing.T) {
	t.Parallel()
	const bob, theirs = "bob", "444455556666"
	s := newSite(t, "ab", func(o *kastellantest.Options) {
		tune(o, 12)
		o.Users = append(o.Users, kastellantest.User{Name: bob, Account: theirs}, kastellantest.User{Name: "eve", Account: "777788889999"})
	})
	m := s.Ready("a")
	b, another := s.backup(m.ID), s.freshBackup(m.ID)
	mine, his := s.CloudHSM(admin), s.CloudHSM(bob)
	shared := func(c *cloudhsmv2.Client) (ids []string) {
		t.Helper()
		pages := cloudhsmv2.NewDescribeBackupsPaginator(c, &cloudhsmv2.DescribeBackupsInput{Shared: aws.Bool(true), MaxResults: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, each := range page.Backups {
				ids = append(ids, *each.BackupId)
			}
		}
		return ids
	}
	from := func(source string) (*cloudhsmv2.CreateClusterOutput, error) {
		return his.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
			HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("b")}, SourceBackupId: &source,
		})
	}
	if got := shared(his); len(got) != 0 {
		t.Errorf("backups that are not shared are described: %v", got)
	}
	if _, err := from(*b.BackupArn); err == nil {
		t.Error("a cluster was made of a backup that is not shared")
	}
	principals := []string{theirs, "arn:aws:iam::" + theirs + ":user/" + bob}
	for i, each := range []hsmtypes.Backup{b, another} {
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principals[i] + `"},
			"Action":["cloudhsm:DescribeBackups","cloudhsm:CreateCluster"],"Resource":"*"}]}`
		if _, err := mine.PutResourcePolicy(t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: each.BackupArn, Policy: &document}); err != nil {
			t.Fatal(err)
		}
	}
	if got := shared(his); !slices.Equal(got, []string{*another.BackupId, *b.BackupId}) {
		t.Errorf("the shared backups are %v", got)
	}
	if got := shared(s.CloudHSM("eve")); len(got) != 0 {
		t.Errorf("a third account sees %v", got)
	}
	if got := shared(mine); len(got) != 0 {
		t.Errorf("the owner's own backups are shared with it: %v", got)
	}
	if _, err := from(*b.BackupId); !isNotFound(err) {
		t.Errorf("making a cluster of another account's backup by its id: %v", err)
	}
	if _, err := his.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: b.BackupId, DestinationRegion: aws.String(abroad)}); !isNotFound(err) {
		t.Errorf("copying another account's backup: %v", err)
	}
	if _, err := his.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: b.BackupId}); !isNotFound(err) {
		t.Errorf("deleting another account's backup: %v", err)
	}
	made, err := from(*b.BackupArn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.DeleteResourcePolicy(t.Context(), &cloudhsmv2.DeleteResourcePolicyInput{ResourceArn: b.BackupArn}); err != nil {
		t.Fatal(err)
	}
	if got := shared(his); !slices.Equal(got, []string{*another.BackupId}) {
		t.Errorf("when one is not shared any more, these are: %v", got)
	}
	polltest.Until(t, "an HSM of the other account's", func() bool { // which waits for the cluster
		_, err := his.CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: made.Cluster.ClusterId, AvailabilityZone: aws.String("us-east-1b")})
		return err == nil
	})
	polltest.Until(t, "the cluster to be ACTIVE", func() bool {
		out, err := his.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{})
		return err == nil && len(out.Clusters) == 1 && out.Clusters[0].State == hsmtypes.ClusterStateActive
	})
}
