package cloudhsmapi_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"

	"kastellan.dev/internal/apitest"
	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/cloudhsmapi"
)

// operations are all of the API.
var operations = map[string]apitest.Operation{
	"CopyBackupToRegion":     {In: cloudhsmapi.CopyBackupToRegionRequest{}, Out: cloudhsmapi.CopyBackupToRegionResponse{}},
	"CreateCluster":          {In: cloudhsmapi.CreateClusterRequest{}, Out: cloudhsmapi.CreateClusterResponse{}},
	"CreateHsm":              {In: cloudhsmapi.CreateHsmRequest{}, Out: cloudhsmapi.CreateHsmResponse{}},
	"DeleteBackup":           {In: cloudhsmapi.DeleteBackupRequest{}, Out: cloudhsmapi.DeleteBackupResponse{}},
	"DeleteCluster":          {In: cloudhsmapi.DeleteClusterRequest{}, Out: cloudhsmapi.DeleteClusterResponse{}},
	"DeleteHsm":              {In: cloudhsmapi.DeleteHsmRequest{}, Out: cloudhsmapi.DeleteHsmResponse{}},
	"DeleteResourcePolicy":   {In: cloudhsmapi.DeleteResourcePolicyRequest{}, Out: cloudhsmapi.DeleteResourcePolicyResponse{}},
	"DescribeBackups":        {In: cloudhsmapi.DescribeBackupsRequest{}, Out: cloudhsmapi.DescribeBackupsResponse{}},
	"DescribeClusters":       {In: cloudhsmapi.DescribeClustersRequest{}, Out: cloudhsmapi.DescribeClustersResponse{}},
	"GetResourcePolicy":      {In: cloudhsmapi.GetResourcePolicyRequest{}, Out: cloudhsmapi.GetResourcePolicyResponse{}},
	"InitializeCluster":      {In: cloudhsmapi.InitializeClusterRequest{}, Out: cloudhsmapi.InitializeClusterResponse{}},
	"ListTags":               {In: cloudhsmapi.ListTagsRequest{}, Out: cloudhsmapi.ListTagsResponse{}},
	"ModifyBackupAttributes": {In: cloudhsmapi.ModifyBackupAttributesRequest{}, Out: cloudhsmapi.ModifyBackupAttributesResponse{}},
	"ModifyCluster":          {In: cloudhsmapi.ModifyClusterRequest{}, Out: cloudhsmapi.ModifyClusterResponse{}},
	"PutResourcePolicy":      {In: cloudhsmapi.PutResourcePolicyRequest{}, Out: cloudhsmapi.PutResourcePolicyResponse{}},
	"RestoreBackup":          {In: cloudhsmapi.RestoreBackupRequest{}, Out: cloudhsmapi.RestoreBackupResponse{}},
	"TagResource":            {In: cloudhsmapi.TagResourceRequest{}, Out: cloudhsmapi.TagResourceResponse{}},
	"UntagResource":          {In: cloudhsmapi.UntagResourceRequest{}, Out: cloudhsmapi.UntagResourceResponse{}},
}

var sdk = cloudhsmv2.New(cloudhsmv2.Options{Region: "eu-central-1", HTTPClient: apitest.NoNetwork{}, Retryer: aws.NopRetryer{}})

func TestTypesAreThoseOfTheOfficialSDK(t *testing.T) {
	t.Parallel()
	apitest.TypesAreThoseOf(t, operations, sdk)
}

func TestNoOperationIsMissing(t *testing.T) {
	t.Parallel()
	apitest.NoneIsMissing(t, operations, sdk)
}

func TestMembersAreRequiredAsTheOfficialSDKHasThem(t *testing.T) {
	t.Parallel()
	apitest.RequiredAreThoseOf(t, operations, sdk)
}

func TestEveryMessageCanBePrepared(t *testing.T) {
	t.Parallel()
	for name, op := range operations {
		for _, message := range []any{op.In, op.Out} {
			if err := awsjson.Prepare(message); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
