package clusters_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/store"
)

// listed are the exceptions of every operation by the API's model, beside those that all have: AccessDenied and
// InternalFailure, InvalidRequest, and Service.
var listed = map[string][]string{
	"CopyBackupToRegion": {missing, tagging}, "CreateCluster": {missing, tagging}, "CreateHsm": {missing}, "DeleteBackup": {missing},
	"DeleteCluster": {missing, tagging}, "DeleteHsm": {missing}, "DeleteResourcePolicy": {missing}, "DescribeBackups": {missing, tagging},
	"DescribeClusters": {tagging}, "GetResourcePolicy": {missing}, "InitializeCluster": {missing}, "ListTags": {missing, tagging},
	"ModifyBackupAttributes": {missing}, "ModifyCluster": {missing}, "PutResourcePolicy": {missing}, "RestoreBackup": {missing},
	"TagResource": {missing, tagging, limited}, "UntagResource": {missing, tagging},
}

// neverThrown are those of them that cannot occur here, with the reason.
var neverThrown = map[string]string{
	"DeleteCluster " + tagging:    "nothing is tagged",
	"DescribeBackups " + tagging:  "nothing is tagged",
	"DescribeClusters " + tagging: "nothing is tagged",
	"ListTags " + tagging:         "nothing is tagged",
	"DescribeBackups " + missing:  "a filter that nothing passes gives an empty list",
}

