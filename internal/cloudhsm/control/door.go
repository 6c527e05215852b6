package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// call is one call of an operation by a caller. Only Do makes one.
type call struct {
	s      *Service
	op     *Operation
	caller identity.Caller
	in     any

	decided   bool // somebody asked whether the caller may
	resources []audit.Resource
}

// Do runs an operation for a caller who has been authenticated, on a request that
// satisfies the constraints of its type. The call is refused if its record cannot be written.
func (s *Service) Do(ctx context.Context, op *Operation, caller identity.Caller, in any) (any, error) {
	c := &call{s: s, op: op, caller: caller, in: in}
	out, err := c.run(ctx)
	if werr := s.audit.Write(ctx, c.record(out, err)); werr != nil {
		return nil, fmt.Errorf("recording %s: %w", op.Name, werr)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Refuse records that a caller who has been authenticated has asked for an
// operation in a way that it cannot be asked for. It gives the cause, unless it cannot be recorded.
func (s *Service) Refuse(ctx context.Context, op *Operation, caller identity.Caller, cause error) error {
	c := &call{s: s, op: op, caller: caller}
	if err := s.audit.Write(ctx, c.record(nil, cause)); err != nil {
		return fmt.Errorf("recording %s: %w", op.Name, err)
	}
	return cause
}

// run is the operation; it outlives a panic, which is recorded as any other error.
func (c *call) run(ctx context.Context) (out any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s %w", c.op.Name, secret.Panicked(r))
		}
	}()
	out, err = c.op.do(ctx, c, c.in)
	if err == nil && !c.decided {
		return nil, errors.New(c.op.Name + " came to an answer without a decision")
	}
	return out, err
}

// permitTags fails unless the caller may give a new resource the tags that it is to have.
func (c *call) permitTags(resource string, tags []cloudhsmapi.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	return c.permitAction("cloudhsm:TagResource", resource, nil)
}

// permit fails unless the caller may do the operation to a resource, an ARN or "*", that has these tags.
func (c *call) permit(resource string, tags []cloudhsmapi.Tag) error {
	return c.permitAction(c.op.Permission, resource, tags)
}

func (c *call) permitAction(action, resource string, tags []cloudhsmapi.Tag) error {
	c.decided = true
	in := c.caller.Inputs()
	in.Owner = c.caller.Account
	outcome := policy.Decide(&in, c.request(action, resource, tags))
	if outcome.Decision == policy.Allow {
		return nil
	}
	return c.denied(action, resource, outcome.Decision)
}

func (c *call) request(action, resource string, tags []cloudhsmapi.Tag) *policy.Request {
	return &policy.Request{Subject: c.caller.Subject(), Action: action, Resource: resource, Values: &values{call: c, tags: tags}}
}

func (c *call) denied(action, resource string, decision policy.Decision) error {
	why := "because no policy allows the " + action + " action"
	if decision == policy.ExplicitDeny {
		why = "with an explicit deny"
	}
	return kmsapi.Errorf(cloudhsmapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s %s", c.caller.ARN, action, resource, why)
}

// changed changes the record that find gives to the caller, in one transaction, and has the reconciler look.
func changed[T stored](ctx context.Context, c *call, fn func(store.Tx, T) error, find func(store.Reader) (T, error)) (rec T, err error) {
	_, err = c.s.db.Update(ctx, func(tx store.Tx) (err error) {
		if rec, err = find(tx); err != nil {
			return err
		}
		if err := fn(tx, rec); err != nil {
			return err
		}
		return save(tx, rec.path(), rec)
	})
	if err == nil {
		c.s.kick()
	}
	return rec, err
}

// ours is the ARN of a resource in the caller's account and Region. The kind is in the id.
func (c *call) ours(id string) string {
	kind, _, _ := strings.Cut(id, "-")
	return cloudhsmapi.Resource(kind).ARN(c.caller.Region, c.caller.Account, id)
}

// about notes a resource of an account for the record, once: one that the caller was allowed to do something to.
func (c *call) about(account, arn string) {
	if !slices.ContainsFunc(c.resources, func(r audit.Resource) bool { return r.ARN == arn }) {
		c.resources = append(c.resources, resource(account, arn))
	}
}

// resource is a cluster or a backup as records show it.
func resource(account, arn string) audit.Resource {
	kind := "AWS::CloudHSM::Cluster"
	if strings.Contains(arn, ":backup/") {
		kind = "AWS::CloudHSM::Backup"
	}
	return audit.Resource{AccountID: account, Type: kind, ARN: arn}
}
