package control

import (
	"errors"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

// userError is an error of users, their passwords and sessions: what it is called
// in an answer of the API, and what a function of PKCS#11 such as C_Login returns.
type userError struct {
	text string
	code kmsapi.Code
	rv   uint
}

func (e *userError) Error() string { return e.text }

// What stands in the way of who manages users.
var (
	errNoUser        = &userError{"there is no such user", cloudhsmapi.ResourceNotFound, pkcs11.CKR_USER_PIN_NOT_INITIALIZED}
	errUserExists    = &userError{"there is a user of this name and role", cloudhsmapi.InvalidRequest, pkcs11.CKR_FUNCTION_FAILED}
	errTooManyUsers  = &userError{"the cluster has 1024 users, as many as it can have", cloudhsmapi.ResourceLimitExceeded, pkcs11.CKR_FUNCTION_FAILED}
	errLastAdmin     = &userError{"the last admin of a cluster cannot be deleted", cloudhsmapi.InvalidRequest, pkcs11.CKR_FUNCTION_FAILED}
	errActivated     = &userError{"the cluster is activated already", cloudhsmapi.InvalidRequest, pkcs11.CKR_FUNCTION_FAILED}
	errNotActivated  = &userError{"the cluster is not activated", cloudhsmapi.InvalidRequest, pkcs11.CKR_USER_PIN_NOT_INITIALIZED}
	errBadUserName   = &userError{"a user's name has 1 to 31 of the characters A-Z a-z 0-9 _ . @ -", cloudhsmapi.InvalidRequest, pkcs11.CKR_PIN_INVALID}
	errReservedName  = &userError{"the name app_user is reserved, and kmsuser is the name of a crypto-user", cloudhsmapi.InvalidRequest, pkcs11.CKR_PIN_INVALID}
	errBadUserRole   = &userError{"the role of a user is admin or crypto-user", cloudhsmapi.InvalidRequest, pkcs11.CKR_USER_TYPE_INVALID}
	errBadPassword   = &userError{"a password has 7 to 32 characters", cloudhsmapi.InvalidRequest, pkcs11.CKR_PIN_LEN_RANGE}
	errBadKMSUser    = &userError{"the password of the kmsuser has 7 to 32 letters and digits", cloudhsmapi.InvalidRequest, pkcs11.CKR_PIN_INVALID}
	errAmbiguousUser = &userError{"an admin and a crypto-user have this name: give the role too", cloudhsmapi.InvalidRequest, pkcs11.CKR_USER_TYPE_INVALID}
	errUserChanged   = &userError{"the user was changed at the same time: try again", cloudhsmapi.ServiceFailed, pkcs11.CKR_FUNCTION_FAILED}
)

// What stands in the way of who logs in.
var (
	errWrongPassword   = &userError{"the user name or the password is wrong", cloudhsmapi.AccessDenied, pkcs11.CKR_PIN_INCORRECT}
	errBadPIN          = &userError{"the PIN is not of the form user:password", cloudhsmapi.AccessDenied, pkcs11.CKR_PIN_INCORRECT}
	errUserLocked      = &userError{"the user is locked after five wrong passwords in a row", cloudhsmapi.AccessDenied, pkcs11.CKR_PIN_LOCKED}
	errUserLoggedIn    = &userError{"the kmsuser is logged in elsewhere", cloudhsmapi.InvalidRequest, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN}
	errNoHSM           = &userError{"the cluster has no HSM in service", cloudhsmapi.InvalidRequest, pkcs11.CKR_TOKEN_NOT_PRESENT}
	errNoSession       = &userError{"there is no such session, or it has ended: log in", cloudhsmapi.AccessDenied, pkcs11.CKR_USER_NOT_LOGGED_IN}
	errTooManySessions = &userError{"the cluster has as many sessions as it can have", cloudhsmapi.ResourceLimitExceeded, pkcs11.CKR_SESSION_COUNT}
)

// rvOf makes of an error what a function of PKCS#11 returns; CKR_FUNCTION_FAILED of
// one that is not of users. err is not nil.
func rvOf(function string, err error) *pkcs11.Error {
	rv := pkcs11.CKR_FUNCTION_FAILED
	var of *userError
	if errors.As(err, &of) {
		rv = of.rv
	}
	return &pkcs11.Error{Function: function, RV: rv}
}

// onWire makes a *kmsapi.Error of an error of users, and leaves others as they are.
func onWire(err error) error {
	var of *userError
	if errors.As(err, &of) {
		return kmsapi.Errorf(of.code, "%s", of.text)
	}
	return err
}

// onWireOfLogin is onWire for who is not known yet, and is not told which names there are.
func onWireOfLogin(err error) error {
	if errors.Is(err, errNoUser) {
		err = errWrongPassword
	}
	return onWire(err)
}