// TestOperationsThrowTheirExceptions makes every request that is refused for itself: those in the wrong
// state are in the tests of package control.
func TestOperationsThrowTheirExceptions(t *testing.T) {
	t.Parallel()
	o := with(t, "ab", nil)
	andConfig(&o, func(cfg *config.Config) {
		cfg.HSM.Subnets = append(cfg.HSM.Subnets,
			config.Subnet{ID: "subnet-33333333", VPC: "vpc-33333333", AvailabilityZone: kastellantest.Region + "c", CIDR: "10.3.0.0/28"},
			config.Subnet{ID: "subnet-44444444", VPC: "vpc-22222222", AvailabilityZone: kastellantest.Region + "a", CIDR: "10.4.0.0/28"},
			config.Subnet{ID: "subnet-55555555", VPC: "vpc-22222222", AvailabilityZone: otherRegion + "a", CIDR: "10.5.0.0/28"},
			config.Subnet{ID: "subnet-66666666", VPC: "vpc-22222222", AvailabilityZone: kastellantest.Region + "d", CIDR: "10.6.0.0/28"})
		cfg.Regions = []string{kastellantest.Region, otherRegion}
	})
	s := kastellantest.Start(t, o)
	api := s.CloudHSM(admin)
	ready := s.Ready("a")
	backup := backupOf(t, s, ready.ID)
	arn := aws.String(backupARN(backup))
	uninitialized := must[*cloudhsmv2.CreateClusterOutput](t)(api.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
		HsmType: aws.String("hsm1.medium"), SubnetIds: []string{kastellantest.Subnet("a"), "subnet-66666666"},
	})).Cluster.ClusterId
	s.WaitCluster(*uninitialized, hsmtypes.ClusterStateUninitialized)

	thrown := map[string]bool{}
	check := func(name, operation, code string, err error) {
		t.Helper()
		if got := codeOf(err); got != code {
			t.Errorf("%s, %s: got %q, want %q: %v", operation, name, got, code, err)
		}
		thrown[operation+" "+code] = true
	}

	newCluster := func(change func(in *cloudhsmv2.CreateClusterInput)) error {
		in := &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SubnetIds: subnets("ab")}
		change(in)
		_, err := api.CreateCluster(t.Context(), in)
		return err
	}
	type creation = func(in *cloudhsmv2.CreateClusterInput)
	for name, tc := range map[string]struct {
		change creation
		code   string
	}{
		"no such subnet":     {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = []string{"subnet-77777777"} }, invalid},
		"a malformed subnet": {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = []string{"subnet"} }, invalid},
		"no subnets":         {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = []string{} }, invalid},
		"eleven subnets":     {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = slices.Repeat(subnets("a"), 11) }, invalid},
		"a subnet twice":     {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = subnets("aa") }, invalid},
		"two subnets in one zone": {func(in *cloudhsmv2.CreateClusterInput) {
			in.SubnetIds = []string{kastellantest.Subnet("a"), "subnet-44444444"}
		}, invalid},
		"two VPCs": {func(in *cloudhsmv2.CreateClusterInput) {
			in.SubnetIds = []string{kastellantest.Subnet("a"), "subnet-33333333"}
		}, invalid},
		"a subnet of another Region":   {func(in *cloudhsmv2.CreateClusterInput) { in.SubnetIds = []string{"subnet-55555555"} }, invalid},
		"a type that there is not":     {func(in *cloudhsmv2.CreateClusterInput) { in.HsmType = aws.String("hsm1.large") }, invalid},
		"a malformed type":             {func(in *cloudhsmv2.CreateClusterInput) { in.HsmType = aws.String("medium") }, invalid},
		"an old type that is not FIPS": {func(in *cloudhsmv2.CreateClusterInput) { in.HsmType, in.Mode = aws.String("hsm1.medium"), "NON_FIPS" }, invalid},
		"a mode that there is not":     {func(in *cloudhsmv2.CreateClusterInput) { in.Mode = "SLOW" }, invalid},
		"two kinds of addresses":       {func(in *cloudhsmv2.CreateClusterInput) { in.NetworkType = "DUALSTACK" }, invalid},
		"backups kept for 6 days":      {func(in *cloudhsmv2.CreateClusterInput) { in.BackupRetentionPolicy = keepFor("6") }, invalid},
		"backups kept for 380 days":    {func(in *cloudhsmv2.CreateClusterInput) { in.BackupRetentionPolicy = keepFor("380") }, invalid},
		"backups kept for a week":      {func(in *cloudhsmv2.CreateClusterInput) { in.BackupRetentionPolicy = keepFor("week") }, invalid},
		"backups kept for 1000 days":   {func(in *cloudhsmv2.CreateClusterInput) { in.BackupRetentionPolicy = keepFor("1000") }, invalid},
		"backups kept without a number": {func(in *cloudhsmv2.CreateClusterInput) {
			in.BackupRetentionPolicy = &hsmtypes.BackupRetentionPolicy{Type: "DAYS"}
		}, invalid},
		"backups kept without a unit": {func(in *cloudhsmv2.CreateClusterInput) {
			in.BackupRetentionPolicy = &hsmtypes.BackupRetentionPolicy{Value: aws.String("30")}
		}, invalid},
		"a tag of AWS":                {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags("aws:name", "v") }, tagging},
		"a tag of AWS in capitals":    {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags("AWS:name", "v") }, tagging},
		"a tag twice":                 {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags("k", "1", "k", "2") }, tagging},
		"a tag with other characters": {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags("k\n", "1") }, invalid},
		"a key of 129 characters":     {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags(strings.Repeat("k", 129), "1") }, invalid},
		"a value of 257 characters":   {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = tags("k", strings.Repeat("v", 257)) }, invalid},
		"no tags in a list":           {func(in *cloudhsmv2.CreateClusterInput) { in.TagList = []hsmtypes.Tag{} }, invalid},
		"no such backup":              {func(in *cloudhsmv2.CreateClusterInput) { in.SourceBackupId = aws.String(noBackup) }, missing},
		"no such backup by its ARN":   {func(in *cloudhsmv2.CreateClusterInput) { in.SourceBackupId = aws.String(backupARN(noBackup)) }, missing},
		"a backup of nobody": {func(in *cloudhsmv2.CreateClusterInput) {
			in.SourceBackupId = aws.String(strings.Replace(backupARN(noBackup), kastellantest.Account, otherAccount, 1))
		}, missing},
		"a backup in another Region": {func(in *cloudhsmv2.CreateClusterInput) {
			in.SourceBackupId = aws.String(strings.Replace(*arn, kastellantest.Region, otherRegion, 1))
		}, invalid},
		"a malformed backup": {func(in *cloudhsmv2.CreateClusterInput) { in.SourceBackupId = aws.String("backup") }, invalid},
		"an older type for a newer's": {func(in *cloudhsmv2.CreateClusterInput) {
			in.SourceBackupId, in.HsmType = &backup, aws.String("hsm1.medium")
		}, invalid},
		"another mode than the backup's": {func(in *cloudhsmv2.CreateClusterInput) { in.SourceBackupId, in.Mode = &backup, "NON_FIPS" }, invalid},
	} {
		check(name, "CreateCluster", tc.code, newCluster(tc.change))
	}

	newHSM := func(cluster, zone, address string) error {
		in := &cloudhsmv2.CreateHsmInput{ClusterId: &cluster, AvailabilityZone: &zone}
		if address != "" {
			in.IpAddress = &address
		}
		_, err := api.CreateHsm(t.Context(), in)
		return err
	}
	for name, tc := range map[string]struct{ cluster, zone, address, code string }{
		"no such cluster":                  {noCluster, "us-east-1a", "", missing},
		"a malformed cluster":              {"cluster-1", "us-east-1a", "", invalid},
		"a zone that it is not in":         {ready.ID, "us-east-1b", "", invalid},
		"a zone that there is not":         {ready.ID, "us-east-1z", "", invalid},
		"a malformed zone":                 {ready.ID, "use1-az1", "", invalid},
		"a zone without a pool":            {*uninitialized, "us-east-1d", "", failing},
		"an address in use":                {ready.ID, "us-east-1a", "10.0.1.4", invalid},
		"the network's address":            {ready.ID, "us-east-1a", "10.0.1.0", invalid},
		"the last one that is kept back":   {ready.ID, "us-east-1a", "10.0.1.3", invalid},
		"the broadcast address":            {ready.ID, "us-east-1a", "10.0.1.255", invalid},
		"an address outside of the subnet": {ready.ID, "us-east-1a", "10.0.2.4", invalid},
		"numbers that are no address":      {ready.ID, "us-east-1a", "10.0.1.256", invalid},
		"an address with a zero before":    {ready.ID, "us-east-1a", "10.0.1.010", invalid},
		"an IPv6 address":                  {ready.ID, "us-east-1a", "2001:db8::1", invalid},
	} {
		check(name, "CreateHsm", tc.code, newHSM(tc.cluster, tc.zone, tc.address))
	}

	certificate := strings.Repeat("A", 20_001)
	for _, c := range []struct {
		name, operation, code string
		call                  func() (any, error)
	}{
		{"a certificate that is too long", "InitializeCluster", invalid, func() (any, error) {
			return api.InitializeCluster(t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: uninitialized, SignedCert: &certificate, TrustAnchor: aws.String("A")})
		}},
		{"an anchor that is too long", "InitializeCluster", invalid, func() (any, error) {
			return api.InitializeCluster(t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: uninitialized, SignedCert: aws.String("A"), TrustAnchor: &certificate})
		}},
		{"an anchor with other characters", "InitializeCluster", invalid, func() (any, error) {
			return api.InitializeCluster(t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: uninitialized, SignedCert: aws.String("A"), TrustAnchor: aws.String("{}")})
		}},
		{"nothing to be modified", "ModifyCluster", invalid, func() (any, error) {
			return api.ModifyCluster(t.Context(), &cloudhsmv2.ModifyClusterInput{ClusterId: &ready.ID})
		}},
		{"backups kept for 380 days", "ModifyCluster", invalid, func() (any, error) {
			return api.ModifyCluster(t.Context(), &cloudhsmv2.ModifyClusterInput{ClusterId: &ready.ID, BackupRetentionPolicy: keepFor("380")})
		}},
		{"a filter that there is not", "DescribeClusters", invalid, func() (any, error) {
			return api.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"zones": {"a"}}})
		}},
		{"a filter without values", "DescribeClusters", invalid, func() (any, error) {
			return api.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"states": {}}})
		}},
		{"pages of 26", "DescribeClusters", invalid, func() (any, error) {
			return api.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{MaxResults: aws.Int32(26)})
		}},
		{"a filter that there is not", "DescribeBackups", invalid, func() (any, error) {
			return api.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: map[string][]string{"vpcIds": {"a"}}})
		}},
		{"pages of nothing", "DescribeBackups", invalid, func() (any, error) {
			return api.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{MaxResults: aws.Int32(0)})
		}},
		{"pages of 101", "ListTags", invalid, func() (any, error) {
			return api.ListTags(t.Context(), &cloudhsmv2.ListTagsInput{ResourceId: &ready.ID, MaxResults: aws.Int32(101)})
		}},
		{"a cluster with HSMs", "DeleteCluster", invalid, func() (any, error) {
			return api.DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &ready.ID})
		}},
		{"no HSM is named", "DeleteHsm", invalid, func() (any, error) {
			return api.DeleteHsm(t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &ready.ID})
		}},
		{"a backup that is not deleted", "RestoreBackup", invalid, func() (any, error) {
			return api.RestoreBackup(t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: &backup})
		}},
		{"a malformed id", "DeleteBackup", invalid, func() (any, error) {
			return api.DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: aws.String("backup-1")})
		}},
		{"a malformed id", "ModifyBackupAttributes", invalid, func() (any, error) {
			return api.ModifyBackupAttributes(t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: aws.String("backup-1"), NeverExpires: aws.Bool(true)})
		}},
		{"the same Region", "CopyBackupToRegion", invalid, func() (any, error) {
			return api.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &backup, DestinationRegion: aws.String(kastellantest.Region)})
		}},
		{"a Region that there is not", "CopyBackupToRegion", invalid, func() (any, error) {
			return api.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &backup, DestinationRegion: aws.String("eu-north-9")})
		}},
		{"a tag of AWS", "CopyBackupToRegion", tagging, func() (any, error) {
			return api.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &backup, DestinationRegion: aws.String(otherRegion), TagList: tags("aws:k", "")})
		}},
		{"a policy that is none", "PutResourcePolicy", invalid, func() (any, error) {
			return api.PutResourcePolicy(t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: arn, Policy: aws.String("{}")})
		}},
		{"a policy without principals", "PutResourcePolicy", invalid, func() (any, error) {
			return api.PutResourcePolicy(t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: arn, Policy: aws.String(noPermission)})
		}},
		{"a policy for a cluster", "PutResourcePolicy", invalid, func() (any, error) {
			return api.PutResourcePolicy(t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: aws.String(clusterARN(ready.ID)), Policy: aws.String(sharing)})
		}},
		{"no ARN", "GetResourcePolicy", invalid, func() (any, error) {
			return api.GetResourcePolicy(t.Context(), &cloudhsmv2.GetResourcePolicyInput{})
		}},
		{"no ARN", "DeleteResourcePolicy", invalid, func() (any, error) {
			return api.DeleteResourcePolicy(t.Context(), &cloudhsmv2.DeleteResourcePolicyInput{})
		}},
		{"a tag of AWS", "TagResource", tagging, func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &ready.ID, TagList: tags("aws:k", "")})
		}},
		{"51 tags", "TagResource", invalid, func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &ready.ID, TagList: numbered(0, 51)})
		}},
		{"50 tags", "TagResource", "", func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &ready.ID, TagList: numbered(0, 50)})
		}},
		{"one of them again", "TagResource", "", func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &ready.ID, TagList: numbered(7, 8)})
		}},
		{"one more", "TagResource", limited, func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &ready.ID, TagList: tags("one more", "")})
		}},
		{"the resource is an HSM", "TagResource", invalid, func() (any, error) {
			return api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: aws.String(noHSM), TagList: tags("k", "")})
		}},
		{"a tag of AWS", "UntagResource", tagging, func() (any, error) {
			return api.UntagResource(t.Context(), &cloudhsmv2.UntagResourceInput{ResourceId: &ready.ID, TagKeyList: []string{"aws:k"}})
		}},
		{"no keys", "UntagResource", invalid, func() (any, error) {
			return api.UntagResource(t.Context(), &cloudhsmv2.UntagResourceInput{ResourceId: &ready.ID, TagKeyList: []string{}})
		}},
	} {
		_, err := c.call()
		check(c.name, c.operation, c.code, err)
	}
	// What does not exist.
	gone := &stage{Server: s, cluster: noCluster, backup: noBackup, deleted: noBackup}
	for _, a := range askings {
		if slices.Contains(listed[a.operation], missing) && (a.on == "cluster" || a.on == "backup") {
			check("nothing has the id", a.operation, missing, a.call(gone, as(t, s, admin)))
		}
	}
	for operation, codes := range listed {
		for _, code := range append(codes, invalid) {
			if !thrown[operation+" "+code] && neverThrown[operation+" "+code] == "" {
				t.Errorf("nothing makes %s throw %s", operation, code)
			}
		}
	}
}

