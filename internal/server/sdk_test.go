package server_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
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

func apiCode(err error) string {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return ""
	}
	return e.ErrorCode()
}
