package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// call is one call of an operation by a caller. Only Do makes one, and all
// that an operation needs to get at a key goes through it.
type call struct {
	s      *Service
	caller identity.Caller
	op     *Operation
	ctx    context.Context // for the trace

	in        any           // the request
	decided   bool          // somebody asked whether the caller may
	permitted bool          // and the answer was yes, at least once
	asked     question      // the last one; see authorize.go
	looked    []looked      // at which condition keys for it
	presented []*grantEntry // the grants whose tokens the caller presents
	retiring  *grantEntry   // the grant that is to be retired
	sourceKey *keyEntry     // of ReEncrypt, once it is found
	to        lazyRecipient
	resources []audit.Resource
	keys      []*keyEntry   // those that the call was allowed to use,
	held      [2]*keyEntry  // where they are,
	group     keyspec.Group // and that of the last one that was counted
	watched   watched       // the key store that is in use
	notes     audit.Data    // additionalEventData
	noting    string        // "source" or "destination", for the notes of ReEncrypt
	shown     any           // what the record shows instead of the answer
}

// Do runs an operation for a caller who has been authenticated, on a request
// that satisfies the constraints of its type. The answer is of the type that
// the table says. The call is refused if its record cannot be written.
func (s *Service) Do(ctx context.Context, op *Operation, caller identity.Caller, in any) (any, error) {
	c := &call{s: s, caller: caller, op: op, in: in}
	c.keys = c.held[:0]
	out, err := c.run(ctx)
	record := c.record(out, err)
	for _, r := range c.records(record, out, err) {
		if werr := s.audit.Write(ctx, r); werr != nil {
			return nil, fmt.Errorf("recording %s: %w", op.Name, werr)
		}
	}
	if err != nil {
		return nil, err
	}
	c.countUses(record)
	return out, nil
}

// Refuse records that a caller who has been authenticated has asked for an
// operation in a way that it cannot be asked for. It gives the cause, unless it cannot be recorded.
func (s *Service) Refuse(ctx context.Context, op *Operation, caller identity.Caller, cause error) error {
	r := s.newRecord(op, &caller)
	setError(r, cause)
	if err := s.audit.Write(ctx, r); err != nil {
		return fmt.Errorf("recording %s: %w", op.Name, err)
	}
	return cause
}

func (c *call) run(ctx context.Context) (out any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s %w", c.op.Name, secret.Panicked(r))
		}
	}()
	if err := c.within(); err != nil {
		return nil, err
	}
	c.ctx = ctx
	out, err = c.op.do(ctx, c, c.in)
	if err == nil && !c.decided {
		return nil, errors.New(c.op.Name + " came to an answer without a decision")
	}
	return out, err
}

// manage gives the key that id names, as an id or a key ARN, to a caller who
// has the operation's permission on it, in a state that allows the operation.
func (c *call) manage(id string) (*keyEntry, error) {
	if !strings.HasPrefix(id, "arn:") && !isKeyID(id) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", id)
	}
	return c.use(id)
}

// use is manage for operations that take alias names and alias ARNs too.
func (c *call) use(id string) (*keyEntry, error) {
	return c.allowed(id, question{permission: c.op.Permission})
}

// allowed is use with a permission that is not the operation's own, or for one half of it.
func (c *call) allowed(id string, q question) (*keyEntry, error) {
	k, err := c.find(id, q)
	if err != nil {
		return nil, err
	}
	return k, c.inState(k)
}

// find resolves id and asks about the key. It says that a key does not exist only to
// those who would be allowed to use it.
func (c *call) find(id string, q question) (*keyEntry, error) {
	name, err := c.parse(id)
	if err != nil {
		return nil, err
	}
	k, missing := c.lookup(name)
	foreign := name.Account != c.caller.Account
	if foreign && (k == nil || !c.op.AcrossAccounts) {
		return nil, c.hidden(q.permission)
	}
	if strings.HasPrefix(name.Resource, "alias/") {
		q.alias = name.Resource
	}
	if k == nil {
		q.resource = name.String()
		if c.ask(q) != nil {
			return nil, c.hidden(q.permission)
		}
		return nil, missing
	}
	q.key, q.resource = k, k.ARN
	if err := c.ask(q); err != nil {
		return nil, err
	}
	c.aboutKey(k)
	return k, c.withinKeys(k)
}

// named gives the key that id names, whoever may use it, or nil.
func (c *call) named(id string) *keyEntry {
	name, err := c.parse(id)
	if err != nil {
		return nil
	}
	k, _ := c.lookup(name)
	return k
}

