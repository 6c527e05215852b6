package control

import (
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
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

// wrongState tells what a cluster would have to be for the operation.
func (c *clusterRecord) wrongState(want string) *kmsapi.Error {
	return invalid("Cluster %s is in the state %s. This operation requires it to be %s.", c.ID, c.shownState(), want)
}
