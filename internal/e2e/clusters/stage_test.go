package clusters_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
)

// stage is a cluster that is in use, with two backups, about which everything can be asked without changing much.
type stage struct {
	*kastellantest.Server
	cluster string
	backup  string // READY
	deleted string // PENDING_DELETION
	session string // the admin's
	reader  string // that of a crypto user
}

// asking is a call of an operation, and how it ends for somebody who may make it: with a refusal for
// another reason, so that it can be made again.
type asking struct {
	operation string
	call      func(s *stage, p someone) error
	code      string
	on        string // what it is about: "cluster", "backup", "session", or nothing
	brings    bool   // tags, or the keys of tags
}

var askings = []asking{
	{"CopyBackupToRegion", func(s *stage, p someone) error {
		_, err := p.api.CopyBackupToRegion(p.t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &s.backup, DestinationRegion: aws.String(otherRegion), TagList: tags("cost", "1")})
		return err
	}, "", "backup", true},
	{"CreateCluster", func(_ *stage, p someone) error {
		_, err := p.api.CreateCluster(p.t.Context(), &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SubnetIds: subnets("a"), TagList: tags("cost", "1")})
		return err
	}, "", "", true},
	{"CreateHsm", func(s *stage, p someone) error {
		_, err := p.api.CreateHsm(p.t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &s.cluster, AvailabilityZone: zone("z")})
		return err
	}, invalid, "cluster", false},
	{"DeleteBackup", func(s *stage, p someone) error {
		_, err := p.api.DeleteBackup(p.t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: &s.deleted})
		return err
	}, invalid, "backup", false},
	{"DeleteCluster", func(s *stage, p someone) error {
		_, err := p.api.DeleteCluster(p.t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &s.cluster})
		return err
	}, invalid, "cluster", false},
	{"DeleteHsm", func(s *stage, p someone) error {
		_, err := p.api.DeleteHsm(p.t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &s.cluster, HsmId: aws.String(noHSM)})
		return err
	}, missing, "cluster", false},
	{"DeleteResourcePolicy", func(s *stage, p someone) error {
		_, err := p.api.DeleteResourcePolicy(p.t.Context(), &cloudhsmv2.DeleteResourcePolicyInput{ResourceArn: aws.String(backupARN(s.backup))})
		return err
	}, "", "backup", false},
	{"DescribeBackups", func(_ *stage, p someone) error {
		_, err := p.api.DescribeBackups(p.t.Context(), &cloudhsmv2.DescribeBackupsInput{})
		return err
	}, "", "", false},
	{"DescribeClusters", func(_ *stage, p someone) error {
		_, err := p.api.DescribeClusters(p.t.Context(), &cloudhsmv2.DescribeClustersInput{})
		return err
	}, "", "", false},
	{"GetResourcePolicy", func(s *stage, p someone) error {
		_, err := p.api.GetResourcePolicy(p.t.Context(), &cloudhsmv2.GetResourcePolicyInput{ResourceArn: aws.String(backupARN(s.backup))})
		return err
	}, "", "backup", false},
	{"InitializeCluster", func(s *stage, p someone) error {
		_, err := p.api.InitializeCluster(p.t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: &s.cluster, SignedCert: aws.String("none"), TrustAnchor: aws.String("none")})
		return err
	}, invalid, "cluster", false},
	{"ListTags", func(s *stage, p someone) error {
		_, err := p.api.ListTags(p.t.Context(), &cloudhsmv2.ListTagsInput{ResourceId: &s.cluster})
		return err
	}, "", "cluster", false},
	{"ModifyBackupAttributes", func(s *stage, p someone) error {
		_, err := p.api.ModifyBackupAttributes(p.t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: &s.backup, NeverExpires: aws.Bool(true)})
		return err
	}, "", "backup", false},
	{"ModifyCluster", func(s *stage, p someone) error {
		_, err := p.api.ModifyCluster(p.t.Context(), &cloudhsmv2.ModifyClusterInput{ClusterId: &s.cluster})
		return err
	}, invalid, "cluster", false},
	{"PutResourcePolicy", func(s *stage, p someone) error {
		_, err := p.api.PutResourcePolicy(p.t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: aws.String(backupARN(s.backup)), Policy: aws.String("{")})
		return err
	}, invalid, "backup", false},
	{"RestoreBackup", func(s *stage, p someone) error {
		_, err := p.api.RestoreBackup(p.t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: &s.backup})
		return err
	}, invalid, "backup", false},
	{"TagResource", func(s *stage, p someone) error {
		_, err := p.api.TagResource(p.t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &s.cluster, TagList: tags("cost", "1")})
		return err
	}, "", "cluster", true},
	{"UntagResource", func(s *stage, p someone) error {
		_, err := p.api.UntagResource(p.t.Context(), &cloudhsmv2.UntagResourceInput{ResourceId: &s.cluster, TagKeyList: []string{"cost"}})
		return err
	}, "", "cluster", true},
	{"ActivateCluster", func(s *stage, p someone) error {
		return p.atHSM("ActivateCluster", map[string]string{"ClusterId": s.cluster, "Password": kastellantest.AdminPassword})
	}, invalid, "cluster", false},
	{"ChangePassword", func(s *stage, p someone) error {
		return p.atHSM("ChangePassword", map[string]string{"SessionId": s.session, "UserName": "none", "Role": "crypto-user", "NewPassword": newPIN})
	}, missing, "session", false},
	{"CreateUser", func(s *stage, p someone) error {
		return p.atHSM("CreateUser", map[string]string{"SessionId": s.session, "UserName": "reader", "Role": "crypto-user", "Password": newPIN})
	}, invalid, "session", false},
	{"DeleteUser", func(s *stage, p someone) error {
		return p.atHSM("DeleteUser", map[string]string{"SessionId": s.session, "UserName": "none", "Role": "crypto-user"})
	}, missing, "session", false},
	{"ListKeys", func(s *stage, p someone) error {
		return p.atHSM("ListKeys", map[string]string{"SessionId": s.reader})
	}, "", "session", false},
	{"ListUsers", func(s *stage, p someone) error {
		return p.atHSM("ListUsers", map[string]string{"SessionId": s.session})
	}, "", "session", false},
	{"Login", func(s *stage, p someone) error {
		return p.atHSM("Login", map[string]string{"ClusterId": s.cluster, "UserName": "reader", "Password": alicePIN})
	}, "", "cluster", false},
	{"Logout", func(s *stage, p someone) error {
		session, err := s.LogIn(s.cluster, "reader", alicePIN)
		if err != nil {
			return err
		}
		return p.atHSM("Logout", map[string]string{"SessionId": session})
	}, "", "session", false},
	{"UnlockUser", func(s *stage, p someone) error {
		return p.atHSM("UnlockUser", map[string]string{"SessionId": s.session, "UserName": "none", "Role": "crypto-user"})
	}, missing, "session", false},
}

