package e2e_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

// load keeps clients encrypting and decrypting until stop is called, which
// returns how many calls there were and the failures.
func load(t *testing.T, clients int, call func() error) (stop func() (calls int64, failures []error), reached func(n int64)) {
	var (
		done  = make(chan struct{})
		count atomic.Int64
		mu    sync.Mutex
		errs  []error
		wg    sync.WaitGroup
	)
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := call(); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				count.Add(1)
			}
		})
	}
	stop = sync.OnceValues(func() (int64, []error) {
		close(done)
		wg.Wait()
		return count.Load(), errs
	})
	t.Cleanup(func() { stop() })
	reached = func(n int64) {
		t.Helper()
		goal := count.Load() + n
		polltest.Until(t, "enough calls", func() bool { return count.Load() >= goal })
	}
	return stop, reached
}

// TestOneOfTwoHSMsGoesUnderLoad takes an HSM away in three ways; no call fails,
// and the HSM serves again when it is back.
func TestOneOfTwoHSMsGoesUnderLoad(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string][]string{
		"the device breaks":   {"C_EncryptInit rv=0x30", "C_DecryptInit rv=0x30", "C_Login rv=0x30", "C_OpenSession rv=0x30", "C_GetTokenInfo rv=0x30"},
		"the library crashes": {"C_EncryptInit crash", "C_DecryptInit crash", "C_Login crash"},
		"the library hangs":   {"C_EncryptInit hang", "C_DecryptInit hang", "C_Login hang"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := pkcs11test.NewFaults(t)
			cluster := kastellantest.ClusterOf(t, clusterID, []pkcs11test.TokenRef{
				faults.Break(t, pkcs11test.NewToken(t, "one", kastellantest.Password)), pkcs11test.NewToken(t, "two", kastellantest.Password),
			})
			cluster.Members[0].CallTimeout = 2 * time.Second // how long a call that hangs takes
			s := kastellantest.Start(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}})
			id := s.KeyStore(cluster.CreateInput("hsm"))
			p := &pair{Server: s, client: s.Client(admin)}
			key := *s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &id}).Arn
			stop, reached := load(t, 4, func() error { return p.roundTrip(key) })
			reached(50)
			faults.Set(t, fault...)
			reached(200)
			faults.Clear(t)
			reached(200)
			calls, failures := stop()
			t.Logf("%d round trips, %d failed", calls, len(failures))
			for _, err := range failures {
				t.Error(err)
			}
			polltest.Until(t, "the HSM back in service", func() bool {
				_, err := s.Client(admin).CreateKey(t.Context(), &awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &id})
				return err == nil // which takes two HSMs
			})
			for _, state := range []string{"UNHEALTHY", "HEALTHY"} {
				if name == "the library hangs" {
					break // its process may be replaced before the HSM counts as lost
				}
				polltest.Until(t, "the record that the HSM is "+state, func() bool {
					return hasEvent(t, s, "CustomKeyStoreHealthChange", audit.Data{"customKeyStoreId": id, "part": cluster.Members[0].ID, "state": state})
				})
			}
		})
	}
}

// TestOneOfTwoTargetsGoesUnderLoad takes one target of an endpoint service away.
func TestOneOfTwoTargetsGoesUnderLoad(t *testing.T) {
	t.Parallel()
	proxy := xkstest.New(t, xkstest.Options{})
	proxy.AddKey("external-key")
	s := kastellantest.Start(t, kastellantest.Options{External: throughService(t, proxy)})
	id := s.KeyStore(serviceInput(proxy, "vpc"))
	p := &pair{Server: s, client: s.Client(admin)}
	key := *s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &id, XksKeyId: aws.String("external-key")}).Arn
	stop, reached := load(t, 4, func() error { return p.roundTrip(key) })
	reached(50)
	proxy.Shut(proxy.Address)
	reached(200)
	proxy.ListenAt(proxy.Address)
	reached(100)
	calls, failures := stop()
	t.Logf("%d round trips, %d failed", calls, len(failures))
	for _, err := range failures {
		t.Error(err)
	}
}

// TestAConnectedStoreOutlivesAnOutage takes everything away: the state stays
// CONNECTED, calls fail as they should, and work again by themselves.
func TestAConnectedStoreOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	proxy := xkstest.New(t, xkstest.Options{})
	proxy.AddKey("external-key")
	s := kastellantest.Start(t, kastellantest.Options{External: external(t, proxy)})
	id := s.KeyStore(kastellantest.ProxyInput(proxy, "xks"))
	p := &pair{Server: s, client: s.Client(admin)}
	key := *s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &id, XksKeyId: aws.String("external-key")}).Arn
	proxy.Shut(proxy.Address)
	wantError(t, p.roundTrip(key), "KMSInvalidStateException")
	if state := s.Describe(id).ConnectionState; state != types.ConnectionStateTypeConnected {
		t.Errorf("an outage made the store %s", state)
	}
	proxy.ListenAt(proxy.Address)
	polltest.Until(t, "the key working again", func() bool { return p.roundTrip(key) == nil })
}
