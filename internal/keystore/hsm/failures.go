package hsm

import (
	"context"
	"errors"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

// Errors that this package branches on.
var (
	errKeyMissing  = errors.New("the key is not on the HSM")
	errNotLoggedIn = errors.New("the HSM has forgotten the login")
	errDiverged    = errors.New("two HSMs have different cluster keys")
	errUnfit       = errors.New("the cluster key has attributes that it must not have")
	errFinalTry    = errors.New("one more wrong password would lock the user")
	errSick        = errors.New("the HSM fails with what it did right before")
	errNoCluster   = errors.New("the HSM has no cluster key")
	errReserved    = errors.New("the label is reserved for the keys by which others are carried")
	errNotAES      = errors.New("the key is no AES key")
	errBody        = errors.New("the HSM chose an IV or a tag of another size")
	errNotSameKey  = errors.New("the unwrapped key is not the one that was wrapped")
	errNoPassword  = errors.New("there is no password that was not refused already")
)

// hasRV tells whether err is one of the return values.
func hasRV(err error, values ...uint) bool {
	var e *pkcs11.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, rv := range values {
		if e.RV == rv {
			return true
		}
	}
	return false
}

// isGone: there is no HSM where one was declared.
func isGone(err error) bool {
	return errors.Is(err, pkcs11.ErrNoToken) || hasRV(err, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_DEVICE_REMOVED)
}

// isUnreachable: there is an HSM, and it does not answer.
func isUnreachable(err error) bool {
	return errors.Is(err, pkcs11.ErrLost) || errors.Is(err, pkcs11.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) || hasRV(err, pkcs11.CKR_DEVICE_ERROR)
}

// isLost: whatever was set up with the HSM has to be set up again. A caller's
// own deadline says nothing about the HSM.
func isLost(err error) bool {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, errNotLoggedIn), errors.Is(err, errSick), errors.Is(err, pkcs11.ErrModule), errors.Is(err, pkcs11.ErrNoCgo):
		return true
	}
	return isGone(err) || isUnreachable(err) || hasRV(err, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID)
}

// isBusy: the HSM works, and has no room for one more call.
func isBusy(err error) bool {
	return errors.Is(err, pkcs11.ErrBusy) || hasRV(err, pkcs11.CKR_SESSION_COUNT)
}

// isStale: the handle does not name an object any more.
func isStale(err error) bool {
	return hasRV(err, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID)
}

// isWrongPassword: the HSM refused this password; another one may be right.
func isWrongPassword(err error) bool {
	return hasRV(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE)
}

// reachCode is the ConnectionErrorCode for an HSM that could not be reached.
func reachCode(err error) kmsapi.ConnectionErrorCode {
	switch {
	case isGone(err):
		return kmsapi.InsufficientCloudHSMHSMs
	case isUnreachable(err):
		return kmsapi.NetworkErrors
	default:
		return kmsapi.InternalError
	}
}

// loginCode is the ConnectionErrorCode for an HSM that did not let the
// kmsuser in, or did not let it change its password.
func loginCode(err error) kmsapi.ConnectionErrorCode {
	switch {
	case isWrongPassword(err), errors.Is(err, errFinalTry), errors.Is(err, errNoPassword), hasRV(err, pkcs11.CKR_PIN_EXPIRED):
		return kmsapi.InvalidCredentials
	case hasRV(err, pkcs11.CKR_PIN_LOCKED):
		return kmsapi.UserLockedOut
	case hasRV(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_USER_TYPE_INVALID):
		return kmsapi.UserNotFound
	case hasRV(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN):
		return kmsapi.UserLoggedIn
	default:
		return reachCode(err)
	}
}

// telling orders codes by how much they tell when members fail differently:
// what an HSM answered comes before what did not answer.
var telling = []kmsapi.ConnectionErrorCode{
	kmsapi.UserLockedOut, kmsapi.InvalidCredentials, kmsapi.UserNotFound, kmsapi.UserLoggedIn,
	kmsapi.NetworkErrors, kmsapi.InsufficientCloudHSMHSMs, kmsapi.InternalError,
}

// mostTelling gives the error whose code tells most; nil when there are none.
func mostTelling(errs []error, codeOf func(error) kmsapi.ConnectionErrorCode) (kmsapi.ConnectionErrorCode, error) {
	for _, code := range telling {
		for _, err := range errs {
			if err != nil && codeOf(err) == code {
				return code, err
			}
		}
	}
	return kmsapi.InternalError, nil
}

// What callers of KMS are told.

func unreachable(operation string) *kmsapi.Error {
	code := kmsapi.KMSInvalidState
	if operation == randomOperation { // whose exceptions do not include that one
		code = kmsapi.DependencyTimeout
	}
	return kmsapi.Errorf(code, "KMS cannot communicate with your CloudHSM cluster. See that at least one of its HSMs is active and can be reached, and try again.")
}

func saturated() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.KMSInternal, "All PKCS #11 sessions with the CloudHSM cluster are in use. Try again.")
}

func missingKey(id string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.KMSInvalidState, "The CloudHSM cluster does not have the key material of the KMS key %s.", id)
}

func wrongCiphertext(cause error) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(cause)
}

func tooFewHSMs() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.CloudHsmClusterInvalidConfiguration, "CloudHSM cluster must contain active HSMs in at least two Availability Zones")
}

func notConnected() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.KMSInvalidState, "The custom key store of the KMS key is not connected.")
}

const randomOperation = "GenerateRandom"
