package kmsapi

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is the name of an exception as it stands in the "__type" member.
type Code string

// Codes of the framework in front of the operations.
const (
	AccessDenied          Code = "AccessDeniedException"
	ExpiredToken          Code = "ExpiredTokenException"
	IncompleteSignature   Code = "IncompleteSignatureException"
	InvalidSignature      Code = "InvalidSignatureException"
	MissingAuthentication Code = "MissingAuthenticationTokenException"
	RequestEntityTooLarge Code = "RequestEntityTooLargeException"
	Serialization         Code = "SerializationException"
	Throttling            Code = "ThrottlingException"
	UnknownOperation      Code = "UnknownOperationException"
	UnrecognizedClient    Code = "UnrecognizedClientException"
	Validation            Code = "ValidationException"
	ServiceUnavailable    Code = "ServiceUnavailableException"
)

// Codes that the API model lists.
const (
	AlreadyExists                             Code = "AlreadyExistsException"
	CloudHsmClusterInUse                      Code = "CloudHsmClusterInUseException"
	CloudHsmClusterInvalidConfiguration       Code = "CloudHsmClusterInvalidConfigurationException"
	CloudHsmClusterNotActive                  Code = "CloudHsmClusterNotActiveException"
	CloudHsmClusterNotFound                   Code = "CloudHsmClusterNotFoundException"
	CloudHsmClusterNotRelated                 Code = "CloudHsmClusterNotRelatedException"
	Conflict                                  Code = "ConflictException"
	CustomKeyStoreHasCMKs                     Code = "CustomKeyStoreHasCMKsException"
	CustomKeyStoreInvalidState                Code = "CustomKeyStoreInvalidStateException"
	CustomKeyStoreNameInUse                   Code = "CustomKeyStoreNameInUseException"
	CustomKeyStoreNotFound                    Code = "CustomKeyStoreNotFoundException"
	DependencyTimeout                         Code = "DependencyTimeoutException"
	Disabled                                  Code = "DisabledException"
	DryRunOperation                           Code = "DryRunOperationException"
	ExpiredImportToken                        Code = "ExpiredImportTokenException"
	IncorrectKey                              Code = "IncorrectKeyException"
	IncorrectKeyMaterial                      Code = "IncorrectKeyMaterialException"
	IncorrectTrustAnchor                      Code = "IncorrectTrustAnchorException"
	InvalidAliasName                          Code = "InvalidAliasNameException"
	InvalidArn                                Code = "InvalidArnException"
	InvalidCiphertext                         Code = "InvalidCiphertextException"
	InvalidGrantID                            Code = "InvalidGrantIdException"
	InvalidGrantToken                         Code = "InvalidGrantTokenException"
	InvalidImportToken                        Code = "InvalidImportTokenException"
	InvalidKeyUsage                           Code = "InvalidKeyUsageException"
	InvalidMarker                             Code = "InvalidMarkerException"
	KeyUnavailable                            Code = "KeyUnavailableException"
	KMSInternal                               Code = "KMSInternalException"
	KMSInvalidMac                             Code = "KMSInvalidMacException"
	KMSInvalidSignature                       Code = "KMSInvalidSignatureException"
	KMSInvalidState                           Code = "KMSInvalidStateException"
	LimitExceeded                             Code = "LimitExceededException"
	MalformedPolicyDocument                   Code = "MalformedPolicyDocumentException"
	NotFound                                  Code = "NotFoundException"
	TagInvalid                                Code = "TagException"
	UnsupportedOperation                      Code = "UnsupportedOperationException"
	XksKeyAlreadyInUse                        Code = "XksKeyAlreadyInUseException"
	XksKeyInvalidConfiguration                Code = "XksKeyInvalidConfigurationException"
	XksKeyNotFound                            Code = "XksKeyNotFoundException"
	XksProxyIncorrectAuthenticationCredential Code = "XksProxyIncorrectAuthenticationCredentialException"
	XksProxyInvalidConfiguration              Code = "XksProxyInvalidConfigurationException"
	XksProxyInvalidResponse                   Code = "XksProxyInvalidResponseException"
	XksProxyUriEndpointInUse                  Code = "XksProxyUriEndpointInUseException"
	XksProxyUriInUse                          Code = "XksProxyUriInUseException"
	XksProxyUriUnreachable                    Code = "XksProxyUriUnreachableException"
	XksProxyVpcEndpointServiceInUse           Code = "XksProxyVpcEndpointServiceInUseException"
	XksProxyVpcEndpointServiceInvalidConfig   Code = "XksProxyVpcEndpointServiceInvalidConfigurationException"
	XksProxyVpcEndpointServiceNotFound        Code = "XksProxyVpcEndpointServiceNotFoundException"
)

// Status is the HTTP status that AWS answers with on the wire: 400 for every
// client error whatever the model annotates, 5xx for the faults that SDKs retry.
func (c Code) Status() int {
	switch c {
	case KMSInternal, KeyUnavailable:
		return http.StatusInternalServerError
	case DependencyTimeout, ServiceUnavailable:
		return http.StatusServiceUnavailable
	case RequestEntityTooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusBadRequest
	}
}

// Error is the one error type that reaches a caller: an exception name and a
// text that is safe to show. The cause is for the log only.
type Error struct {
	Code    Code
	Message string // may be empty: AWS sends some exceptions without a text
	cause   error
}

// Errorf makes an Error; the text is shown to the caller as it is. A %w among
// the verbs is refused by design: use Because for what the caller must not see.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because gives a copy of e that carries the cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error implements error. It includes the cause, hence is for logs, not for callers.
func (e *Error) Error() string {
	text := string(e.Code)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Code: c}) compare codes alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == "" && t.cause == nil
}

// CodeOf is the code of err, KMSInternal for an error of another type and ""
// for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return KMSInternal
}
