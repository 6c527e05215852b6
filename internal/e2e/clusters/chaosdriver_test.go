package clusters_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// estate is what an owner of a cluster knows of it: what was acknowledged, and what was asked for and may have
// happened. It outlives the servers. Everything is done so that it can be done
// again from the beginning, as an owner would after a server has died.
type estate struct {
	t      *testing.T
	client clients         // of the server that lives
	dead   <-chan struct{} // closed when that has died; nil where nobody knows

	cluster   string
	signed    string   // certificate; made once
	anchor    string   // that is asked for with it
	passwords []string // that the admin may have, the likeliest one last
	store     string
	keys      []string          // ARNs of acknowledged keys
	sealed    map[string][]byte // plaintext → an acknowledged ciphertext of it
}

// clients are those of Admin.
type clients struct {
	kms *awskms.Client
	hsm *cloudhsmv2.Client
	at  *kmsclient.Client // what is done at HSMs
}

func clientsOf(cfg aws.Config) clients {
	id, text := kastellantest.Credentials(admin)
	at := kmsclient.New(*cfg.BaseEndpoint, cfg.Region, sigv4.Credentials{AccessKeyID: id, Secret: secret.NewText(text)})
	return clients{kms: awskms.NewFromConfig(cfg), hsm: cloudhsmv2.NewFromConfig(cfg), at: at.For(cloudhsmapi.Service)}
}

func newEstate(t *testing.T) *estate {
	return &estate{t: t, passwords: []string{kastellantest.AdminPassword}, sealed: make(map[string][]byte)}
}

// atHSM does an operation at the cluster's HSMs.
func (e *estate) atHSM(operation string, in, out any) error {
	return e.client.at.Call(e.t.Context(), cloudhsmapi.Extensions+"."+operation, in, out)
}

// lasting is how long await waits: far longer than anything takes.
const lasting = 30 * time.Second

// await asks until holds is true, and fails if that takes too long or the server is dead.
func (e *estate) await(what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(e.t.Context(), lasting)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-e.dead:
			return fmt.Errorf("the server died while waiting for %s", what)
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
}

// steps does one after the other, until one fails.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (e *estate) describe() (hsmtypes.Cluster, error) {
	in := &cloudhsmv2.DescribeClustersInput{}
	if e.cluster != "" {
		in.Filters = map[string][]string{"clusterIds": {e.cluster}}
	}
	out, err := e.client.hsm.DescribeClusters(e.t.Context(), in)
	if err != nil {
		return hsmtypes.Cluster{}, err
	}
	for _, c := range out.Clusters {
		if c.State != hsmtypes.ClusterStateDeleted {
			return c, nil
		}
	}
	return hsmtypes.Cluster{}, nil
}

// make has a cluster made in two zones, unless there is one.
func (e *estate) make() error {
	c, err := e.describe()
	if err != nil {
		return err
	}
	if c.ClusterId == nil {
		out, err := e.client.hsm.CreateCluster(e.t.Context(), &cloudhsmv2.CreateClusterInput{
			HsmType: aws.String("hsm2m.medium"), SubnetIds: []string{kastellantest.Subnet("a"), kastellantest.Subnet("b")},
		})
		if err != nil {
			return err
		}
		c = *out.Cluster
	}
	e.cluster = *c.ClusterId
	return e.await("the cluster", func() (bool, error) {
		c, err := e.describe()
		return c.State != hsmtypes.ClusterStateCreateInProgress, err
	})
}

// hsm has an HSM made in a zone, unless there is one, and waits until it is ACTIVE.
func (e *estate) hsm(letter string) func() error {
	zone := kastellantest.Region + letter
	return func() error {
		c, err := e.describe()
		if err != nil {
			return err
		}
		if in(c, zone) == nil {
			if _, err := e.client.hsm.CreateHsm(e.t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &e.cluster, AvailabilityZone: &zone}); err != nil {
				return err
			}
		}
		return e.await("an HSM in "+zone, func() (bool, error) {
			c, err := e.describe()
			h := in(c, zone)
			return h != nil && h.State == hsmtypes.HsmStateActive, err
		})
	}
}

