package kms

import (
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// checkPrincipal admits those whom a new grant can be for.
func (c *call) checkPrincipal(arn string) error {
	if err := checkPrincipalARN(arn, c.caller.Region); err != nil {
		return err
	}
	if !c.s.exists(arn) {
		return noPrincipal(arn)
	}
	return nil
}

// checkPrincipalARN admits the ARNs of principals that a grant can be for: an
// account (its root), an IAM user, a role, a session of a role or a federated
// user, of the Region's partition.
func checkPrincipalARN(arn, region string) error {
	if a, ok := kmsapi.ParseARN(arn); ok && a.Partition == kmsapi.PartitionOf(region) && isPrincipal(a) {
		return nil
	}
	return noPrincipal(arn)
}

func noPrincipal(arn string) error {
	return kmsapi.Errorf(kmsapi.InvalidArn, "ARN does not refer to a valid principal: %s", arn)
}

func isPrincipal(a kmsapi.ARN) bool {
	if a.Region != "" || !isAccountID(a.Account) || strings.Contains(a.Resource, ":") {
		return false
	}
	kind, name, named := strings.Cut(a.Resource, "/")
	parts := strings.Split(name, "/")
	whole := !slices.Contains(parts, "")
	switch a.Service + ":" + kind {
	case "iam:root":
		return !named
	case "iam:user", "iam:role":
		return whole // a path may come before the name
	case "sts:assumed-role":
		return whole && len(parts) == 2 // the role's name without its path, and the session's
	case "sts:federated-user":
		return whole && len(parts) == 1
	default:
		return false
	}
}

func isAccountID(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// isServicePrincipal tells the form of services' names, as "rds.amazonaws.com".
func isServicePrincipal(name string) bool {
	service, found := strings.CutSuffix(strings.TrimSuffix(name, ".cn"), ".amazonaws.com")
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-."
	return found && len(name) <= 256 && strings.Trim(service, letters) == "" && !slices.Contains(strings.Split(service, "."), "")
}

// accountARN is the ARN that stands for an account as a principal.
func accountARN(region, account string) string {
	return "arn:" + kmsapi.PartitionOf(region) + ":iam::" + account + ":root"
}

// speaksFor tells whether the caller may act as the principal of a grant: it is that principal, is
// a session of that role, or belongs to that account, whose own policies allow it.
func (c *call) speaksFor(principal string, allowed bool) bool {
	if principal == "" {
		return false
	}
	return slices.Contains(c.grantees(), principal) || allowed && principal == accountARN(c.caller.Region, c.caller.Account)
}
