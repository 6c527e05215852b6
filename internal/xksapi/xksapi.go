// Package xksapi holds the wire types of the AWS KMS External Key Store (XKS)
// Proxy API, version 1: what KMS sends to a proxy and what the proxy answers.
// The client (keystore/xks) and the proxy (xksproxy) share it.
//
// Sizes and names are those of the specification, version 1.0.3. Unknown and
// surplus members of a request are accepted, and ARNs are not parsed: AWS
// announces additions, and sends values that are no ARNs.
package xksapi

import "encoding/json"

// Service is the SigV4 service name of the proxy API.
const Service = "kms-xks-proxy"

// BasePath is the end of every proxy's URI path.
const BasePath = "/kms/xks/v1"

// Limits of the specification, in bytes before base64. A proxy accepts at
// least MaxPlaintext and MaxAAD.
const (
	MaxPlaintext          = 4300
	MaxAAD                = 8192
	MaxCiphertextMetadata = 20
	MaxKeyUsages          = 10
	MaxFleet              = 10
	MaxErrorMessage       = 511
	TagSize               = 16
)

// Values of fields.
const (
	AlgorithmAESGCM = "AES_GCM"
	AlgorithmSHA256 = "SHA_256"
	KeySpecAES256   = "AES_256"
	KeyEnabled      = "ENABLED"
	KeyDisabled     = "DISABLED"
	UsageEncrypt    = "ENCRYPT"
	UsageDecrypt    = "DECRYPT"
	Active          = "ACTIVE"
	Degraded        = "DEGRADED"
	Unavailable     = "UNAVAILABLE"
	HealthCheck     = "KmsHealthCheck" // kmsOperation of the background poll
)

// RequestMetadata tells the proxy who asks and why.
type RequestMetadata struct {
	AWSPrincipalARN string `json:"awsPrincipalArn,omitempty"` // not always an ARN
	AWSSourceVPC    string `json:"awsSourceVpc,omitempty"`
	AWSSourceVPCE   string `json:"awsSourceVpce,omitempty"`
	KMSKeyARN       string `json:"kmsKeyArn,omitempty"` // Encrypt and Decrypt only
	KMSOperation    string `json:"kmsOperation"`
	KMSRequestID    string `json:"kmsRequestId"` // opaque
	KMSViaService   string `json:"kmsViaService,omitempty"`
}

// MetadataRequest is the body of POST …/keys/<id>/metadata.
type MetadataRequest struct {
	RequestMetadata *RequestMetadata `json:"requestMetadata"`
}

// MetadataResponse describes an external key.
type MetadataResponse struct {
	KeySpec   string   `json:"keySpec"`
	KeyUsage  []string `json:"keyUsage"`
	KeyStatus string   `json:"keyStatus"`
}

// EncryptRequest is the body of POST …/keys/<id>/encrypt. Blobs are base64 with padding.
type EncryptRequest struct {
	RequestMetadata *RequestMetadata `json:"requestMetadata"`
	Plaintext       []byte           `json:"plaintext"`
	// EncryptionAlgorithm is AES_GCM.
	EncryptionAlgorithm         string `json:"encryptionAlgorithm"`
	AdditionalAuthenticatedData []byte `json:"additionalAuthenticatedData,omitempty"`
	// CiphertextDataIntegrityValueAlgorithm is SHA_256 or absent.
	CiphertextDataIntegrityValueAlgorithm string `json:"ciphertextDataIntegrityValueAlgorithm,omitempty"`
}

// EncryptResponse is the answer to an EncryptRequest.
type EncryptResponse struct {
	Ciphertext                   []byte `json:"ciphertext"`                             // as long as the plaintext
	InitializationVector         []byte `json:"initializationVector"`                   // 12 or 16 bytes
	AuthenticationTag            []byte `json:"authenticationTag"`                      // 16 bytes
	CiphertextMetadata           []byte `json:"ciphertextMetadata,omitempty"`           // at most 20 bytes
	CiphertextDataIntegrityValue []byte `json:"ciphertextDataIntegrityValue,omitempty"` // 32 bytes
}

