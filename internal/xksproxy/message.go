package xksproxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"

	"kastellan.dev/internal/xksapi"
)

// encryptRequest is an xksapi.EncryptRequest as a proxy reads it: it tells what is absent
// from what is empty, and takes one spelling of base64 only.
type encryptRequest struct {
	RequestMetadata             *xksapi.RequestMetadata `json:"requestMetadata"`
	Plaintext                   blob                    `json:"plaintext"`
	EncryptionAlgorithm         string                  `json:"encryptionAlgorithm"`
	AdditionalAuthenticatedData blob                    `json:"additionalAuthenticatedData"`
	IntegrityAlgorithm          *string                 `json:"ciphertextDataIntegrityValueAlgorithm"`
}

// decryptRequest is an xksapi.DecryptRequest as a proxy reads it.
type decryptRequest struct {
	RequestMetadata             *xksapi.RequestMetadata `json:"requestMetadata"`
	Ciphertext                  blob                    `json:"ciphertext"`
	EncryptionAlgorithm         string                  `json:"encryptionAlgorithm"`
	InitializationVector        blob                    `json:"initializationVector"`
	AuthenticationTag           blob                    `json:"authenticationTag"`
	CiphertextMetadata          blob                    `json:"ciphertextMetadata"`
	AdditionalAuthenticatedData blob                    `json:"additionalAuthenticatedData"`
}

// blob is a member in base64, or nil if it is absent or null. A []byte would do for
// encoding/json, but also take an array of numbers, line breaks and stray bits.
type blob []byte

var errBlob = errors.New("not base64")

var base64Strict = base64.StdEncoding.Strict()

// UnmarshalJSON implements json.Unmarshaler.
func (b *blob) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	if len(data) < 2 || data[0] != '"' {
		return errBlob
	}
	text := data[1 : len(data)-1]
	if bytes.IndexByte(text, '\\') >= 0 { // some encoders write "\/"
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return errBlob
		}
		text = []byte(s)
	}
	if bytes.ContainsAny(text, "\r\n") { // which package base64 skips
		return errBlob
	}
	out := make([]byte, base64Strict.DecodedLen(len(text)))
	n, err := base64Strict.Decode(out, text)
	if err != nil {
		clear(out)
		return errBlob
	}
	*b = out[:n]
	return nil
}

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

func parseEncrypt(body []byte) (*encryptRequest, *Error) {
	r, err := parse[encryptRequest](body)
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
	if r.IntegrityAlgorithm != nil && *r.IntegrityAlgorithm != xksapi.AlgorithmSHA256 {
		return r, invalid("the only ciphertextDataIntegrityValueAlgorithm is %s", xksapi.AlgorithmSHA256)
	}
	return r, nil
}

func parseDecrypt(body []byte) (*decryptRequest, *Error) {
	r, err := parse[decryptRequest](body)
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
