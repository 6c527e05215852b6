package e2e_test

import (
	stdcontext "context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/metricstest"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/polltest"
)

type labels = metricstest.Labels

// TestAnHSMsTroubleShowsInTheMetrics takes an HSM that answers with an error, and whose library crashes.
func TestAnHSMsTroubleShowsInTheMetrics(t *testing.T) {
	t.Parallel()
	faults := pkcs11test.NewFaults(t)
	cluster := kastellantest.ClusterOf(t, clusterID, []pkcs11test.TokenRef{
		faults.Break(t, pkcs11test.NewToken(t, "one", kastellantest.Password)), pkcs11test.NewToken(t, "two", kastellantest.Password),
	})
	s := kastellantest.Start(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}})
	store := s.KeyStore(cluster.CreateInput("hsm"))
	p := &pair{Server: s, client: s.Client(admin)}
	key := *s.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &store}).Arn
	metrics := s.Node.Metrics
	one := labels{"custom_key_store_id": store, "member": cluster.Members[0].ID}
	with := func(name, value string) labels {
		return labels{"custom_key_store_id": one["custom_key_store_id"], "member": one["member"], name: value}
	}
	// encryptUntil encrypts until it was the broken HSM's turn, without a failure for the caller.
	encryptUntil := func(what, name string, l labels, want float64) {
		t.Helper()
		polltest.Until(t, what, func() bool {
			if _, err := p.encrypt(key, "x"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			got, _ := metricstest.Value(t, metrics, name, l)
			return got >= want
		})
	}
	metricstest.Want(t, metrics, "kastellan_hsm_member_up", labels{"custom_key_store_id": store, "cluster": clusterID}, 2)
	metricstest.Want(t, metrics, "kastellan_hsm_member_sessions_limit", one, 16)
	metricstest.Want(t, metrics, "kastellan_hsm_worker_restarts_total", one, 0)

	before, _ := metricstest.Value(t, metrics, "kastellan_hsm_resynchronisations_total", with("result", "ok"))
	faults.Set(t, "C_EncryptInit rv=0x30")
	encryptUntil("an error", "kastellan_hsm_errors_total", with("class", "CKR_DEVICE_ERROR"), 1)
	faults.Clear(t)
	polltest.Until(t, "the HSM to be back", func() bool {
		got, _ := metricstest.Value(t, metrics, "kastellan_hsm_member_up", one)
		return got == 1
	})
	if after, _ := metricstest.Value(t, metrics, "kastellan_hsm_resynchronisations_total", with("result", "ok")); after <= before {
		t.Errorf("resynchronisations were %v and are %v", before, after)
	}
	faults.Set(t, "C_EncryptInit crash")
	encryptUntil("a crash", "kastellan_hsm_errors_total", with("class", "lost"), 1)
	faults.Clear(t)
	polltest.Until(t, "a new process", func() bool {
		got, _ := metricstest.Value(t, metrics, "kastellan_hsm_worker_restarts_total", one)
		return got >= 1
	})
	if took, _ := metricstest.Value(t, metrics, "kastellan_hsm_operation_duration_seconds", with("operation", "Encrypt")); took < 2 {
		t.Errorf("%v operations were timed", took)
	}
	if n, _ := metricstest.Value(t, metrics, "kastellan_hsm_failovers_total", nil); n < 2 {
		t.Errorf("%v failovers", n)
	}
}

// full is an audit log that can be full.
type full struct {
	audit.Writer
	is atomic.Bool
}

func (f *full) Write(ctx stdcontext.Context, r *audit.Record) error {
	if f.is.Load() {
		return errors.New("no space left on device")
	}
	return f.Writer.Write(ctx, r)
}

// discarded takes everything.
type discarded struct{}

func (discarded) Write(p []byte) (int, error) { return len(p), nil }

func TestAnAuditLogThatIsFullShowsInTheMetrics(t *testing.T) {
	t.Parallel()
	log := &full{Writer: audit.NewFile(discarded{})}
	s := kastellantest.Start(t, kastellantest.Options{Audit: log})
	client := s.Client(admin)
	if _, err := client.CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	metricstest.Want(t, s.Node.Metrics, "kastellan_audit_write_failures_total", nil, 0)
	log.is.Store(true)
	_, err := client.ListKeys(t.Context(), &awskms.ListKeysInput{Limit: aws.Int32(1)})
	wantError(t, err, "KMSInternalException")
	metricstest.Want(t, s.Node.Metrics, "kastellan_audit_write_failures_total", nil, 1)
	metricstest.Want(t, s.Node.Metrics, "kastellan_audit_write_duration_seconds", nil, 2)
	metricstest.WantNone(t, s.Node.Metrics, "kastellan_store_transaction_failures_total", nil)
	if n, _ := metricstest.Value(t, s.Node.Metrics, "kastellan_store_transaction_duration_seconds", labels{"kind": "update"}); n == 0 {
		t.Error("no transaction was timed")
	}
}
