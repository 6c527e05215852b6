package clusters_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
)

// TestClustersAreListedInPagesAndByFilters has clusters in two accounts, Regions and VPCs.
func TestClustersAreListedInPagesAndByFilters(t *testing.T) {
	t.Parallel()
	o := with(t, "ab", func(o *kastellantest.Options) {
		o.Users = []kastellantest.User{{Name: "stranger", Account: otherAccount}}
	})
	andConfig(&o, func(cfg *config.Config) {
		cfg.HSM.Quotas.Clusters = 50
		cfg.HSM.Subnets = append(cfg.HSM.Subnets,
			config.Subnet{ID: "subnet-33333333", VPC: "vpc-33333333", AvailabilityZone: kastellantest.Region + "a", CIDR: "10.3.0.0/28"},
			config.Subnet{ID: "subnet-44444444", VPC: "vpc-44444444", AvailabilityZone: otherRegion + "a", CIDR: "10.4.0.0/28"})
	})
	s := kastellantest.Start(t, o)
	made := func(client *cloudhsmv2.Client, subnet string) string {
		in := &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{subnet}}
		return *must[*cloudhsmv2.CreateClusterOutput](t)(client.CreateCluster(t.Context(), in)).Cluster.ClusterId
	}
	api, abroad, stranger := s.CloudHSM(admin), s.CloudHSMIn(admin, otherRegion), s.CloudHSM("stranger")
	var all []string
	for range 29 {
		all = append(all, made(api, kastellantest.Subnet("a")))
	}
	inOtherVPC := made(api, "subnet-33333333")
	all = append(all, inOtherVPC)
	slices.Sort(all)
	theirs, away := made(stranger, kastellantest.Subnet("a")), made(abroad, "subnet-44444444")
	must[*cloudhsmv2.DeleteClusterOutput](t)(api.DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &all[3]}))
	s.WaitCluster(all[3], hsmtypes.ClusterStateDeleted)
	for _, id := range all {
		if id != all[3] {
			s.WaitCluster(id, hsmtypes.ClusterStateUninitialized)
		}
	}

	describe := func(client *cloudhsmv2.Client, in *cloudhsmv2.DescribeClustersInput) (ids []string, next *string) {
		t.Helper()
		out := must[*cloudhsmv2.DescribeClustersOutput](t)(client.DescribeClusters(t.Context(), in))
		for _, c := range out.Clusters {
			ids = append(ids, *c.ClusterId)
		}
		return ids, out.NextToken
	}
	pages := func(filters map[string][]string, size int32) (ids []string, sizes []int) {
		t.Helper()
		in := &cloudhsmv2.DescribeClustersInput{Filters: filters}
		if size > 0 {
			in.MaxResults = &size
		}
		for {
			page, next := describe(api, in)
			ids, sizes = append(ids, page...), append(sizes, len(page))
			if next == nil {
				return ids, sizes
			}
			in.NextToken = next
		}
	}
	for _, tc := range []struct {
		size  int32
		sizes []int
	}{{0, []int{25, 5}}, {25, []int{25, 5}}, {15, []int{15, 15}}, {10, []int{10, 10, 10}}, {7, []int{7, 7, 7, 7, 2}}} {
		ids, sizes := pages(nil, tc.size)
		if !slices.Equal(ids, all) || !slices.Equal(sizes, tc.sizes) {
			t.Errorf("pages of %d have %v:\n%s", tc.size, sizes, cmp.Diff(all, ids))
		}
	}
	if ids, sizes := pages(nil, 1); !slices.Equal(ids, all) || len(sizes) != len(all) {
		t.Errorf("%d pages of one", len(sizes))
	}
	for name, tc := range map[string]struct {
		filters map[string][]string
		want    []string
	}{
		"by ids":                   {map[string][]string{"clusterIds": {all[7], all[2]}}, []string{all[2], all[7]}},
		"by an id that is nowhere": {map[string][]string{"clusterIds": {noCluster}}, nil},
		"by one that is elsewhere": {map[string][]string{"clusterIds": {theirs, away}}, nil},
		"by VPC":                   {map[string][]string{"vpcIds": {"vpc-33333333", "vpc-44444444"}}, []string{inOtherVPC}},
		"by state":                 {map[string][]string{"states": {"DELETED"}}, all[3:4]},
		"by a state of none":       {map[string][]string{"states": {"DEGRADED"}}, nil},
		"by all of them":           {map[string][]string{"states": {"UNINITIALIZED", "DELETED"}, "vpcIds": {"vpc-22222222", "vpc-33333333"}, "clusterIds": all[:4]}, all[:4]},
		"by two that exclude":      {map[string][]string{"states": {"UNINITIALIZED"}, "clusterIds": all[3:4]}, nil},
	} {
		if ids, _ := pages(tc.filters, 2); !slices.Equal(ids, tc.want) {
			t.Errorf("%s: %v", name, ids)
		}
	}
	if ids, _ := describe(stranger, &cloudhsmv2.DescribeClustersInput{}); !slices.Equal(ids, []string{theirs}) {
		t.Errorf("the stranger sees %v", ids)
	}
	if ids, _ := describe(abroad, &cloudhsmv2.DescribeClustersInput{}); !slices.Equal(ids, []string{away}) {
		t.Errorf("in the other Region there are %v", ids)
	}

	_, next := describe(api, &cloudhsmv2.DescribeClustersInput{MaxResults: aws.Int32(4), Filters: map[string][]string{"states": {"UNINITIALIZED"}}})
	for name, tc := range map[string]struct {
		client *cloudhsmv2.Client
		token  string
	}{
		"another account's": {stranger, *next}, "another Region's": {abroad, *next}, "nobody's": {api, "bm9uZQ"}, "malformed": {api, "?"},
	} {
		_, err := tc.client.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{NextToken: &tc.token})
		if codeOf(err) != invalid {
			t.Errorf("%s token: %v", name, err)
		}
	}
	if _, err := api.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{NextToken: next}); codeOf(err) != invalid {
		t.Errorf("another operation's token: %v", err)
	}
	// The last one that was listed leaves the filter, and the list goes on behind it.
	must[*cloudhsmv2.DeleteClusterOutput](t)(api.DeleteCluster(t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &all[4]}))
	s.WaitCluster(all[4], hsmtypes.ClusterStateDeleted)
	if ids, _ := describe(api, &cloudhsmv2.DescribeClustersInput{NextToken: next, MaxResults: aws.Int32(1), Filters: map[string][]string{"states": {"UNINITIALIZED"}}}); !slices.Equal(ids, all[5:6]) {
		t.Errorf("after a change: %v, want %s", ids, all[5])
	}
}