// newStage has no lack of clusters, and a subnet in the other Region too.
func newStage(t *testing.T, o kastellantest.Options) *stage {
	t.Helper()
	andConfig(&o, func(cfg *config.Config) {
		cfg.HSM.Quotas.Clusters = 1000
		cfg.HSM.Subnets = append(cfg.HSM.Subnets, config.Subnet{ID: kastellantest.Subnet("e"), VPC: "vpc-33333333", AvailabilityZone: otherRegion + "a", CIDR: "10.9.0.0/24"})
	})
	s := &stage{Server: kastellantest.Start(t, o)}
	s.cluster = s.Ready("a").ID
	must[*cloudhsmv2.TagResourceOutput](t)(s.CloudHSM(admin).TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &s.cluster, TagList: tags("team", "blue")}))
	s.backup = backupOf(t, s.Server, s.cluster)
	must[*cloudhsmv2.TagResourceOutput](t)(s.CloudHSM(admin).TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &s.backup, TagList: tags("team", "blue")}))
	copied := elsewhere(t, s.Server, s.backup, kastellantest.Region, otherRegion)
	s.deleted = elsewhere(t, s.Server, copied, otherRegion, kastellantest.Region)
	must[*cloudhsmv2.DeleteBackupOutput](t)(s.CloudHSM(admin).DeleteBackup(t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: &s.deleted}))
	s.session = must[string](t)(s.LogIn(s.cluster, "admin", kastellantest.AdminPassword))
	in := map[string]string{"SessionId": s.session, "UserName": "reader", "Role": "crypto-user", "Password": alicePIN}
	if err := s.AtHSM("CreateUser", in, nil); err != nil {
		t.Fatal(err)
	}
	s.reader = must[string](t)(s.LogIn(s.cluster, "reader", alicePIN))
	return s
}