// noHSM has the HSM in a zone deleted, and waits until it is gone.
func (e *estate) noHSM(letter string) func() error {
	zone := kastellantest.Region + letter
	return func() error {
		c, err := e.describe()
		if err != nil {
			return err
		}
		if h := in(c, zone); h != nil && h.State != hsmtypes.HsmStateDeleteInProgress {
			if _, err := e.client.hsm.DeleteHsm(e.t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &e.cluster, HsmId: h.HsmId}); err != nil {
				return err
			}
		}
		return e.await("the HSM in "+zone+" to go", func() (bool, error) {
			c, err := e.describe()
			return in(c, zone) == nil, err
		})
	}
}

// in finds the HSM of a zone.
func in(c hsmtypes.Cluster, zone string) *hsmtypes.Hsm {
	for i := range c.Hsms {
		if *c.Hsms[i].AvailabilityZone == zone {
			return &c.Hsms[i]
		}
	}
	return nil
}

// initialize signs the cluster's request, once.
func (e *estate) initialize() error {
	c, err := e.describe()
	if err != nil {
		return err
	}
	if c.State == hsmtypes.ClusterStateUninitialized {
		if e.signed == "" {
			e.signed, e.anchor = kastellantest.SignRequest(e.t, aws.ToString(c.Certificates.ClusterCsr))
		}
		in := &cloudhsmv2.InitializeClusterInput{ClusterId: &e.cluster, SignedCert: &e.signed, TrustAnchor: &e.anchor}
		if _, err := e.client.hsm.InitializeCluster(e.t.Context(), in); err != nil {
			return err
		}
	}
	return e.await("the cluster to be INITIALIZED", func() (bool, error) {
		c, err := e.describe()
		return c.State == hsmtypes.ClusterStateInitialized || c.State == hsmtypes.ClusterStateActive, err
	})
}

func (e *estate) activate() error {
	c, err := e.describe()
	if err != nil || c.State != hsmtypes.ClusterStateInitialized {
		return err
	}
	return e.atHSM("ActivateCluster", map[string]string{"ClusterId": e.cluster, "Password": kastellantest.AdminPassword}, nil)
}

// asAdmin logs in with the password that the admin has, and out again.
func (e *estate) asAdmin(do func(session string) error) error {
	session, err := e.admin()
	if err != nil {
		return err
	}
	if err := do(session); err != nil {
		return err
	}
	return e.atHSM("Logout", map[string]string{"SessionId": session}, nil)
}

// admin logs in with one of the passwords that the admin may have.
func (e *estate) admin() (session string, err error) {
	for i := len(e.passwords) - 1; i >= 0; i-- {
		if session, err = e.logIn("admin", e.passwords[i]); err == nil {
			e.passwords = []string{e.passwords[i]}
			return session, nil
		}
	}
	return "", fmt.Errorf("logging in as admin: %w", err)
}

func (e *estate) logIn(user, password string) (session string, err error) {
	var out struct{ SessionId string }
	err = e.atHSM("Login", map[string]string{"ClusterId": e.cluster, "UserName": user, "Password": password}, &out)
	return out.SessionId, err
}

// users gives the names of the users.
func (e *estate) users(session string) (names []string, err error) {
	var out struct{ Users []struct{ UserName string } }
	err = e.atHSM("ListUsers", map[string]string{"SessionId": session}, &out)
	for _, u := range out.Users {
		names = append(names, u.UserName)
	}
	return names, err
}

// kmsuser makes the kmsuser, unless there is one.
func (e *estate) kmsuser() error {
	return e.asAdmin(func(s string) error { return e.user(s, "kmsuser", true) })
}

// user sees that there is a user, or that there is none.
func (e *estate) user(session, name string, there bool) error {
	names, err := e.users(session)
	if err != nil {
		return err
	}
	in := map[string]string{"SessionId": session, "UserName": name, "Role": "crypto-user"}
	operation := "DeleteUser"
	if there {
		operation, in["Password"] = "CreateUser", kastellantest.Password
	}
	is := false
	for _, n := range names {
		is = is || n == name
	}
	if is == there {
		return nil
	}
	return e.atHSM(operation, in, nil)
}

// newPassword gives the admin another password, which ends the session.
func (e *estate) newPassword() error {
	session, err := e.admin()
	if err != nil {
		return err
	}
	old, next := e.passwords[0], fmt.Sprintf("admin-Password%d", time.Now().UnixNano()%1e9)
	e.passwords = append(e.passwords, next)
	in := map[string]string{"SessionId": session, "UserName": "admin", "Role": "admin", "OldPassword": old, "NewPassword": next}
	if err := e.atHSM("ChangePassword", in, nil); err != nil {
		return err
	}
	e.passwords = []string{next}
	return nil
}

