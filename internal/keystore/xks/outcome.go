package xks

import (
	"errors"
	"fmt"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/xksapi"
)

// outcome is a way in which asking a proxy can fail.
type outcome string

// The outcomes that are no error of the specification. Those that are have its name.
const (
	serviceNotFound  outcome = "endpoint service not found"
	serviceInvalid   outcome = "endpoint service violates a rule"
	unreachable      outcome = "not reachable"
	connectTimedOut  outcome = "connecting timed out"
	tlsFailed        outcome = "TLS failed"
	timedOut         outcome = "timed out"
	connectionLost   outcome = "connection lost"
	malformed        outcome = "malformed answer"
	allUnavailable   outcome = "all key managers unavailable"
	innerLayerFailed outcome = "inner layer failed"
)

// meaning is what an outcome means to whom.
type meaning struct {
	store     kmsapi.Code                // of Create- and UpdateCustomKeyStore
	connect   kmsapi.ConnectionErrorCode // of ConnectCustomKeyStore
	key       kmsapi.Code                // of CreateKey
	retryable bool                       // in AWS's metrics
	text      string                     // for the caller; cryptographic operations fail with KMSInvalidStateException and it
}

// Texts that more than one outcome has.
const (
	uninterpretable   = "The answer of the external key store proxy cannot be interpreted. If this happens again, tell the proxy's administrator."
	cannotCommunicate = "KMS cannot communicate with the external key store proxy. Check that the proxy runs and that its endpoint is right."
)

// meanings is the one table of what a caller is told.
var meanings = map[outcome]meaning{
	serviceNotFound: {kmsapi.XksProxyVpcEndpointServiceNotFound, kmsapi.XksVPCEndpointServiceNotFound, kmsapi.CustomKeyStoreInvalidState, false,
		"The VPC endpoint service was not found in this Region, or does not allow KMS as a principal."},
	serviceInvalid: {kmsapi.XksProxyVpcEndpointServiceInvalidConfig, kmsapi.XksVPCEndpointServiceInvalidConfiguration, kmsapi.CustomKeyStoreInvalidState, false,
		"The VPC endpoint service cannot carry an external key store."},

	unreachable:     {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyNotReachable, kmsapi.CustomKeyStoreInvalidState, true, cannotCommunicate},
	connectTimedOut: {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyNotReachable, kmsapi.CustomKeyStoreInvalidState, true, cannotCommunicate},
	connectionLost:  {kmsapi.XksProxyUriUnreachable, kmsapi.NetworkErrors, kmsapi.CustomKeyStoreInvalidState, true, cannotCommunicate},
	tlsFailed: {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyInvalidTLSConfiguration, kmsapi.CustomKeyStoreInvalidState, true,
		"KMS cannot establish a TLS connection to the external key store proxy. Check the proxy's TLS configuration and certificate."},
	timedOut: {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyTimedOut, kmsapi.CustomKeyStoreInvalidState, true,
		"The external key store proxy did not respond in time. Try again; if this happens again, tell the proxy's administrator."},
	malformed: {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, false, uninterpretable},
	allUnavailable: {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyNotReachable, kmsapi.CustomKeyStoreInvalidState, true,
		"The external key store proxy is unhealthy: none of its external key managers is available."},
	innerLayerFailed: {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, false,
		"What the external key store proxy decrypted, or the encryption context, is not what was encrypted."},

	outcome(xksapi.ValidationException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, false,
		uninterpretable},
	outcome(xksapi.InvalidStateException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.XksKeyInvalidConfiguration, false,
		"The external key is not enabled. Enable it in the external key manager."},
	outcome(xksapi.InvalidCiphertextException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, false,
		"The external key store proxy rejected the ciphertext or the encryption context."},
	outcome(xksapi.InvalidKeyUsageException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.XksKeyInvalidConfiguration, false,
		"The external key does not support the operation. It must allow to encrypt and to decrypt."},
	outcome(xksapi.AuthenticationFailedException): {kmsapi.XksProxyIncorrectAuthenticationCredential, kmsapi.InvalidCredentials, kmsapi.CustomKeyStoreInvalidState, false,
		"The external key store proxy could not authenticate KMS. Check the proxy authentication credential."},
	outcome(xksapi.AccessDeniedException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyAccessDenied, kmsapi.CustomKeyStoreInvalidState, false,
		"The external key store proxy denied access. Check its authorization rules."},
	outcome(xksapi.KeyNotFoundException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.XksKeyNotFound, false,
		"The external key was not found. Check its identifier in the external key manager."},
	outcome(xksapi.InvalidURIPathException): {kmsapi.XksProxyInvalidConfiguration, kmsapi.XksProxyInvalidConfigurationCode, kmsapi.CustomKeyStoreInvalidState, false,
		"The URI path of the external key store proxy is not valid. Check the key store's XksProxyUriPath."},
	outcome(xksapi.ThrottlingException): {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyNotReachable, kmsapi.CustomKeyStoreInvalidState, true,
		"The external key store proxy rejected the request due to a very high request rate. Reduce the frequency of your calls."},
	outcome(xksapi.InternalException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, true,
		"The external key store proxy cannot communicate with its external key manager."},
	outcome(xksapi.UnsupportedOperationException): {kmsapi.XksProxyInvalidResponse, kmsapi.XksProxyInvalidResponseCode, kmsapi.CustomKeyStoreInvalidState, false,
		"The external key store proxy does not support the operation."},
	outcome(xksapi.DependencyTimeoutException): {kmsapi.XksProxyUriUnreachable, kmsapi.XksProxyTimedOut, kmsapi.CustomKeyStoreInvalidState, true,
		"The external key store proxy did not respond in the time allotted: its external key manager is slow."},
}

// proxyError is why asking a proxy failed.
type proxyError struct {
	outcome outcome
	shown   string // added to the text that the caller sees; may be empty
	cause   error  // for the log and the evidence; may be nil
}

func failed(o outcome, format string, args ...any) *proxyError {
	return &proxyError{outcome: o, cause: fmt.Errorf(format, args...)}
}

// Error implements error. It is for the log and the evidence.
func (e *proxyError) Error() string {
	if e.cause == nil {
		return string(e.outcome)
	}
	return string(e.outcome) + ": " + e.cause.Error()
}

// Unwrap gives the cause.
func (e *proxyError) Unwrap() error { return e.cause }

func (e *proxyError) text() string {
	text := meanings[e.outcome].text
	if e.shown != "" {
		text += " " + e.shown
	}
	return text
}

// explained makes an error from asking the proxy the exception that code
// chooses; other errors stay what they are.
func explained(err error, code func(meaning) kmsapi.Code) error {
	var pe *proxyError
	if !errors.As(err, &pe) {
		return err
	}
	return kmsapi.Errorf(code(meanings[pe.outcome]), "%s", pe.text()).Because(err)
}

func forKeyStore(m meaning) kmsapi.Code   { return m.store }
func forCreateKey(m meaning) kmsapi.Code  { return m.key }
func forCryptography(meaning) kmsapi.Code { return kmsapi.KMSInvalidState }
func isOutcome(err error, o ...outcome) bool {
	var pe *proxyError
	if !errors.As(err, &pe) {
		return false
	}
	for _, want := range o {
		if pe.outcome == want {
			return true
		}
	}
	return false
}
