package clusters_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	"github.com/aws/smithy-go"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

const (
	otherRegion  = "eu-west-1"
	otherAccount = "444455556666"

	denied    = "CloudHsmAccessDeniedException"
	invalid   = "CloudHsmInvalidRequestException"
	missing   = "CloudHsmResourceNotFoundException"
	tagging   = "CloudHsmTagException"
	limited   = "CloudHsmResourceLimitExceededException"
	failing   = "CloudHsmServiceException"
	internal  = "CloudHsmInternalFailureException"
	noCluster = "cluster-22222222222"
	noBackup  = "backup-22222222222"
	noHSM     = "hsm-22222222222"
)

// codeOf is what an answer calls the error of a call, by either client; "" if there is none.
func codeOf(err error) string {
	var bySDK smithy.APIError
	var byOurs *kmsapi.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &bySDK):
		return bySDK.ErrorCode()
	case errors.As(err, &byOurs):
		return string(byOurs.Code)
	default:
		return "no answer: " + err.Error()
	}
}

func wantError(t *testing.T, err error, code string) {
	t.Helper()
	if got := codeOf(err); got != code {
		t.Errorf("got %q, want %q: %v", got, code, err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// with has the pools of kastellantest.WithPools, and changes what it gives further.
func with(t *testing.T, letters string, change func(*kastellantest.Options)) kastellantest.Options {
	t.Helper()
	o := kastellantest.WithPools(t, letters)
	if change != nil {
		change(&o)
	}
	return o
}

// andConfig has the configuration changed further.
func andConfig(o *kastellantest.Options, change func(*config.Config)) {
	before := o.Config
	o.Config = func(cfg *config.Config) { before(cfg); change(cfg) }
}

// andControl has the control plane changed further.
func andControl(o *kastellantest.Options, change func(*control.Config)) {
	before := o.Control
	o.Control = func(cfg *control.Config) { before(cfg); change(cfg) }
}

// someone is a caller with both clients.
type someone struct {
	t      *testing.T
	api    *cloudhsmv2.Client
	atHSMs *kmsclient.Client
}

func as(t *testing.T, s *kastellantest.Server, user string) someone {
	t.Helper()
	id, text := kastellantest.Credentials(user)
	return someone{t, s.CloudHSM(user), clientAtHSMs(s, sigv4.Credentials{AccessKeyID: id, Secret: secret.NewText(text)})}
}

func clientAtHSMs(s *kastellantest.Server, by sigv4.Credentials) *kmsclient.Client {
	return kmsclient.New(s.Endpoint, kastellantest.Region, by).For(cloudhsmapi.Service)
}

// atHSMs asks for an extension operation.
func (p someone) atHSM(operation string, in map[string]string) error {
	return p.atHSMs.Call(p.t.Context(), cloudhsmapi.Extensions+"."+operation, in, nil)
}

// backupOf waits for the backup that an activated cluster gets by itself.
func backupOf(t *testing.T, s *kastellantest.Server, cluster string) (id string) {
	t.Helper()
	polltest.Until(t, "a backup of "+cluster, func() bool {
		for _, b := range backups(t, s.CloudHSM(admin), map[string][]string{"clusterIds": {cluster}, "states": {"READY"}}) {
			id = *b.BackupId
		}
		return id != ""
	})
	return id
}

func backups(t *testing.T, client *cloudhsmv2.Client, filters map[string][]string) []hsmtypes.Backup {
	t.Helper()
	return must[*cloudhsmv2.DescribeBackupsOutput](t)(client.DescribeBackups(t.Context(), &cloudhsmv2.DescribeBackupsInput{Filters: filters})).Backups
}

// elsewhere copies a backup of the usual Region into another one, and gives the copy's id there.
func elsewhere(t *testing.T, s *kastellantest.Server, id, from, to string) string {
	t.Helper()
	must[*cloudhsmv2.CopyBackupToRegionOutput](t)(s.CloudHSMIn(admin, from).CopyBackupToRegion(t.Context(), &cloudhsmv2.CopyBackupToRegionInput{BackupId: &id, DestinationRegion: &to}))
	copies := backups(t, s.CloudHSMIn(admin, to), map[string][]string{"sourceBackupIds": {id}})
	if len(copies) == 0 {
		t.Fatalf("%s was not copied to %s", id, to)
	}
	return *copies[0].BackupId
}

// settled waits until no cluster is in a state on the way to another one, and gives them.
func settled(t *testing.T, s *kastellantest.Server) (clusters []hsmtypes.Cluster) {
	t.Helper()
	polltest.Until(t, "all clusters to be at rest", func() bool {
		clusters = must[*cloudhsmv2.DescribeClustersOutput](t)(s.CloudHSM(admin).DescribeClusters(t.Context(), &cloudhsmv2.DescribeClustersInput{})).Clusters
		return !slices.ContainsFunc(clusters, func(c hsmtypes.Cluster) bool {
			return strings.HasSuffix(string(c.State), "_IN_PROGRESS") || slices.ContainsFunc(c.Hsms, func(h hsmtypes.Hsm) bool {
				return strings.HasSuffix(string(h.State), "_IN_PROGRESS")
			})
		})
	})
	return clusters
}

func subnets(letters string) (ids []string) {
	for _, letter := range strings.Split(letters, "") {
		ids = append(ids, kastellantest.Subnet(letter))
	}
	return ids
}

func tags(pairs ...string) (out []hsmtypes.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, hsmtypes.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return out
}

func zone(letter string) *string { return aws.String(kastellantest.Region + letter) }

func clusterARN(id string) string {
	return cloudhsmapi.ResourceCluster.ARN(kastellantest.Region, kastellantest.Account, id)
}

func backupARN(id string) string {
	return cloudhsmapi.ResourceBackup.ARN(kastellantest.Region, kastellantest.Account, id)
}
