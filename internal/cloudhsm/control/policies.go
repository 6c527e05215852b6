package control

import (
	"cmp"
	"context"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/store"
)

// theBackup is ownBackup, but tells what is wrong with the ARN to those only who may do the operation to what it names.
func (c *call) theBackup(arn string) (string, error) {
	id, err := c.ownBackup(arn)
	if err == nil {
		return id, nil
	}
	if denied := c.permit(cmp.Or(arn, "*"), nil); denied != nil {
		return "", denied
	}
	return "", err
}

// ownBackup is the id of the backup of the caller's account and Region that an ARN names. AWS's model leaves it
// optional, and takes clusters and HSMs, which cannot have resource policies.
func (c *call) ownBackup(arn string) (string, error) {
	parts := backupARN.FindStringSubmatch(arn)
	switch {
	case arn == "":
		return "", invalid("ResourceArn is missing.")
	case parts == nil:
		return "", invalid("%s is not the ARN of a backup: no other resource can have a resource policy.", arn)
	case parts[1] != c.caller.Region || parts[2] != c.caller.Account:
		return "", backupNotFound(parts[3])
	}
	return parts[3], nil
}

func (c *call) changePolicy(ctx context.Context, arn string, fn func(rec *backupRecord) error) error {
	id, err := c.theBackup(arn)
	if err != nil {
		return err
	}
	_, err = c.changeBackup(ctx, id, func(_ store.Tx, rec *backupRecord) error {
		if err := rec.must(cloudhsmapi.BackupReady); err != nil {
			return err
		}
		return fn(rec)
	})
	return err
}

func (c *call) putResourcePolicy(ctx context.Context, in *cloudhsmapi.PutResourcePolicyRequest) (*cloudhsmapi.PutResourcePolicyResponse, error) {
	err := c.changePolicy(ctx, in.ResourceARN, func(rec *backupRecord) error {
		if in.Policy == "" {
			return invalid("Policy is missing.")
		}
		if _, err := policy.ParseResource([]byte(in.Policy)); err != nil {
			return invalid("The resource policy is not valid: %s.", strings.TrimPrefix(err.Error(), "policy: "))
		}
		rec.Policy = in.Policy
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.PutResourcePolicyResponse{ResourceARN: in.ResourceARN, Policy: in.Policy}, nil
}

func (c *call) getResourcePolicy(ctx context.Context, in *cloudhsmapi.GetResourcePolicyRequest) (*cloudhsmapi.GetResourcePolicyResponse, error) {
	id, err := c.theBackup(in.ResourceARN)
	if err != nil {
		return nil, err
	}
	out := &cloudhsmapi.GetResourcePolicyResponse{}
	err = c.s.db.View(ctx, func(r store.Reader) error {
		rec, err := c.manageBackup(r, id)
		if err == nil {
			out.Policy = rec.Policy
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *call) deleteResourcePolicy(ctx context.Context, in *cloudhsmapi.DeleteResourcePolicyRequest) (*cloudhsmapi.DeleteResourcePolicyResponse, error) {
	out := &cloudhsmapi.DeleteResourcePolicyResponse{ResourceARN: in.ResourceARN}
	err := c.changePolicy(ctx, in.ResourceARN, func(rec *backupRecord) error {
		out.Policy, rec.Policy = rec.Policy, ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
