package stsapi

import (
	"net/http"

	"kastellan.dev/internal/kmsapi"
)

// Codes that the API model lists. ExpiredWebIdentity has a name of its own,
// since ExpiredTokenException is also what kmsapi.ExpiredToken is called.
const (
	ExpiredWebIdentity      kmsapi.Code = "ExpiredWebIdentity"
	IDPCommunicationError   kmsapi.Code = "IDPCommunicationError"
	IDPRejectedClaim        kmsapi.Code = "IDPRejectedClaim"
	InvalidIdentityToken    kmsapi.Code = "InvalidIdentityToken"
	InvalidParameterValue   kmsapi.Code = "InvalidParameterValue"
	MalformedPolicyDocument kmsapi.Code = "MalformedPolicyDocument"
	PackedPolicyTooLarge    kmsapi.Code = "PackedPolicyTooLarge"
)

// answer is how a code stands in an answer.
type answer struct {
	name   string
	status int
}

// answers are the codes that the query protocol has other names or statuses for.
var answers = map[kmsapi.Code]answer{
	kmsapi.AccessDenied:          {"AccessDenied", http.StatusForbidden},
	kmsapi.ExpiredToken:          {"ExpiredToken", http.StatusForbidden},
	kmsapi.IncompleteSignature:   {"IncompleteSignature", http.StatusBadRequest},
	kmsapi.InvalidSignature:      {"SignatureDoesNotMatch", http.StatusForbidden},
	kmsapi.KMSInternal:           {"InternalFailure", http.StatusInternalServerError},
	kmsapi.MissingAuthentication: {"MissingAuthenticationToken", http.StatusForbidden},
	kmsapi.RequestEntityTooLarge: {"RequestEntityTooLarge", http.StatusRequestEntityTooLarge},
	kmsapi.Serialization:         {"MalformedQueryString", http.StatusBadRequest},
	kmsapi.ServiceUnavailable:    {"ServiceUnavailable", http.StatusServiceUnavailable},
	kmsapi.Throttling:            {"Throttling", http.StatusBadRequest},
	kmsapi.UnknownOperation:      {"InvalidAction", http.StatusBadRequest},
	kmsapi.UnrecognizedClient:    {"InvalidClientTokenId", http.StatusForbidden},
	kmsapi.Validation:            {"ValidationError", http.StatusBadRequest},

	ExpiredWebIdentity: {"ExpiredTokenException", http.StatusBadRequest},
	IDPRejectedClaim:   {string(IDPRejectedClaim), http.StatusForbidden},
}

// OnWire gives the name and the HTTP status that a code has in answers of STS.
func OnWire(code kmsapi.Code) (name string, status int) {
	if a, ok := answers[code]; ok {
		return a.name, a.status
	}
	return string(code), code.Status()
}
