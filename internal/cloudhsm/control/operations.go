package control

import (
	"context"
	"slices"
)

// Operation is one operation of the API.
type Operation struct {
	Name       string
	Permission string // "cloudhsm:CreateCluster"
	ReadOnly   bool   // for the audit record
	New        func() any
	do         func(ctx context.Context, c *call, in any) (any, error)
}

func operation[In, Out any](name string, do func(*call, context.Context, *In) (*Out, error)) *Operation {
	return &Operation{
		Name:       name,
		Permission: "cloudhsm:" + name,
		New:        func() any { return new(In) },
		do: func(ctx context.Context, c *call, in any) (any, error) {
			out, err := do(c, ctx, in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

func reading[In, Out any](name string, do func(*call, context.Context, *In) (*Out, error)) *Operation {
	op := operation(name, do)
	op.ReadOnly = true
	return op
}

// Operations is the table of the operations of CloudHSM v2.
func Operations() []*Operation { return slices.Clone(table) }

var table = []*Operation{
	operation("CopyBackupToRegion", (*call).copyBackupToRegion),
	operation("CreateCluster", (*call).createCluster),
	operation("CreateHsm", (*call).createHsm),
	operation("DeleteBackup", (*call).deleteBackup),
	operation("DeleteCluster", (*call).deleteCluster),
	operation("DeleteHsm", (*call).deleteHsm),
	operation("DeleteResourcePolicy", (*call).deleteResourcePolicy),
	reading("DescribeBackups", (*call).describeBackups),
	reading("DescribeClusters", (*call).describeClusters),
	reading("GetResourcePolicy", (*call).getResourcePolicy),
	operation("InitializeCluster", (*call).initializeCluster),
	reading("ListTags", (*call).listTags),
	operation("ModifyBackupAttributes", (*call).modifyBackupAttributes),
	operation("ModifyCluster", (*call).modifyCluster),
	operation("PutResourcePolicy", (*call).putResourcePolicy),
	operation("RestoreBackup", (*call).restoreBackup),
	operation("TagResource", (*call).tagResource),
	operation("UntagResource", (*call).untagResource),
}
