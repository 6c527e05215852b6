package kms

import "kastellan.dev/internal/kmsapi"

// Errors that several operations share.

func invalid(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.Validation, format, args...)
}

func keyNotFound(arn string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", arn)
}

func aliasNotFound(arn string) *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", arn)
}

func keyStoreNotFound() error {
	return kmsapi.Errorf(kmsapi.CustomKeyStoreNotFound, "The custom key store does not exist in this account and Region.")
}

func keyStoreState(rec *keyStoreRecord, want string) error {
	return kmsapi.Errorf(kmsapi.CustomKeyStoreInvalidState,
		"The custom key store %s is %s. This operation requires it to be %s.", rec.ID, rec.State, want)
}

// notReached is for a store that is CONNECTED, but not with this process.
func notReached(code kmsapi.Code, id string) error {
	return kmsapi.Errorf(code, "The custom key store %s is not connected.", id)
}