// TestTagsAreListedInPages gives a cluster fifty tags whose keys differ in case only, in part.
func TestTagsAreListedInPages(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, with(t, "a", nil))
	api := s.CloudHSM(admin)
	id := s.NewCluster("a")
	want := append(numbered(0, 48), tags("Key", "1", "key", "2")...)
	must[*cloudhsmv2.TagResourceOutput](t)(api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &id, TagList: want}))
	list := func(size *int32) (got []hsmtypes.Tag, pages int) {
		in := &cloudhsmv2.ListTagsInput{ResourceId: &id, MaxResults: size}
		for {
			out := must[*cloudhsmv2.ListTagsOutput](t)(api.ListTags(t.Context(), in))
			got, pages = append(got, out.TagList...), pages+1
			if out.NextToken == nil {
				return got, pages
			}
			in.NextToken = out.NextToken
		}
	}
	for _, tc := range []struct {
		size  *int32
		pages int
	}{{nil, 1}, {aws.Int32(100), 1}, {aws.Int32(50), 1}, {aws.Int32(49), 2}, {aws.Int32(25), 2}, {aws.Int32(1), 50}} {
		if got, pages := list(tc.size); pages != tc.pages || !slices.EqualFunc(got, want, sameTag) {
			t.Errorf("%d pages of %v", pages, aws.ToInt32(tc.size))
		}
	}
	page := must[*cloudhsmv2.ListTagsOutput](t)(api.ListTags(t.Context(), &cloudhsmv2.ListTagsInput{ResourceId: &id, MaxResults: aws.Int32(49)}))
	must[*cloudhsmv2.UntagResourceOutput](t)(api.UntagResource(t.Context(), &cloudhsmv2.UntagResourceInput{ResourceId: &id, TagKeyList: []string{"key", "key-a0", "never-there"}}))
	for name, token := range map[string]*string{"of more tags than are left": page.NextToken, "malformed": aws.String("?")} {
		if _, err := api.ListTags(t.Context(), &cloudhsmv2.ListTagsInput{ResourceId: &id, NextToken: token}); codeOf(err) != invalid {
			t.Errorf("a token %s: %v", name, err)
		}
	}
	if got, _ := list(nil); len(got) != 48 || slices.ContainsFunc(got, func(tag hsmtypes.Tag) bool { return *tag.Key == "key" }) || !slices.ContainsFunc(got, func(tag hsmtypes.Tag) bool { return *tag.Key == "Key" }) {
		t.Errorf("%d tags are left", len(got))
	}
	if got := s.DescribeCluster(id).TagList; len(got) != 48 {
		t.Errorf("%d tags are described", len(got))
	}
}

func sameTag(a, b hsmtypes.Tag) bool { return *a.Key == *b.Key && *a.Value == *b.Value }

