package kmsapi

import "strings"

// ARN is an Amazon Resource Name of a KMS resource.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// ParseARN splits an ARN; ok is false when s is not "arn:" and five more parts.
func ParseARN(s string) (a ARN, ok bool) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return ARN{}, false
	}
	return ARN{Partition: parts[1], Service: parts[2], Region: parts[3], Account: parts[4], Resource: parts[5]}, true
}

// String gives the ARN's text.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// PartitionOf is the partition that a Region belongs to.
func PartitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	default:
		return "aws"
	}
}

// KeyARN is the ARN of the KMS key with the bare id.
func KeyARN(region, account, id string) string {
	return ARN{PartitionOf(region), "kms", region, account, "key/" + id}.String()
}

// AliasARN is the ARN of the alias; name includes "alias/".
func AliasARN(region, account, name string) string {
	return ARN{PartitionOf(region), "kms", region, account, name}.String()
}
