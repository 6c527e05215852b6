package clusters_test

import (
	"fmt"
	"sync"
	"sync/atomic"
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

// TestManyClientsTakeNoMoreThanThereIs creates clusters, HSMs and tags at the same time: no quota is exceeded, no address is given
// twice, and no tag is lost.
func TestManyClientsTakeNoMoreThanThereIs(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, with(t, "ab", nil))
	api := s.CloudHSM(admin)
	const many = 16
	var made atomic.Int32
	atOnce(many, func(i int) {
		_, err := api.CreateCluster(t.Context(), &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm1.medium"), SubnetIds: subnets("ab"), TagList: tags("n", fmt.Sprint(i))})
		if err == nil {
			made.Add(1)
		} else if codeOf(err) != invalid {
			t.Error(err)
		}
	})
	clusters := settled(t, s)
	if made.Load() != 4 || len(clusters) != 4 {
		t.Fatalf("%d clusters were made, %d are there", made.Load(), len(clusters))
	}
	var hsms atomic.Int32
	atOnce(many, func(i int) {
		id := clusters[i%4].ClusterId
		if _, err := api.CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: id, AvailabilityZone: zone("a")}); err == nil {
			hsms.Add(1)
		} else if codeOf(err) != invalid {
			t.Error(err)
		}
		if _, err := api.TagResource(t.Context(), &cloudhsmv2.TagResourceInput{ResourceId: clusters[0].ClusterId, TagList: tags(fmt.Sprint("key-", i), "")}); err != nil {
			t.Error(err)
		}
		if _, err := api.DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{}); err != nil {
			t.Error(err)
		}
	})
	addresses, n := map[string]bool{}, 0
	var victim hsmtypes.Hsm // of whichever cluster was fast enough to get one
	for _, c := range settled(t, s) {
		for _, h := range c.Hsms {
			addresses[*h.EniIp], n, victim = true, n+1, h
		}
	}
	if hsms.Load() != 6 || n != 6 || len(addresses) != 6 {
		t.Errorf("%d HSMs were made, %d are there, with %d addresses", hsms.Load(), n, len(addresses))
	}
	if got := s.DescribeCluster(*clusters[0].ClusterId).TagList; len(got) != many+1 {
		t.Errorf("%d tags are left of %d", len(got), many+1)
	}
	var deleted atomic.Int32
	atOnce(many, func(int) {
		_, err := api.DeleteHsm(t.Context(), &cloudhsmv2.DeleteHsmInput{ClusterId: victim.ClusterId, HsmId: victim.HsmId})
		switch codeOf(err) {
		case "":
			deleted.Add(1)
		case invalid, missing:
		default:
			t.Error(err)
		}
	})
	if deleted.Load() != 1 {
		t.Errorf("an HSM was deleted %d times", deleted.Load())
	}
}

func atOnce(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// TestTokensAreNotGivenTwice has a pool of three tokens, and two clusters that want them all.
func TestTokensAreNotGivenTwice(t *testing.T) {
	t.Parallel()
	o := with(t, "a", nil)
	andConfig(&o, func(cfg *config.Config) { cfg.HSM.Pools[0].SoftHSM2.Tokens = 3 })
	s := kastellantest.Start(t, o)
	ids := []string{s.NewCluster("a"), s.NewCluster("a")}
	var made atomic.Int32
	atOnce(6, func(i int) {
		_, err := s.CloudHSM(admin).CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &ids[i%2], AvailabilityZone: zone("a")})
		if err == nil {
			made.Add(1)
		} else if codeOf(err) != failing {
			t.Error(err)
		}
	})
	if made.Load() != 3 {
		t.Errorf("%d HSMs were made of 3 tokens", made.Load())
	}
	settled(t, s)
}

// TestHSMsAndKeyStoresShareTheAddressesOfASubnet uses a /28 up, of which eleven addresses can be given away.
func TestHSMsAndKeyStoresShareTheAddressesOfASubnet(t *testing.T) {
	t.Parallel()
	o := with(t, "ab", nil)
	andConfig(&o, func(cfg *config.Config) {
		cfg.HSM.Subnets[0].CIDR, cfg.HSM.Subnets[0].InUse = "10.0.1.0/28", 9
		cfg.HSM.Quotas.HSMs = 10
	})
	s := kastellantest.Start(t, o)
	m := s.Ready("ab") // one address of two is taken
	store := s.KeyStore(m.CreateInput("owned"))
	create := func() error {
		_, err := s.CloudHSM(admin).CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: &m.ID, AvailabilityZone: zone("a")})
		return err
	}
	wantError(t, create(), invalid) // the key store has the other one
	s.Disconnect(store)
	wantError(t, create(), "")
	settled(t, s)
	if code := failedWith(t, s, store); code != types.ConnectionErrorCodeTypeInsufficientFreeAddressesInSubnet {
		t.Errorf("a full subnet: %s", code)
	}
	s.Disconnect(store)
	s.Config.HSM.Subnets = s.Config.HSM.Subnets[1:]
	s.Restart()
	if code := failedWith(t, s, store); code != types.ConnectionErrorCodeTypeSubnetNotFound {
		t.Errorf("a subnet that is not there: %s", code)
	}
	wantError(t, create(), invalid)
}

func failedWith(t *testing.T, s *kastellantest.Server, store string) types.ConnectionErrorCodeType {
	t.Helper()
	if _, err := s.Client(admin).ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &store}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the connection to fail", func() bool { return s.Describe(store).ConnectionState == types.ConnectionStateTypeFailed })
	return s.Describe(store).ConnectionErrorCode
}