// lookup finds the key that an ARN of the caller's Region names.
func (c *call) lookup(name kmsapi.ARN) (*keyEntry, error) {
	id, isKey := strings.CutPrefix(name.Resource, "key/")
	if !isKey {
		alias := c.s.mirror.alias(name.Account, name.Region, name.Resource)
		if alias == nil {
			return nil, aliasNotFound(name.String())
		}
		id = alias.KeyID
	}
	k := c.s.mirror.key(name.Region, id)
	if k == nil || k.Account != name.Account {
		return nil, keyNotFound(kmsapi.KeyARN(name.Region, name.Account, id))
	}
	return k, nil
}

// parse makes an ARN of any of the four forms in which a key can be named.
func (c *call) parse(id string) (kmsapi.ARN, error) {
	name := kmsapi.ARN{Partition: kmsapi.PartitionOf(c.caller.Region), Service: "kms", Region: c.caller.Region, Account: c.caller.Account}
	switch {
	case strings.HasPrefix(id, "arn:"):
		return c.parseARN(id)
	case strings.HasPrefix(id, "alias/") && c.op.Aliases:
		name.Resource = id
		return name, nil
	case isKeyID(id):
		name.Resource = "key/" + id
		return name, nil
	default:
		return name, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", id)
	}
}

func (c *call) parseARN(id string) (kmsapi.ARN, error) {
	name, ok := kmsapi.ParseARN(id)
	kind, rest, _ := strings.Cut(name.Resource, "/")
	isKey, isAlias := kind == "key" && isKeyID(rest), kind == "alias" && rest != "" && c.op.Aliases
	if !ok || name.Service != "kms" || name.Partition != kmsapi.PartitionOf(c.caller.Region) || !isKey && !isAlias {
		code := kmsapi.NotFound
		if c.op.InvalidARN {
			code = kmsapi.InvalidArn
		}
		return name, kmsapi.Errorf(code, "Invalid arn '%s'", id)
	}
	if name.Region != c.caller.Region {
		return name, kmsapi.Errorf(kmsapi.NotFound, "Invalid arn %s", name.Region)
	}
	return name, nil
}

// isKeyID tells the two forms of a bare key id: a UUID with dashes, or "mrk-" and 32
// hexadecimal digits.
func isKeyID(s string) bool {
	if rest, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(rest) == 32 && isHex(rest)
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// material gives the key store of a key that this call has been allowed to
// use, for one of its materials.
func (c *call) material(k *keyEntry, v *keyVersion) (keystore.Store, error) {
	if err := c.reaching(k, v); err != nil {
		return nil, err
	}
	c.noteMaterial(k, v)
	return c.watch(k)
}

// private gives a key of any spec but SYMMETRIC_DEFAULT that this call has been allowed to use.
func (c *call) private(ctx context.Context, k *keyEntry) (keyspec.Key, error) {
	if err := c.reaching(k, k.current); err != nil {
		return nil, err
	}
	return c.s.soft.Open(ctx, c.onBehalf(), k.current.key, k.Spec)
}

// usePrivate is use for operations that need the key itself, of any spec but SYMMETRIC_DEFAULT.
func (c *call) usePrivate(ctx context.Context, id string) (*keyEntry, keyspec.Key, error) {
	k, err := c.use(id)
	if err != nil {
		return nil, nil, err
	}
	private, err := c.private(ctx, k)
	return k, private, err
}

// mayReach is the last look before a key store is asked for what is not of a key.
func (c *call) mayReach() error {
	if !c.permitted {
		return errors.New(c.op.Name + " reached for a key store without permission")
	}
	return nil
}

// mayTouch is the last look before something is done with the material of a key.
func (c *call) mayTouch(k *keyEntry) error {
	if !slices.Contains(c.keys, k) {
		return fmt.Errorf("%s reached for %s without permission", c.op.Name, k.ARN)
	}
	return nil
}

// reaching is mayTouch for one of the key's materials.
func (c *call) reaching(k *keyEntry, v *keyVersion) error {
	if err := c.mayTouch(k); err != nil {
		return err
	}
	if v == nil {
		return fmt.Errorf("%s has no key material", k.ARN)
	}
	return nil
}

// onBehalf tells a key store for whom it works.
func (c *call) onBehalf() keystore.Call {
	service, _, _ := strings.Cut(c.caller.ViaService, ".") // XKS names services without their Region
	return keystore.Call{PrincipalARN: c.caller.ARN, ViaService: service, Operation: c.op.Name, RequestID: c.caller.RequestID}
}
