package clusters_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/kastellantest"
)

// life is that of a cluster, from CreateCluster to DeleteCluster, in which every operation has its turn and an effect.
type life struct {
	*kastellantest.Server
	cluster, hsm   string
	signed, anchor string
	session        string // the admin's
	alice          string // her session
	backup         string
}

const (
	nobody   = "nobody" // has no permission
	alicePIN = "alices-Password1"
	newPIN   = "alices-Password2"

	noPermission = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudhsm:NoSuchOperation","Resource":"*"}]}`
	sharing      = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},` +
		`"Action":["cloudhsm:DescribeBackups","cloudhsm:CreateCluster"],"Resource":"*"}]}`
)

// turn is a call of an operation by somebody. What it brings about is noted in the life, and waited for.
type turn struct {
	operation string
	call      func(l *life, p someone) error
	before    func(t *testing.T, l *life)
}

// turns are those of a life, in their order.
var turns = []turn{
	{"CreateCluster", func(l *life, p someone) error {
		out, err := p.api.CreateCluster(p.t.Context(), &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm1.medium"), SubnetIds: subnets("ab"), TagList: tags("team", "blue")})
		if err == nil {
			l.cluster = *out.Cluster.ClusterId
		}
		return err
	}, nil},
	{"CreateHsm", func(l *life, p someone) error {
		out, err := p.api.CreateHsm(p.t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &l.cluster, AvailabilityZone: zone("a"), IpAddress: aws.String("10.0.1.77")})
		if err == nil {
			l.hsm = *out.Hsm.HsmId
		}
		return err
	}, nil},
	{"InitializeCluster", func(l *life, p someone) error {
		_, err := p.api.InitializeCluster(p.t.Context(), &cloudhsmv2.InitializeClusterInput{ClusterId: &l.cluster, SignedCert: &l.signed, TrustAnchor: &l.anchor})
		return err
	}, func(t *testing.T, l *life) {
		l.signed, l.anchor = kastellantest.SignRequest(t, *l.DescribeCluster(l.cluster).Certificates.ClusterCsr)
	}},
	{"ActivateCluster", func(l *life, p someone) error {
		return p.atHSM("ActivateCluster", map[string]string{"ClusterId": l.cluster, "Password": kastellantest.AdminPassword})
	}, nil},
	{"Login", func(l *life, p someone) (err error) {
		l.session, err = p.logIn(l.cluster, "admin", kastellantest.AdminPassword, l.session)
		return err
	}, nil},
	{"CreateUser", func(l *life, p someone) error {
		return p.atHSM("CreateUser", map[string]string{"SessionId": l.session, "UserName": "alice", "Role": "crypto-user", "Password": alicePIN})
	}, nil},
	{"ListUsers", func(l *life, p someone) error { return p.atHSM("ListUsers", map[string]string{"SessionId": l.session}) }, nil},
	{"UnlockUser", func(l *life, p someone) error {
		return p.atHSM("UnlockUser", map[string]string{"SessionId": l.session, "UserName": "alice", "Role": "crypto-user"})
	}, func(t *testing.T, l *life) {
		for range 5 {
			if _, err := l.LogIn(l.cluster, "alice", "a-wrong-Password"); err == nil {
				t.Error("a wrong password was taken")
			}
		}
	}},
	{"ListKeys", func(l *life, p someone) error { return p.atHSM("ListKeys", map[string]string{"SessionId": l.alice}) }, func(t *testing.T, l *life) {
		l.alice = must[string](t)(l.LogIn(l.cluster, "alice", alicePIN))
	}},
	{"Logout", func(l *life, p someone) error { return p.atHSM("Logout", map[string]string{"SessionId": l.alice}) }, nil},
	{"ChangePassword", func(l *life, p someone) error {
		return p.atHSM("ChangePassword", map[string]string{"SessionId": l.session, "UserName": "alice", "Role": "crypto-user", "NewPassword": newPIN})
	}, nil},
	{"DeleteUser", func(l *life, p someone) error {
		return p.atHSM("DeleteUser", map[string]string{"SessionId": l.session, "UserName": "alice", "Role": "crypto-user"})
	}, nil},
	{"ModifyCluster", func(l *life, p someone) error {
		_, err := p.api.ModifyCluster(p.t.Context(), &cloudhsmv2.ModifyClusterInput{ClusterId: &l.cluster, BackupRetentionPolicy: keepFor("30")})
		return err
	}, nil},
	{"TagResource", func(l *life, p someone) error {
		_, err := p.api.TagResource(p.t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: &l.cluster, TagList: tags("stage", "test", "team", "red")})
		return err
	}, nil},
	{"ListTags", func(l *life, p someone) error {
		_, err := p.api.ListTags(p.t.Context(), &cloudhsmv2.ListTagsInput{ResourceId: &l.cluster})
		return err
	}, nil},
	{"UntagResource", func(l *life, p someone) error {
		_, err := p.api.UntagResource(p.t.Context(), &cloudhsmv2.UntagResourceInput{ResourceId: &l.cluster, TagKeyList: []string{"stage"}})
		return err
	}, nil},
	{"DescribeClusters", func(l *life, p someone) error {
		_, err := p.api.DescribeClusters(p.t.Context(), &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"states": {"ACTIVE"}}, MaxResults: aws.Int32(5)})
		return err
	}, nil},
	{"DescribeBackups", func(l *life, p someone) error {
		_, err := p.api.DescribeBackups(p.t.Context(), &cloudhsmv2.DescribeBackupsInput{SortAscending: aws.Bool(true)})
		return err
	}, func(t *testing.T, l *life) { l.backup = backupOf(t, l.Server, l.cluster) }},
	{"PutResourcePolicy", func(l *life, p someone) error {
		_, err := p.api.PutResourcePolicy(p.t.Context(), &cloudhsmv2.PutResourcePolicyInput{ResourceArn: aws.String(backupARN(l.backup)), Policy: aws.String(sharing)})
		return err
	}, nil},
	{"GetResourcePolicy", func(l *life, p someone) error {
		_, err := p.api.GetResourcePolicy(p.t.Context(), &cloudhsmv2.GetResourcePolicyInput{ResourceArn: aws.String(backupARN(l.backup))})
		return err
	}, nil},
	{"DeleteResourcePolicy", func(l *life, p someone) error {
		_, err := p.api.DeleteResourcePolicy(p.t.Context(), &cloudhsmv2.DeleteResourcePolicyInput{ResourceArn: aws.String(backupARN(l.backup))})
		return err
	}, nil},
	{"ModifyBackupAttributes", func(l *life, p someone) error {
		_, err := p.api.ModifyBackupAttributes(p.t.Context(), &cloudhsmv2.ModifyBackupAttributesInput{BackupId: &l.backup, NeverExpires: aws.Bool(true)})
		return err
	}, nil},
	{"CopyBackupToRegion", func(l *life, p someone) error {
		_, err := p.api.CopyBackupToRegion(p.t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &l.backup, DestinationRegion: aws.String(otherRegion), TagList: tags("copy", "yes")})
		return err
	}, nil},
	{"DeleteBackup", func(l *life, p someone) error {
		_, err := p.api.DeleteBackup(p.t.Context(), &cloudhsmv2.DeleteBackupInput{BackupId: &l.backup})
		return err
	}, nil},
	{"RestoreBackup", func(l *life, p someone) error {
		_, err := p.api.RestoreBackup(p.t.Context(), &cloudhsmv2.RestoreBackupInput{BackupId: &l.backup})
		return err
	}, func(t *testing.T, l *life) { backupOf(t, l.Server, l.cluster) }}, // the next one, which comes when there is none
	{"DeleteHsm", func(l *life, p someone) error {
		_, err := p.api.DeleteHsm(p.t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &l.cluster, HsmId: &l.hsm})
		return err
	}, nil},
	{"DeleteCluster", func(l *life, p someone) error {
		_, err := p.api.DeleteCluster(p.t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &l.cluster})
		return err
	}, nil},
}

// logIn gives the session, or the one that there was if it fails.
func (p someone) logIn(cluster, user, password, before string) (string, error) {
	var out struct {
		SessionID string `json:"SessionId"`
	}
	err := p.atHSMs.Call(p.t.Context(), "KastellanHSM.Login", map[string]string{"ClusterId": cluster, "UserName": user, "Password": password}, &out)
	if err != nil {
		return before, err
	}
	return out.SessionID, nil
}

func keepFor(days string) *hsmtypes.BackupRetentionPolicy {
	return &hsmtypes.BackupRetentionPolicy{Type: hsmtypes.BackupRetentionTypeDays, Value: &days}
}

// effects are what the calls of a life can change, as far as anybody can see it.
func (l *life) effects(t *testing.T) string {
	t.Helper()
	seen := []any{settled(t, l.Server)}
	if l.cluster == "" {
		return shown(t, seen)
	}
	if l.backup != "" {
		out, err := l.CloudHSM(admin).GetResourcePolicy(t.Context(), &cloudhsmv2.GetResourcePolicyInput{ResourceArn: aws.String(backupARN(l.backup))})
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, backups(t, l.CloudHSM(admin), nil), backups(t, l.CloudHSMIn(admin, otherRegion), nil), aws.ToString(out.Policy))
	}
	if l.session != "" {
		var users any
		err := l.AtHSM("ListUsers", map[string]string{"SessionId": l.session}, &users)
		_, isOld := l.LogIn(l.cluster, "alice", alicePIN)
		ofAlice := l.AtHSM("ListUsers", map[string]string{"SessionId": l.alice}, nil)
		seen = append(seen, users, codeOf(err), codeOf(isOld), codeOf(ofAlice))
	}
	return shown(t, seen)
}

func shown(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWhatIsRefusedChangesNothingAndIsRecorded goes through the life of a cluster. Each call is made by who may not make it
// first, which must have no effect, and then by who may, which must have one unless it only reads. Both are in the audit log.
func TestWhatIsRefusedChangesNothingAndIsRecorded(t *testing.T) {
	t.Parallel()
	l := &life{Server: kastellantest.Start(t, with(t, "ab", func(o *kastellantest.Options) {
		o.Users = []kastellantest.User{{Name: nobody, Policy: noPermission}}
	}))}
	reading := map[string]bool{}
	for _, op := range append(control.Operations(), control.Extensions()...) {
		reading[op.Name] = op.ReadOnly
	}
	for _, turn := range turns {
		if turn.before != nil {
			turn.before(t, l)
		}
		was := l.effects(t)
		err := turn.call(l, as(t, l.Server, nobody))
		if codeOf(err) != denied || !strings.Contains(err.Error(), "is not authorized to perform: cloudhsm:"+turn.operation) {
			t.Errorf("%s without a permission: %v", turn.operation, err)
		}
		if diff := cmp.Diff(was, l.effects(t)); diff != "" {
			t.Errorf("%s was refused and has changed something:\n%s", turn.operation, diff)
		}
		if err := turn.call(l, as(t, l.Server, admin)); err != nil {
			t.Fatalf("%s: %v", turn.operation, err)
		}
		if is := l.effects(t); (is == was) != reading[turn.operation] {
			t.Errorf("%s: read-only is %v:\n%s", turn.operation, reading[turn.operation], cmp.Diff(was, is))
		}
		l.wantRecords(t, turn.operation, reading[turn.operation])
	}
	l.wantNoSecrets(t)
}

func TestNoOperationIsWithoutATurn(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, turn := range turns {
		taken[turn.operation] = true
	}
	for _, op := range append(control.Operations(), control.Extensions()...) {
		if !taken[op.Name] {
			t.Error(fmt.Sprint(op.Name, " has none"))
		}
	}
}