// DecryptRequest is the body of POST …/keys/<id>/decrypt.
type DecryptRequest struct {
	RequestMetadata             *RequestMetadata `json:"requestMetadata"`
	Ciphertext                  []byte           `json:"ciphertext"`
	EncryptionAlgorithm         string           `json:"encryptionAlgorithm"`
	InitializationVector        []byte           `json:"initializationVector"`
	AuthenticationTag           []byte           `json:"authenticationTag"`
	CiphertextMetadata          []byte           `json:"ciphertextMetadata,omitempty"`
	AdditionalAuthenticatedData []byte           `json:"additionalAuthenticatedData,omitempty"`
}

// DecryptResponse is the answer to a DecryptRequest.
type DecryptResponse struct {
	Plaintext []byte `json:"plaintext"`
}

// HealthRequest is the body of POST …/health.
type HealthRequest struct {
	RequestMetadata *RequestMetadata `json:"requestMetadata"`
}

// HealthResponse tells how proxy and key managers are.
type HealthResponse struct {
	XksProxyFleetSize int               `json:"xksProxyFleetSize"`
	XksProxyVendor    string            `json:"xksProxyVendor"`
	XksProxyModel     string            `json:"xksProxyModel"`
	EkmVendor         string            `json:"ekmVendor"`
	EkmFleetDetails   []EkmFleetDetails `json:"ekmFleetDetails"`
}

// EkmFleetDetails is one key manager.
type EkmFleetDetails struct {
	ID           string `json:"id"`
	Model        string `json:"model"`
	HealthStatus string `json:"healthStatus"` // ACTIVE, DEGRADED or UNAVAILABLE
}

// ErrorName is the name of a proxy's error.
type ErrorName string

// The errors a proxy may answer with.
const (
	ValidationException           ErrorName = "ValidationException"
	InvalidStateException         ErrorName = "InvalidStateException"
	InvalidCiphertextException    ErrorName = "InvalidCiphertextException"
	InvalidKeyUsageException      ErrorName = "InvalidKeyUsageException"
	AuthenticationFailedException ErrorName = "AuthenticationFailedException"
	AccessDeniedException         ErrorName = "AccessDeniedException"
	KeyNotFoundException          ErrorName = "KeyNotFoundException"
	InvalidURIPathException       ErrorName = "InvalidUriPathException"
	ThrottlingException           ErrorName = "ThrottlingException"
	InternalException             ErrorName = "InternalException"
	UnsupportedOperationException ErrorName = "UnsupportedOperationException"
	DependencyTimeoutException    ErrorName = "DependencyTimeoutException"
)

// statuses is the HTTP status of each error.
var statuses = map[ErrorName]int{
	ValidationException:           400,
	InvalidStateException:         400,
	InvalidCiphertextException:    400,
	InvalidKeyUsageException:      400,
	AuthenticationFailedException: 401,
	AccessDeniedException:         403,
	KeyNotFoundException:          404,
	InvalidURIPathException:       404,
	ThrottlingException:           429,
	InternalException:             500,
	UnsupportedOperationException: 501,
	DependencyTimeoutException:    503,
}

// Status is the HTTP status that goes with the error; ok is false for a name
// that the specification does not know.
func (n ErrorName) Status() (status int, ok bool) {
	status, ok = statuses[n]
	return status, ok
}

// ErrorResponse is the body of every answer other than 200.
type ErrorResponse struct {
	ErrorName    ErrorName `json:"errorName"`
	ErrorMessage string    `json:"errorMessage,omitempty"` // below 512 printable ASCII characters
}

// Encode gives v as one line of compact JSON, ended by a newline.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // the types above cannot fail
		panic("xksapi: " + err.Error())
	}
	return append(b, '\n')
}
