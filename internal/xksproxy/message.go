package xksproxy

import (
	"encoding/json"
	"errors"

	"kastellan.dev/internal/xksapi"
)

// parse decodes a body. What encoding/json says is not passed on: it may
// quote the body.
func parse[T any](body []byte) (*T, *Error) {
	v := new(T)
	err := json.Unmarshal(body, v)
	if err == nil {
		return v, nil
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return nil, invalid("the member %s has the wrong type", wrongType.Field)
	}
	return nil, invalid("the body is not a JSON object of this operation, with base64 in its standard alphabet and padding")
}

func invalid(format string, args ...any) *Error {
	return Errorf(xksapi.ValidationException, format, args...)
}

func missing(member string) *Error { return invalid("the member %s is missing", member) }

// checkMetadata demands what the operation needs. ARNs and ids are not looked
// into, unknown values of kmsOperation are fine.
func checkMetadata(m *xksapi.RequestMetadata, op operation) *Error {
	switch {
	case m == nil:
		return missing("requestMetadata")
	case m.KMSRequestID == "":
		return missing("requestMetadata.kmsRequestId")
	case m.KMSOperation == "":
		return missing("requestMetadata.kmsOperation")
	case op != opHealth && m.AWSPrincipalARN == "":
		return missing("requestMetadata.awsPrincipalArn")
	case (op == opEncrypt || op == opDecrypt) && m.KMSKeyARN == "":
		return missing("requestMetadata.kmsKeyArn")
	}
	return nil
}

func checkAlgorithm(name string) *Error {
	switch name {
	case xksapi.AlgorithmAESGCM:
		return nil
	case "":
		return missing("encryptionAlgorithm")
	default:
		return invalid("the only encryptionAlgorithm is %s", xksapi.AlgorithmAESGCM)
	}
}

func parseEncrypt(body []byte) (*xksapi.EncryptRequest, *Error) {
	r, err := parse[xksapi.EncryptRequest](body)
	if err != nil {
		return nil, err
	}
	if err := checkMetadata(r.RequestMetadata, opEncrypt); err != nil {
		return r, err
	}
	if r.Plaintext == nil {
		return r, missing("plaintext")
	}
	if err := checkAlgorithm(r.EncryptionAlgorithm); err != nil {
		return r, err
	}
	switch r.CiphertextDataIntegrityValueAlgorithm {
	case "", xksapi.AlgorithmSHA256:
		return r, nil
	default:
		return r, invalid("the only ciphertextDataIntegrityValueAlgorithm is %s", xksapi.AlgorithmSHA256)
	}
}

func parseDecrypt(body []byte) (*xksapi.DecryptRequest, *Error) {
	r, err := parse[xksapi.DecryptRequest](body)
	if err != nil {
		return nil, err
	}
	if err := checkMetadata(r.RequestMetadata, opDecrypt); err != nil {
		return r, err
	}
	if err := checkAlgorithm(r.EncryptionAlgorithm); err != nil {
		return r, err
	}
	switch {
	case r.Ciphertext == nil:
		return r, missing("ciphertext")
	case r.InitializationVector == nil:
		return r, missing("initializationVector")
	case r.AuthenticationTag == nil:
		return r, missing("authenticationTag")
	}
	return r, nil
}
