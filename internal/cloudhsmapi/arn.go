package cloudhsmapi

// Resource is the kind of thing that an ARN of CloudHSM names.
type Resource string

// The kinds of resources. They are also what ids begin with.
const (
	ResourceCluster Resource = "cluster"
	ResourceBackup  Resource = "backup"
	ResourceHSM     Resource = "hsm"
)

// ARN is the ARN of a resource, whose id is like cluster-2345abcdefg.
func (r Resource) ARN(region, account, id string) string {
	return "arn:aws:cloudhsm:" + region + ":" + account + ":" + string(r) + "/" + id
}
