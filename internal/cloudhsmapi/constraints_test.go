package cloudhsmapi_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
)

const (
	clusterID = `"ClusterId":"cluster-2345abcdefg"`
	certPEM   = `-----BEGIN CERTIFICATE-----\nAb+/9w==\r\n-----END CERTIFICATE-----\n`
)

func TestConstraints(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		into any
		body string
		path string // of what is refused; empty: nothing is
	}{
		"a cluster of ten subnets":          {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm2m.medium","SubnetIds":[` + times(10, `"subnet-0123456f"`) + `]}`, ""},
		"a cluster of eleven subnets":       {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm2m.medium","SubnetIds":[` + times(11, `"subnet-0123456f"`) + `]}`, "subnetIds"},
		"a cluster of no subnet":            {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm2m.medium","SubnetIds":[]}`, "subnetIds"},
		"a subnet that is none":             {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm1.medium","SubnetIds":["subnet-0123456f","subnet-x"]}`, "subnetIds"},
		"a type of HSM that is none":        {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"m5.large","SubnetIds":["subnet-0123456f"]}`, "hsmType"},
		"a mode that is none":               {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm1.medium","SubnetIds":["subnet-0123456f"],"Mode":"FAST"}`, "mode"},
		"a retention of letters":            {new(cloudhsmapi.ModifyClusterRequest), `{` + clusterID + `,"BackupRetentionPolicy":{"Type":"DAYS","Value":"ten"}}`, "backupRetentionPolicy.value"},
		"a backup by its id":                {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm1.medium","SubnetIds":["subnet-0123456f"],"SourceBackupId":"backup-2345abcdefg"}`, ""},
		"a backup by its ARN":               {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm1.medium","SubnetIds":["subnet-0123456f"],"SourceBackupId":"arn:aws:cloudhsm:eu-central-1:111122223333:backup/backup-2345abcdefg"}`, ""},
		"a backup by a cluster's ARN":       {new(cloudhsmapi.CreateClusterRequest), `{"HsmType":"hsm1.medium","SubnetIds":["subnet-0123456f"],"SourceBackupId":"arn:aws:cloudhsm:eu-central-1:111122223333:cluster/cluster-2345abcdefg"}`, "sourceBackupId"},
		"filters of lists":                  {new(cloudhsmapi.DescribeClustersRequest), `{"Filters":{"states":["ACTIVE","DEGRADED"]},"MaxResults":25}`, ""},
		"a page too large":                  {new(cloudhsmapi.DescribeClustersRequest), `{"MaxResults":26}`, "maxResults"},
		"a larger page of backups":          {new(cloudhsmapi.DescribeBackupsRequest), `{"MaxResults":50,"Shared":true}`, ""},
		"certificates with lines":           {new(cloudhsmapi.InitializeClusterRequest), `{` + clusterID + `,"SignedCert":"` + certPEM + `","TrustAnchor":"` + certPEM + `"}`, ""},
		"a certificate with other letters":  {new(cloudhsmapi.InitializeClusterRequest), `{` + clusterID + `,"SignedCert":"` + certPEM + `","TrustAnchor":"<xml>"}`, "trustAnchor"},
		"a certificate too long":            {new(cloudhsmapi.InitializeClusterRequest), `{` + clusterID + `,"SignedCert":"` + strings.Repeat("A", 20001) + `","TrustAnchor":"A"}`, "signedCert"},
		"a zone":                            {new(cloudhsmapi.CreateHsmRequest), `{` + clusterID + `,"AvailabilityZone":"us-gov-west-1a","IpAddress":"10.0.1.17"}`, ""},
		"a Region for a zone":               {new(cloudhsmapi.CreateHsmRequest), `{` + clusterID + `,"AvailabilityZone":"us-east-1"}`, "availabilityZone"},
		"a name for an address":             {new(cloudhsmapi.CreateHsmRequest), `{` + clusterID + `,"AvailabilityZone":"us-east-1a","IpAddress":"localhost"}`, "ipAddress"},
		"a cluster with a digit that is no": {new(cloudhsmapi.DeleteClusterRequest), `{"ClusterId":"cluster-1345abcdefg"}`, "clusterId"},
		"tags of two resources":             {new(cloudhsmapi.ListTagsRequest), `{"ResourceId":"backup-2345abcdefg"}`, ""},
		"tags of an HSM":                    {new(cloudhsmapi.ListTagsRequest), `{"ResourceId":"hsm-2345abcdefg"}`, "resourceId"},
		"a tag in another alphabet":         {new(cloudhsmapi.TagResourceRequest), `{"ResourceId":"cluster-2345abcdefg","TagList":[{"Key":"Zweck ÄÖ","Value":""}]}`, ""},
		"a tag with a sign":                 {new(cloudhsmapi.TagResourceRequest), `{"ResourceId":"cluster-2345abcdefg","TagList":[{"Key":"a*","Value":""}]}`, "tagList.1.member.key"},
		"no tags":                           {new(cloudhsmapi.TagResourceRequest), `{"ResourceId":"cluster-2345abcdefg","TagList":[]}`, "tagList"},
		"a tag key with a sign":             {new(cloudhsmapi.UntagResourceRequest), `{"ResourceId":"cluster-2345abcdefg","TagKeyList":["a","b*"]}`, "tagKeyList"},
		"a policy of a backup":              {new(cloudhsmapi.PutResourcePolicyRequest), `{"ResourceArn":"arn:aws:cloudhsm:eu-central-1:111122223333:backup/backup-2345abcdefg","Policy":"{}"}`, ""},
		"a policy of a key":                 {new(cloudhsmapi.GetResourcePolicyRequest), `{"ResourceArn":"arn:aws:kms:eu-central-1:111122223333:key/1234"}`, "resourceArn"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := awsjson.Decode([]byte(test.body), test.into)
			if test.path == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if kmsapi.CodeOf(err) != kmsapi.Validation || !strings.Contains(err.Error(), "1 validation error detected") || !strings.Contains(err.Error(), "at '"+test.path+"'") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func times(n int, s string) string { return strings.Repeat(s+",", n-1) + s }

func TestARNsAreThoseThatTheAPIAccepts(t *testing.T) {
	t.Parallel()
	for _, kind := range []cloudhsmapi.Resource{cloudhsmapi.ResourceBackup, cloudhsmapi.ResourceCluster, cloudhsmapi.ResourceHSM} {
		arn := kind.ARN("eu-central-1", "111122223333", string(kind)+"-2345abcdefg")
		if err := awsjson.Decode([]byte(`{"ResourceArn":"`+arn+`"}`), new(cloudhsmapi.GetResourcePolicyRequest)); err != nil {
			t.Error(err)
		}
	}
}

func TestCodesOnTheWire(t *testing.T) {
	t.Parallel()
	tests := map[kmsapi.Code]struct {
		name   string
		status int
	}{
		kmsapi.AccessDenied:               {"CloudHsmAccessDeniedException", 400},
		kmsapi.KMSInternal:                {"CloudHsmInternalFailureException", 500},
		kmsapi.Validation:                 {"CloudHsmInvalidRequestException", 400},
		kmsapi.Throttling:                 {"ThrottlingException", 400},
		kmsapi.ServiceUnavailable:         {"ServiceUnavailableException", 503},
		kmsapi.RequestEntityTooLarge:      {"RequestEntityTooLargeException", 413},
		cloudhsmapi.InternalFailure:       {"CloudHsmInternalFailureException", 500},
		cloudhsmapi.ResourceNotFound:      {"CloudHsmResourceNotFoundException", 400},
		cloudhsmapi.ResourceLimitExceeded: {"CloudHsmResourceLimitExceededException", 400},
	}
	for code, want := range tests {
		if name, status := cloudhsmapi.OnWire(code); name != want.name || status != want.status {
			t.Errorf("%s is %s, %d", code, name, status)
		}
	}
}