// TestBackupsAreListedInPagesAndByFilters has copies of one backup, and shares them.
func TestBackupsAreListedInPagesAndByFilters(t *testing.T) {
	t.Parallel()
	o := withRole(t)
	s := newStage(t, o)
	api, stranger := s.CloudHSM(admin), s.CloudHSM("stranger")
	abroad := *backups(t, s.CloudHSMIn(admin, otherRegion), nil)[0].BackupId
	in := &cloudhsmv2.CopyBackupToRegionInput{BackupId: &abroad, DestinationRegion: aws.String(kastellantest.Region)}
	for range 2 {
		must[*cloudhsmv2.CopyBackupToRegionOutput](t)(s.CloudHSMIn(admin, otherRegion).CopyBackupToRegion(t.Context(), in))
	}
	must[*cloudhsmv2.ModifyBackupAttributesOutput](t)(api.ModifyBackupAttributes(t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: &s.backup, NeverExpires: aws.Bool(true)}))
	var copies []string
	for _, b := range backups(t, api, map[string][]string{"sourceBackupIds": {abroad}, "states": {"READY"}}) {
		copies = append(copies, *b.BackupId)
	}
	pages := func(client *cloudhsmv2.Client, in cloudhsmv2.DescribeBackupsInput) (ids []string) {
		t.Helper()
		for {
			out := must[*cloudhsmv2.DescribeBackupsOutput](t)(client.DescribeBackups(t.Context(), &in))
			for _, b := range out.Backups {
				ids = append(ids, *b.BackupId)
			}
			if out.NextToken == nil {
				return ids
			}
			in.NextToken = out.NextToken
		}
	}
	sorted := func(ids ...string) []string { slices.Sort(ids); return ids }
	every := sorted(append([]string{s.backup, s.deleted}, copies...)...)
	for name, tc := range map[string]struct {
		filters map[string][]string
		want    []string
	}{
		"all":                   {nil, every},
		"by ids":                {map[string][]string{"backupIds": {s.backup, abroad, noBackup}}, []string{s.backup}},
		"by cluster":            {map[string][]string{"clusterIds": {s.cluster}}, every},
		"by another cluster":    {map[string][]string{"clusterIds": {noCluster}}, nil},
		"by source":             {map[string][]string{"sourceBackupIds": {abroad}}, sorted(append([]string{s.deleted}, copies...)...)},
		"by state":              {map[string][]string{"states": {"PENDING_DELETION"}}, []string{s.deleted}},
		"those that are kept":   {map[string][]string{"neverExpires": {"true"}}, []string{s.backup}},
		"those that are not":    {map[string][]string{"neverExpires": {"false"}, "states": {"READY"}}, sorted(copies...)},
		"by several":            {map[string][]string{"neverExpires": {"true"}, "clusterIds": {s.cluster}, "states": {"READY", "DELETED"}}, []string{s.backup}},
		"by several that clash": {map[string][]string{"neverExpires": {"true"}, "states": {"PENDING_DELETION"}}, nil},
	} {
		for _, size := range []int32{1, 2, 50} {
			down := pages(api, cloudhsmv2.DescribeBackupsInput{Filters: tc.filters, MaxResults: &size})
			up := pages(api, cloudhsmv2.DescribeBackupsInput{Filters: tc.filters, MaxResults: &size, SortAscending: aws.Bool(true)})
			if !slices.Equal(sorted(down...), tc.want) || !slices.Equal(sorted(up...), tc.want) {
				t.Errorf("%s, in pages of %d: %v, %v; want %v", name, size, down, up, tc.want)
			}
		}
	}
	share := func(id string) {
		must[*cloudhsmv2.PutResourcePolicyOutput](t)(api.PutResourcePolicy(t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: aws.String(backupARN(id)), Policy: aws.String(sharing)}))
	}
	if ids := pages(stranger, cloudhsmv2.DescribeBackupsInput{Shared: aws.Bool(true)}); len(ids) != 0 {
		t.Errorf("without a policy %v are shared", ids)
	}
	for _, id := range copies {
		share(id)
	}
	one := int32(1)
	if ids := pages(stranger, cloudhsmv2.DescribeBackupsInput{Shared: aws.Bool(true), MaxResults: &one}); !slices.Equal(sorted(ids...), sorted(copies...)) {
		t.Errorf("%v are shared, want %v", ids, copies)
	}
	if ids := pages(stranger, cloudhsmv2.DescribeBackupsInput{}); len(ids) != 0 {
		t.Errorf("the stranger owns %v", ids)
	}
	if ids := pages(api, cloudhsmv2.DescribeBackupsInput{Shared: aws.Bool(true)}); len(ids) != 0 {
		t.Errorf("with their owner %v are shared", ids)
	}
	s.mayRestore(t, stranger, copies[0])
}

// mayRestore makes clusters of backups as somebody of another account, who has the ARN of one that is shared. One that is not
// is as one that is not there.
func (s *stage) mayRestore(t *testing.T, stranger *cloudhsmv2.Client, shared string) {
	t.Helper()
	restore := func(id string) error {
		_, err := stranger.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{
			HsmType: aws.String("hsm2m.medium"), SubnetIds: subnets("a"), SourceBackupId: aws.String(backupARN(id)),
		})
		return err
	}
	wantError(t, restore(shared), "")
	hidden, absent := restore(s.backup), restore(noBackup)
	wantError(t, hidden, missing)
	wantError(t, absent, missing)
	if _, err := stranger.CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &shared, DestinationRegion: aws.String(otherRegion)}); codeOf(err) != missing {
		t.Errorf("a shared backup was copied: %v", err)
	}
	owner := s.CloudHSM(admin)
	must[*cloudhsmv2.DeleteResourcePolicyOutput](t)(owner.DeleteResourcePolicy(t.Context(), &cloudhsmv2.DeleteResourcePolicyInput{ResourceArn: aws.String(backupARN(shared))}))
	wantError(t, restore(shared), missing)
}