func numbered(from, to int) (out []hsmtypes.Tag) {
	for i := from; i < to; i++ {
		out = append(out, tags("key-"+string(rune('a'+i/10))+string(rune('0'+i%10)), "")...)
	}
	return out
}

// failingStore fails while it is told to.
type failingStore struct {
	store.Store
	now *atomic.Bool
}

func (f failingStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if f.now.Load() {
		return os.ErrPermission
	}
	return f.Store.View(ctx, fn)
}

func (f failingStore) Update(ctx context.Context, fn func(store.Tx) error) (store.Revision, error) {
	if f.now.Load() {
		return 0, os.ErrPermission
	}
	return f.Store.Update(ctx, fn)
}

// TestAStorageThatFailsIsAnInternalFailure asks for every operation meanwhile, and once more when it is over.
func TestAStorageThatFailsIsAnInternalFailure(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	o := with(t, "a", nil)
	andControl(&o, func(c *control.Config) { c.Store = failingStore{c.Store, &fails} })
	s := newStage(t, o)
	p := as(t, s.Server, admin)
	for _, a := range askings {
		if a.operation == "Logout" { // its call begins with another one
			a.call = func(s *stage, p someone) error { return p.atHSM("Logout", map[string]string{"SessionId": s.reader}) }
		}
		fails.Store(true)
		err := a.call(s, p)
		fails.Store(false)
		if codeOf(err) != internal || strings.Contains(err.Error(), "permission") {
			t.Errorf("%s: %v", a.operation, err)
		}
		if err := a.call(s, p); codeOf(err) != a.code {
			t.Errorf("%s afterwards: %v", a.operation, err)
		}
	}
}
