package clusters_test

import (
	"strings"
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

// owned is a managed cluster with a key store on it.
type owned struct {
	*arena
	*kastellantest.Managed
	t       *testing.T
	store   string
	key     string
	session string // of whoever logged in last
}

// newOwned makes a cluster in two zones with a key store that was connected once, and has a key.
func newOwned(t *testing.T) *owned {
	t.Helper()
	o := &owned{arena: newArena(t, "ab"), t: t}
	o.Managed = o.Ready("ab")
	o.store = o.KeyStore(o.CreateInput("owned"))
	o.key = *o.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &o.store}).Arn
	return o
}

// must ends the test on an error.
func (o *owned) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// asAdmin does something with the users.
func (o *owned) asAdmin(operation string, in map[string]string) {
	o.t.Helper()
	session, err := o.LogIn(o.ID, "admin", kastellantest.AdminPassword)
	o.must(err)
	in["SessionId"] = session
	o.must(o.AtHSM(operation, in, nil))
}

// setPassword gives the kmsuser a password that the key store does not know.
func (o *owned) setPassword(password string) {
	o.t.Helper()
	o.asAdmin("ChangePassword", map[string]string{"UserName": "kmsuser", "Role": "crypto-user", "NewPassword": password})
}

// tell tells the key store a password of the kmsuser.
func (o *owned) tell(password string) {
	o.t.Helper()
	_, err := o.Client(admin).UpdateCustomKeyStore(o.t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &o.store, KeyStorePassword: &password})
	o.must(err)
}

// deleteHSMs deletes all HSMs.
func (o *owned) deleteHSMs() {
	o.t.Helper()
	for _, h := range o.DescribeCluster(o.ID).Hsms {
		_, err := o.CloudHSM(admin).DeleteHsm(o.t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &o.ID, HsmId: h.HsmId})
		o.must(err)
		o.WaitHSM(o.ID, *h.HsmId, hsmtypes.HsmStateDeleted)
	}
}

// reload puts changed subnets into force.
func (o *owned) reload(change func(subnet *config.Subnet) (keep bool)) {
	o.t.Helper()
	next := *o.Config
	next.HSM.Subnets = nil
	for _, subnet := range o.Config.HSM.Subnets {
		if change(&subnet) {
			next.HSM.Subnets = append(next.HSM.Subnets, subnet)
		}
	}
	o.must(o.Node.Reload(&next))
}

func (o *owned) faulty(lines ...string) {
	for _, f := range o.faults {
		f.Set(o.t, lines...)
	}
}

const newPassword = "another1Password"

// rebuild makes a cluster from the latest backup of the one that is gone, and has the key store use it.
func (o *owned) rebuild() {
	o.t.Helper()
	client := o.CloudHSM(admin)
	var found *cloudhsmv2.DescribeBackupsOutput
	polltest.Until(o.t, "a backup of the cluster, and none that is still being taken", func() bool {
		var err error
		found, err = client.DescribeBackups(o.t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: map[string][]string{"clusterIds": {o.ID}}})
		o.must(err)
		return len(found.Backups) > 0 && found.Backups[0].BackupState == hsmtypes.BackupStateReady
	})
	out, err := client.CreateCluster(o.t.Context(), &cloudhsmv2.CreateClusterInput{
		HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("a"), kastellantest.Subnet("b")}, SourceBackupId: found.Backups[0].BackupId,
	})
	o.must(err)
	o.ID = *out.Cluster.ClusterId
	o.WaitCluster(o.ID, hsmtypes.ClusterStateUninitialized)
	o.HSM(o.ID, "a")
	o.HSM(o.ID, "b")
	_, err = o.Client(admin).UpdateCustomKeyStore(o.t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &o.store, CloudHsmClusterId: &o.ID})
	o.must(err)
}