// somebody sees that there is another user, and noSomebody that there is none.
func (e *estate) somebody() error {
	return e.asAdmin(func(s string) error { return e.user(s, "somebody", true) })
}

func (e *estate) noSomebody() error {
	return e.asAdmin(func(s string) error { return e.user(s, "somebody", false) })
}

// keyStore creates the key store, unless there is one, and gives it back when it is CONNECTED: by itself or by being asked to.
func (e *estate) keyStore() error {
	out, err := e.client.kms.DescribeCustomKeyStores(e.t.Context(), &awskms.DescribeCustomKeyStoresInput{})
	if err != nil {
		return err
	}
	if len(out.CustomKeyStores) == 0 {
		m := kastellantest.Managed{ID: e.cluster, Anchor: e.anchor, Password: kastellantest.Password}
		if _, err := e.client.kms.CreateCustomKeyStore(e.t.Context(), m.CreateInput("owned")); err != nil {
			return err
		}
		return e.keyStore()
	}
	e.store = *out.CustomKeyStores[0].CustomKeyStoreId
	return e.connect()
}

// state gives the connection state of the key store. FAILED is an error.
func (e *estate) state() (types.ConnectionStateType, error) {
	out, err := e.client.kms.DescribeCustomKeyStores(e.t.Context(), &awskms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &e.store})
	if err != nil {
		return "", err
	}
	s := out.CustomKeyStores[0]
	if s.ConnectionState == types.ConnectionStateTypeFailed {
		return s.ConnectionState, fmt.Errorf("the key store is FAILED: %s", s.ConnectionErrorCode)
	}
	return s.ConnectionState, nil
}

func (e *estate) connect() error {
	return e.await("the key store to be CONNECTED", func() (bool, error) {
		state, err := e.state()
		if err == nil && state == types.ConnectionStateTypeDisconnected {
			_, err = e.client.kms.ConnectCustomKeyStore(e.t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &e.store})
		}
		return state == types.ConnectionStateTypeConnected, err
	})
}

func (e *estate) disconnect() error {
	if _, err := e.client.kms.DisconnectCustomKeyStore(e.t.Context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &e.store}); err != nil {
		return err
	}
	return e.await("the key store to be DISCONNECTED", func() (bool, error) {
		state, err := e.state()
		return state == types.ConnectionStateTypeDisconnected, err
	})
}

// key makes a key, as soon as two HSMs are in service, and uses it.
func (e *estate) key() error {
	var arn string
	err := e.await("a key", func() (bool, error) {
		out, err := e.client.kms.CreateKey(e.t.Context(), &awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &e.store})
		if few := (*types.CloudHsmClusterInvalidConfigurationException)(nil); errors.As(err, &few) {
			return false, nil
		}
		if err == nil {
			arn = *out.KeyMetadata.Arn
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	e.keys = append(e.keys, arn)
	text := fmt.Sprint("secret ", len(e.sealed))
	out, err := e.client.kms.Encrypt(e.t.Context(), &awskms.EncryptInput{KeyId: &arn, Plaintext: []byte(text)})
	if err == nil {
		e.sealed[text] = out.CiphertextBlob
	}
	return err
}

// kept sees that nothing acknowledged is lost.
func (e *estate) kept() error {
	for text, sealed := range e.sealed {
		last := error(nil)
		err := e.await("a decryption", func() (bool, error) {
			out, err := e.client.kms.Decrypt(e.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
			last = err
			return err == nil && string(out.Plaintext) == text, nil
		})
		if err != nil {
			return errors.Join(err, last)
		}
	}
	for _, arn := range e.keys {
		if _, err := e.client.kms.Encrypt(e.t.Context(), &awskms.EncryptInput{KeyId: &arn, Plaintext: []byte("again")}); err != nil {
			return fmt.Errorf("the acknowledged key %s: %w", arn, err)
		}
	}
	return nil
}

// ready goes all the way from nothing to a key.
func (e *estate) ready() error {
	return steps(e.make, e.hsm("a"), e.initialize, e.hsm("b"), e.activate, e.kmsuser, e.keyStore, e.key)
}

func credentialsOf(user string) aws.CredentialsProvider {
	id, text := kastellantest.Credentials(user)
	return credentials.NewStaticCredentialsProvider(id, text, "")
}
