package kms

import (
	"encoding/json"
	"errors"
	"slices"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kmsapi"
)

// aboutKey notes a key that the caller may use.
func (c *call) aboutKey(k *keyEntry) {
	c.about("AWS::KMS::Key", k.Account, k.ARN)
	c.keys = append(c.keys, k)
}

func (c *call) about(kind, account, arn string) {
	c.resources = append(c.resources, audit.Resource{AccountID: account, Type: kind, ARN: arn})
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

// record is what the audit log says of the call.
func (c *call) record(in, out any, err error) *audit.Record {
	p := c.caller
	r := &audit.Record{
		EventVersion:        "1.11",
		UserIdentity:        audit.UserIdentity{Type: p.Type, PrincipalID: p.PrincipalID, ARN: p.ARN, AccountID: p.Account, AccessKeyID: p.AccessKeyID, UserName: p.UserName, InvokedBy: p.ViaService},
		EventTime:           c.s.now().UTC(),
		EventSource:         "kms.amazonaws.com",
		EventName:           c.op.Name,
		AWSRegion:           p.Region,
		SourceIPAddress:     p.SourceIP,
		UserAgent:           p.UserAgent,
		RequestParameters:   audit.Parameters(in),
		ResponseElements:    c.responseElements(out, err),
		AdditionalEventData: c.notes,
		RequestID:           p.RequestID,
		EventID:             newUUID(),
		ReadOnly:            c.op.ReadOnly,
		Resources:           c.resources,
		EventType:           audit.APICall,
		ManagementEvent:     true,
		EventCategory:       "Management",
		RecipientAccountID:  p.Account,
	}
	if p.TLSVersion != "" {
		r.TLSDetails = &audit.TLSDetails{TLSVersion: p.TLSVersion, CipherSuite: p.CipherSuite, ClientProvidedHostHeader: p.Host}
	}
	if err != nil {
		r.ErrorCode = string(kmsapi.CodeOf(err))
		var known *kmsapi.Error
		if errors.As(err, &known) {
			r.ErrorMessage = known.Message
		}
	}
	return r
}

// ownersRecords are the copies of a record for other accounts whose keys the caller was allowed to
// use. They tell of the caller its account, and not who it is there.
func (c *call) ownersRecords(r *audit.Record) (copies []*audit.Record) {
	for _, k := range c.keys {
		told := slices.ContainsFunc(copies, func(r *audit.Record) bool { return r.RecipientAccountID == k.Account })
		if k.Account == c.caller.Account || told {
			continue
		}
		if r.SharedEventID == "" {
			r.SharedEventID = newUUID()
		}
		theirs := *r
		theirs.EventID, theirs.RecipientAccountID = newUUID(), k.Account
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

// recordEvent writes the record of something the service did by itself.
func (s *Service) recordEvent(account, region, name, keyARN string, data map[string]string) {
	r := &audit.Record{
		EventVersion: "1.11", UserIdentity: audit.UserIdentity{AccountID: account, InvokedBy: "AWS Internal"},
		EventTime: s.now().UTC(), EventSource: "kms.amazonaws.com", EventName: name, AWSRegion: region,
		SourceIPAddress: "AWS Internal", UserAgent: "AWS Internal", EventID: newUUID(),
		EventType: audit.ServiceEvent, ManagementEvent: true, EventCategory: "Management", RecipientAccountID: account,
		AdditionalEventData: make(audit.Data, len(data)),
	}
	for k, v := range data {
		if v != "" {
			r.AdditionalEventData[k] = v
		}
	}
	if keyARN != "" {
		r.Resources = []audit.Resource{{AccountID: account, Type: "AWS::KMS::Key", ARN: keyARN}}
	}
	if err := s.audit.Write(s.ctx, r); err != nil {
		s.log.Error("what the service did by itself could not be recorded", "event", name, "error", err)
	}
}
