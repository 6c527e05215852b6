package control

import (
	"errors"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

// Errors that several operations share.

func invalid(format string, args ...any) *kmsapi.Error {
	return kmsapi.Errorf(cloudhsmapi.InvalidRequest, format, args...)
}

func clusterNotFound(id string) *kmsapi.Error {
	return kmsapi.Errorf(cloudhsmapi.ResourceNotFound, "Cluster %s does not exist in this account and Region.", id)
}

func backupNotFound(id string) *kmsapi.Error {
	return kmsapi.Errorf(cloudhsmapi.ResourceNotFound, "Backup %s does not exist in this account and Region.", id)
}

// shownCause is what the API tells of why an HSM is not as it is meant to be. Where tokens are, what they are called, and whose
// backups there are is for the server's log, which tells all of it.
func shownCause(failure error) string {
	var known *kmsapi.Error
	if errors.As(failure, &known) {
		return cut(known.Message, maxStateMessage)
	}
	for _, cause := range []error{errNoVault, errNoPools, errUnreachable} {
		if errors.Is(failure, cause) {
			return "This failed and is tried again: " + cause.Error() + "."
		}
	}
	return "This failed and is tried again (" + pkcs11.Class(failure) + "). The server's log tells more."
}

// wrongState tells what a cluster would have to be for the operation.
func (c *clusterRecord) wrongState(want string) *kmsapi.Error {
	return invalid("Cluster %s is in the state %s. This operation requires it to be %s.", c.ID, c.shownState(), want)
}
