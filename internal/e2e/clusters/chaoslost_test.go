package clusters_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/polltest"
)

// TestThreeHSMsFailOneAfterTheOther has a key store live on the last HSM, see that none is left, and come back from the backup.
func TestThreeHSMsFailOneAfterTheOther(t *testing.T) {
	t.Parallel()
	faults := newFaults(t, "abc")
	s := newSite(t, "abc", through(t, faults))
	o := &owned{arena: &arena{Server: s.Server, faults: faults}, Managed: s.Ready("abc"), t: t}
	o.store = o.KeyStore(o.CreateInput("owned"))
	o.key = *o.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &o.store}).Arn
	sealed := s.encrypt(o.key, "a secret")
	s.freshBackup(o.ID)

	tr := o.traffic(sealed, 8)
	defer tr.stop()
	o.remove(o.token(t, "b"))
	faults["c"].Set(t, "C_GetTokenInfo hang")
	o.WaitHSM(o.ID, o.HSMs[1], hsmtypes.HsmStateDegraded)
	o.WaitHSM(o.ID, o.HSMs[2], hsmtypes.HsmStateDegraded)
	before := tr.answered.Load()
	polltest.Until(t, "one HSM to go on alone", func() bool { return tr.answered.Load() > before+20 })
	tr.stop()
	if n := tr.failed.Load(); n > 0 {
		t.Errorf("%d calls failed while one HSM was left: %s", n, *tr.last.Load())
	}
	_, err := o.Client(admin).CreateKey(t.Context(), &awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &o.store})
	if few := (*types.CloudHsmClusterInvalidConfigurationException)(nil); !errors.As(err, &few) {
		t.Errorf("creating a key with one HSM: %v", err)
	}

	o.remove(o.token(t, "a"))
	o.WaitHSM(o.ID, o.HSMs[0], hsmtypes.HsmStateDegraded)
	if state := o.DescribeCluster(o.ID).State; state != hsmtypes.ClusterStateDegraded {
		t.Errorf("without an HSM the cluster is %s", state)
	}
	polltest.Until(t, "nothing to be decrypted", func() bool { return !s.opens(sealed, "a secret") })
	o.Disconnect(o.store)
	if code := s.failure(o.store); code != types.ConnectionErrorCodeTypeNetworkErrors {
		t.Errorf("with HSMs that cannot be reached the connection fails with %s\n%s", code, o.Explain(o.store).Evidence)
	}
	o.Disconnect(o.store)
	o.HSM(o.ID, "a")
	o.Connect(o.store)
	polltest.Until(t, "the keys of the backup to be back", func() bool { return s.opens(sealed, "a secret") })
}

// makeKey makes a key on the first token of a pool, and nowhere else.
func (s *site) makeKey(pool, label string) {
	s.t.Helper()
	token := s.open(pool)
	defer token.Close()
	template := pkcs11.Template{Label: label, ID: []byte(label), Token: true, Encrypt: true, Extractable: true}
	if _, err := token.GenerateKey(s.t.Context(), template); err != nil {
		s.t.Fatal(err)
	}
}

// TestAKeyThatOnlyALostHSMHasIsSavedWhenItComesBack brings a token back after another one has taken its place.
func TestAKeyThatOnlyALostHSMHasIsSavedWhenItComesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, "ab")
	m := s.Ready("ab")
	const label = "arn:aws:kms:us-east-1:111122223333:key/only"
	s.makeKey("pool-b", label)
	bring := s.lose("b")
	s.WaitHSM(m.ID, m.HSMs[1], hsmtypes.HsmStateDegraded)
	s.pass(6 * time.Minute)
	s.WaitHSM(m.ID, m.HSMs[1], hsmtypes.HsmStateActive)
	if slices.Contains(s.keyLabels("pool-a"), label) {
		t.Fatal("the key was not on the lost HSM alone")
	}
	bring()
	polltest.Until(t, "the token to be wiped", func() bool { return len(s.tokens("b")) == 1 })
	for _, pool := range []string{"pool-a", "pool-b"} {
		if got := s.keyLabels(pool); !slices.Contains(got, label) {
			t.Errorf("the HSM in %s has the keys %q", pool, got)
		}
	}
}

// TestHSMsThatLeaveAtOnceLoseNoKey has each of three HSMs have a key of its own when the owner deletes them all.
func TestHSMsThatLeaveAtOnceLoseNoKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, "abc")
	m := s.Ready("abc")
	var labels []string
	for _, letter := range []string{"a", "b", "c"} {
		labels = append(labels, "arn:aws:kms:us-east-1:111122223333:key/"+letter)
		s.makeKey("pool-"+letter, labels[len(labels)-1])
	}
	atOnce(3, func(i int) {
		if _, err := s.CloudHSM(admin).DeleteHsm(t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: &m.ID, HsmId: &m.HSMs[i]}); err != nil {
			t.Error(err)
		}
	})
	polltest.Until(t, "all HSMs to be gone, and their tokens", func() bool {
		return len(s.DescribeCluster(m.ID).Hsms)+len(s.tokens("a"))+len(s.tokens("b"))+len(s.tokens("c")) == 0
	})
	s.HSM(m.ID, "b")
	if got := s.keyLabels("pool-b"); !slices.Equal(got, labels) {
		t.Errorf("the next HSM has %q, want %q", got, labels)
	}
}
