package server_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func (f *fixture) sdk(secretAccessKey string) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(f.url),
		Region:       region,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretAccessKey, ""),
		HTTPClient:   f.client,
		Retryer:      aws.NopRetryer{},
	})
}

func TestTheOfficialSDKIsUnderstood(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	client := f.sdk(secretKey.Reveal())
	out, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/a"), Plaintext: []byte("abc"),
		EncryptionContext: map[string]string{"purpose": "test & <more>"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(out.CiphertextBlob) != "cba" || aws.ToString(out.KeyId) != "alias/a" || out.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		t.Errorf("%+v", out)
	}
	if _, err := client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: aws.String("k")}); apiCode(err) != "ValidationException" {
		t.Errorf("EnableKey, which here wants a Plaintext: %v", err)
	}
}

func TestTheOfficialSDKUnderstandsErrors(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	in := &kms.EncryptInput{KeyId: aws.String("alias/a"), Plaintext: []byte{}}

	_, err := f.sdk(secretKey.Reveal()).Encrypt(t.Context(), in)
	var response *awshttp.ResponseError
	if apiCode(err) != "ValidationException" || !errors.As(err, &response) || !uuidV4.MatchString(response.ServiceRequestID()) {
		t.Errorf("error %v", err)
	}
	_, err = f.sdk("another secret of sixteen letters").Encrypt(t.Context(), in)
	var status *smithyhttp.ResponseError
	if apiCode(err) != "InvalidSignatureException" || !errors.As(err, &status) || status.HTTPStatusCode() != 400 {
		t.Errorf("error %v", err)
	}
	_, err = f.sdk(secretKey.Reveal()).ListKeys(t.Context(), nil) // which the table does not have
	if apiCode(err) != "UnknownOperationException" {
		t.Errorf("error %v", err)
	}
}

// The members that the texts are in are not the same: CloudHSM's begins with a capital letter.
func TestTheOfficialSDKUnderstandsErrorsOfCloudHSM(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	client := func(secretAccessKey string) *cloudhsmv2.Client {
		return cloudhsmv2.New(cloudhsmv2.Options{
			BaseEndpoint: aws.String(f.url), Region: region, HTTPClient: f.client, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretAccessKey, ""),
		})
	}
	const cluster = "cluster-2345abcdefg"
	tests := map[string]struct {
		secret, cluster, zone string
		code                  string
		message               string // a part
		status                int
	}{
		"an error of the operation": {secretKey.Reveal(), cluster, "eu-central-1a", "CloudHsmResourceNotFoundException", "no such cluster", 400},
		"access denied":             {secretKey.Reveal(), cluster, "eu-central-1b", "CloudHsmAccessDeniedException", "not you", 400},
		"an error of no kind":       {secretKey.Reveal(), cluster, "eu-central-1c", "CloudHsmInternalFailureException", "the server's log", 500},
		"constraints":               {secretKey.Reveal(), "cluster-1", "eu-central-1d", "CloudHsmInvalidRequestException", "'clusterId' failed to satisfy constraint", 400},
		"a wrong secret":            {"another secret of sixteen letters", cluster, "eu-central-1d", "InvalidSignatureException", "does not match", 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client(test.secret).CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: aws.String(test.cluster), AvailabilityZone: aws.String(test.zone)})
			var e smithy.APIError
			var status *smithyhttp.ResponseError
			if !errors.As(err, &e) || e.ErrorCode() != test.code || !strings.Contains(e.ErrorMessage(), test.message) {
				t.Errorf("error %v", err)
			}
			if !errors.As(err, &status) || status.HTTPStatusCode() != test.status {
				t.Errorf("error %v", err)
			}
		})
	}
	_, err := client(secretKey.Reveal()).CreateHsm(t.Context(), &cloudhsmv2.CreateHsmInput{ClusterId: aws.String(cluster), AvailabilityZone: aws.String("eu-central-1a")})
	var typed *hsmtypes.CloudHsmResourceNotFoundException
	if !errors.As(err, &typed) {
		t.Errorf("%v is not the SDK's own type of error", err)
	}
}

func TestErrorsOfCloudHSMHaveACapitalMessage(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	const body = `{"ClusterId":"cluster-2345abcdefg","AvailabilityZone":"eu-central-1a"}`
	const want = `{"__type":"CloudHsmResourceNotFoundException","Message":"no such cluster"}`
	if r := f.do(sign(f.request("BaldrApiService.CreateHsm", body), body, "cloudhsm")); r.StatusCode != 400 || r.text != want {
		t.Errorf("%s %s", r.Status, r.text)
	}
}

func apiCode(err error) string {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return ""
	}
	return e.ErrorCode()
}
