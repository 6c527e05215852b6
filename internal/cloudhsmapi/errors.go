package cloudhsmapi

import (
	"net/http"

	"kastellan.dev/internal/kmsapi"
)

// Codes that the API model lists. There is none for a resource in the wrong
// state: that is an invalid request too.
const (
	AccessDenied          kmsapi.Code = "CloudHsmAccessDeniedException"
	InternalFailure       kmsapi.Code = "CloudHsmInternalFailureException"
	InvalidRequest        kmsapi.Code = "CloudHsmInvalidRequestException"
	ResourceLimitExceeded kmsapi.Code = "CloudHsmResourceLimitExceededException"
	ResourceNotFound      kmsapi.Code = "CloudHsmResourceNotFoundException"
	ServiceFailed         kmsapi.Code = "CloudHsmServiceException"
	TagInvalid            kmsapi.Code = "CloudHsmTagException"
)

// MessageMember is the member of an error's body that its text is in.
const MessageMember = "Message"

// names are what this API calls the codes of the framework in front of it that it
// has exceptions of its own for.
var names = map[kmsapi.Code]kmsapi.Code{
	kmsapi.AccessDenied: AccessDenied,
	kmsapi.KMSInternal:  InternalFailure,
	kmsapi.Validation:   InvalidRequest,
}

// OnWire gives the name and the HTTP status that a code has in answers of CloudHSM.
func OnWire(code kmsapi.Code) (name string, status int) {
	if own, ok := names[code]; ok {
		code = own
	}
	if code == InternalFailure {
		return string(code), http.StatusInternalServerError
	}
	return string(code), code.Status()
}