// TestEachErrorCodeHasItsCauseItsEvidenceAndItsFix goes through the codes that a key store on a managed cluster can fail
// with: what brings it about, what is shown of it, and that what is told to be done about it helps.
func TestEachErrorCodeHasItsCauseItsEvidenceAndItsFix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		code  types.ConnectionErrorCodeType
		step  string // that failed last
		says  string // part of why
		cause func(o *owned)
		fix   func(o *owned)
	}{
		{
			"the cluster was deleted", types.ConnectionErrorCodeTypeClusterNotFound, "find cluster", "cluster",
			func(o *owned) {
				o.deleteHSMs()
				_, err := o.CloudHSM(admin).DeleteCluster(o.t.Context(), &cloudhsmv2.DeleteClusterInput{ClusterId: &o.ID})
				o.must(err)
				o.WaitCluster(o.ID, hsmtypes.ClusterStateDeleted)
			},
			(*owned).rebuild,
		},
		{
			"all HSMs were deleted", types.ConnectionErrorCodeTypeInsufficientCloudhsmHsms, "check cluster state", "no HSM",
			(*owned).deleteHSMs,
			func(o *owned) { o.HSM(o.ID, "a") },
		},
		{
			"a subnet is full", types.ConnectionErrorCodeTypeInsufficientFreeAddressesInSubnet, "reserve addresses", kastellantest.Subnet("a"),
			func(o *owned) {
				o.reload(func(s *config.Subnet) bool {
					if s.ID == kastellantest.Subnet("a") {
						s.InUse = 250 // of 251, and the HSM has one
					}
					return true
				})
			},
			func(o *owned) { o.reload(func(*config.Subnet) bool { return true }) },
		},
		{
			"a subnet was deleted", types.ConnectionErrorCodeTypeSubnetNotFound, "reserve addresses", kastellantest.Subnet("b"),
			func(o *owned) { o.reload(func(s *config.Subnet) bool { return s.ID != kastellantest.Subnet("b") }) },
			func(o *owned) { o.reload(func(*config.Subnet) bool { return true }) },
		},
		{
			"the admin set another password", types.ConnectionErrorCodeTypeInvalidCredentials, "log in", "CKR_PIN_INCORRECT",
			func(o *owned) { o.setPassword(newPassword) },
			func(o *owned) { o.tell(newPassword) },
		},
		{
			"five wrong passwords locked the user", types.ConnectionErrorCodeTypeUserLockedOut, "log in", "CKR_PIN_LOCKED",
			func(o *owned) {
				for range 5 {
					if _, err := o.LogIn(o.ID, "kmsuser", "aWrongPassword"); err == nil {
						o.t.Fatal("a wrong password let somebody in")
					}
				}
			},
			func(o *owned) { o.setPassword(newPassword); o.tell(newPassword) },
		},
		{
			"the user is logged in elsewhere", types.ConnectionErrorCodeTypeUserLoggedIn, "log in", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
			func(o *owned) {
				o.setPassword(newPassword)
				o.tell(newPassword)
				var err error
				o.session, err = o.LogIn(o.ID, "kmsuser", newPassword)
				o.must(err)
			},
			func(o *owned) { o.must(o.AtHSM("Logout", map[string]string{"SessionId": o.session}, nil)) },
		},
		{
			"the user was deleted", types.ConnectionErrorCodeTypeUserNotFound, "log in", "CKR_USER_PIN_NOT_INITIALIZED",
			func(o *owned) {
				o.asAdmin("DeleteUser", map[string]string{"UserName": "kmsuser", "Role": "crypto-user"})
			},
			func(o *owned) {
				o.asAdmin("CreateUser", map[string]string{"UserName": "kmsuser", "Role": "crypto-user", "Password": newPassword})
				o.tell(newPassword)
			},
		},
		{
			"the modules hang", types.ConnectionErrorCodeTypeNetworkErrors, "reach HSM", "does not answer",
			func(o *owned) { o.faulty("C_GetTokenInfo hang") },
			func(o *owned) { o.faulty() },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOwned(t)
			client := o.Client(admin)
			sealed, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &o.key, Plaintext: []byte("a secret")})
			o.must(err)
			o.Disconnect(o.store)
			c.cause(o)

			_, err = client.ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &o.store})
			o.must(err)
			polltest.Until(t, "the connection to fail", func() bool { return o.Describe(o.store).ConnectionState == types.ConnectionStateTypeFailed })
			if code := o.Describe(o.store).ConnectionErrorCode; code != c.code {
				t.Errorf("it failed with %s, want %s\n%s", code, c.code, o.Explain(o.store).Evidence)
			}
			o.shows(c.step, c.says)

			o.Disconnect(o.store)
			c.fix(o)
			o.Connect(o.store)
			out, err := client.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			if err != nil || string(out.Plaintext) != "a secret" {
				t.Errorf("after the fix the key does not decrypt: %v", err)
			}
		})
	}
}

// shows sees that the evidence ends with a step that failed, and why.
func (o *owned) shows(step, why string) {
	o.t.Helper()
	ev := o.EvidenceOf(o.store)
	for _, s := range ev.Steps {
		if s.Name == step && (strings.Contains(s.Failure, why) || strings.Contains(ev.Failure, why)) {
			return
		}
	}
	o.t.Errorf("the evidence does not have a step %q with %q:\n%s", step, why, o.Explain(o.store).Evidence)
}

// TestTheKMSUserIsTheKeyStoresWhileItIsConnected is the reverse of USER_LOGGED_IN.
func TestTheKMSUserIsTheKeyStoresWhileItIsConnected(t *testing.T) {
	t.Parallel()
	o := newOwned(t)
	session, err := o.LogIn(o.ID, "admin", kastellantest.AdminPassword)
	o.must(err)
	in := map[string]string{"SessionId": session, "UserName": "kmsuser", "Role": "crypto-user", "NewPassword": newPassword}
	if err := o.AtHSM("ChangePassword", in, nil); err == nil || !strings.Contains(err.Error(), "logged in elsewhere") {
		t.Errorf("the kmsuser gets another password beside the key store: %v", err)
	}
	if _, err := o.Client(admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &o.key, Plaintext: []byte("x")}); err != nil {
		t.Errorf("the key store has lost its login: %v", err)
	}
	o.Disconnect(o.store)
	o.setPassword(newPassword)
	if _, err := o.LogIn(o.ID, "kmsuser", newPassword); err != nil {
		t.Errorf("the kmsuser cannot log in after the key store was disconnected: %v", err)
	}
}
