package kms

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
)

// aboutKey notes a key that the caller may use.
func (c *call) aboutKey(k *keyEntry) {
	c.about(keyResource(k.Account, k.ARN))
	c.keys = append(c.keys, k)
}

func (c *call) about(r audit.Resource) { c.resources = append(c.resources, r) }

func keyResource(account, arn string) audit.Resource {
	return audit.Resource{AccountID: account, Type: "AWS::KMS::Key", ARN: arn}
}

func aliasResource(account, arn string) audit.Resource {
	return audit.Resource{AccountID: account, Type: "AWS::KMS::Alias", ARN: arn}
}

func (c *call) note(name string, value any) {
	if value == "" {
		return
	}
	if c.notes == nil {
		c.notes = make(audit.Data, 4)
	}
	c.notes[name] = value
}

// noteMaterial notes which of a key's materials the call uses, and where it is.
func (c *call) noteMaterial(k *keyEntry, v *keyVersion) {
	if c.noting == "" {
		c.note("keyMaterialId", v.materialID)
		c.note("customKeyStoreId", k.StoreID)
		c.note("xksKeyId", k.XksKeyID)
		return
	}
	c.note(c.noting+"KeyMaterialId", v.materialID)
	c.note(c.noting+"CustomKeyStoreId", k.StoreID)
	c.note(c.noting+"XksKeyId", k.XksKeyID)
}

// noteBacking notes where the material of a key is that changes.
func (c *call) noteBacking(k *keyRecord) {
	for name, value := range c.s.backing(k) {
		c.note(name, value)
	}
}

// backing tells in which custom key store the material of a key is, and what that belongs to.
func (s *Service) backing(k *keyRecord) audit.Data {
	if k.StoreID == "" {
		return nil
	}
	where := audit.Data{"customKeyStoreId": k.StoreID}
	if k.XksKeyID != "" {
		where["xksKeyId"] = k.XksKeyID
	}
	if store := s.mirror.keyStore(k.Account, k.Region, k.StoreID); store != nil && store.HSM != nil {
		where["clusterId"] = store.HSM.ClusterID
	}
	return where
}

// noteRecipient notes what attests the recipient of the answer: the registers
// that are not all zeros.
func (c *call) noteRecipient(r *recipient) {
	if r == nil {
		return
	}
	a := r.attestation
	said := audit.Data{"attestationDocumentModuleId": a.ModuleID}
	if digest := a.ImageSHA384(); digest != "" {
		said["attestationDocumentEnclaveImageDigest"] = digest
	}
	for prefix, registers := range map[string]map[int][]byte{"attestationDocumentEnclavePCR": a.PCRs, "attestationDocumentNitroTPMPCR": a.NitroTPMPCRs} {
		for n, value := range registers {
			if slices.ContainsFunc(value, func(b byte) bool { return b != 0 }) {
				said[prefix+strconv.Itoa(n)] = hex.EncodeToString(value)
			}
		}
	}
	c.note("recipient", said)
}

// records are the record of the call, and those that go with it: for the
// accounts of other keys, and of what it did in another Region.
func (c *call) records(r *audit.Record, out any, err error) []*audit.Record {
	records := append(c.ownersRecords(r), r)
	if err == nil {
		records = append(records, c.elsewhere(r, out)...)
	}
	return records
}

// elsewhere are the records of what the call has done in another Region.
func (c *call) elsewhere(r *audit.Record, out any) []*audit.Record {
	switch in := c.in.(type) {
	case *kmsapi.UpdatePrimaryRegionRequest:
		there := *r
		there.EventID = audit.NewUUID()
		there.AWSRegion = in.PrimaryRegion
		there.Resources = nil
		for _, k := range c.keys {
			there.Resources = append(there.Resources, keyResource(k.Account, kmsapi.KeyARN(in.PrimaryRegion, k.Account, k.ID)))
		}
		return []*audit.Record{&there}
	case *kmsapi.ReplicateKeyRequest:
		there := *r
		there.EventID = audit.NewUUID()
		made := out.(*kmsapi.ReplicateKeyResponse).ReplicaKeyMetadata
		there.EventName, there.AWSRegion = "CreateKey", in.ReplicaRegion
		there.UserIdentity.InvokedBy, there.SourceIPAddress, there.UserAgent, there.TLSDetails = internal, internal, internal, nil
		there.RequestParameters = audit.Parameters(&shownCreateKey{
			Policy: in.Policy, Description: &made.Description, KeyUsage: made.KeyUsage, BypassPolicyLockoutSafetyCheck: &in.BypassPolicyLockoutSafetyCheck,
			CustomerMasterKeySpec: made.CustomerMasterKeySpec, KeySpec: made.KeySpec, Origin: made.Origin, MultiRegion: made.MultiRegion, Tags: in.Tags,
		})
		there.ResponseElements = audit.Parameters(&kmsapi.CreateKeyResponse{KeyMetadata: made})
		there.Resources = []audit.Resource{keyResource(made.AWSAccountID, made.Arn)}
		return []*audit.Record{&there}
	default:
		return nil
	}
}

// internal stands for the service where it acts by itself.
const internal = "AWS Internal"

// record is what the audit log says of the call.
func (c *call) record(out any, err error) *audit.Record {
	r := c.s.newRecord(c.op, &c.caller)
	r.RequestParameters = audit.Parameters(shownRequest(c.in))
	r.ResponseElements = c.responseElements(out, err)
	r.AdditionalEventData, r.Resources = c.notes, c.resources
	setError(r, err)
	return r
}

// newRecord is what there is to say of a caller who asks for an operation.
func (s *Service) newRecord(op *Operation, p *identity.Caller) *audit.Record {
	return audit.OfCall(p, s.now(), "kms.amazonaws.com", op.Name, op.ReadOnly)
}

// setError says why the call failed, if it did.
func setError(r *audit.Record, err error) {
	if err != nil {
		r.SetError(err, onWire)
	}
}

// onWire: codes of KMS are their own names.
func onWire(code kmsapi.Code) (name string, status int) { return string(code), code.Status() }

// ownersRecords are the copies of a record for other accounts whose keys the caller was allowed to
// use. They tell of the caller its account, and not who it is there.
func (c *call) ownersRecords(r *audit.Record) (copies []*audit.Record) {
	for _, k := range c.keys {
		told := slices.ContainsFunc(copies, func(r *audit.Record) bool { return r.RecipientAccountID == k.Account })
		if k.Account == c.caller.Account || told {
			continue
		}
		if r.SharedEventID == "" {
			r.SharedEventID = audit.NewUUID()
		}
		theirs := *r
		theirs.EventID, theirs.RecipientAccountID = audit.NewUUID(), k.Account
		theirs.UserIdentity = audit.UserIdentity{Type: "AWSAccount", PrincipalID: c.caller.PrincipalID, AccountID: c.caller.Account}
		copies = append(copies, &theirs)
	}
	return copies
}

// responseElements are recorded of what changes something, and of nothing else.
func (c *call) responseElements(out any, err error) json.RawMessage {
	if err != nil || c.op.ReadOnly {
		return nil
	}
	if c.shown != nil {
		out = c.shown
	}
	return audit.Parameters(out)
}
