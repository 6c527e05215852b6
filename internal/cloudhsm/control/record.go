package control

import (
	"errors"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
)

// record is what the audit log says of the call. Passwords and session ids are not in it: their members are
// marked as sensitive.
func (c *call) record(out any, err error) *audit.Record {
	p := c.caller
	r := &audit.Record{
		EventVersion:       "1.11",
		UserIdentity:       audit.IdentityOf(p.Principal),
		EventTime:          c.s.now().UTC(),
		EventSource:        cloudhsmapi.EventSource,
		EventName:          c.op.Name,
		AWSRegion:          p.Region,
		SourceIPAddress:    p.SourceIP,
		UserAgent:          p.UserAgent,
		RequestParameters:  audit.Parameters(c.in),
		RequestID:          p.RequestID,
		EventID:            audit.NewUUID(),
		ReadOnly:           c.op.ReadOnly,
		Resources:          c.resources,
		EventType:          audit.APICall,
		ManagementEvent:    true,
		EventCategory:      "Management",
		RecipientAccountID: p.Account,
	}
	if p.TLSVersion != "" {
		r.TLSDetails = &audit.TLSDetails{TLSVersion: p.TLSVersion, CipherSuite: p.CipherSuite, ClientProvidedHostHeader: p.Host}
	}
	if err != nil {
		r.ErrorCode, _ = cloudhsmapi.OnWire(kmsapi.CodeOf(err))
		var known *kmsapi.Error
		if errors.As(err, &known) {
			r.ErrorMessage = known.Message
		}
		return r
	}
	if !c.op.ReadOnly {
		r.ResponseElements = audit.Parameters(out)
	}
	return r
}

// event is the record of what the service has done by itself to a cluster or a backup.
func (s *Service) event(name, account, region, arn string, details audit.Data, failure error) {
	r := &audit.Record{
		EventVersion:        "1.11",
		UserIdentity:        audit.UserIdentity{AccountID: account, InvokedBy: "AWS Internal"},
		EventTime:           s.now().UTC(),
		EventSource:         cloudhsmapi.EventSource,
		EventName:           name,
		AWSRegion:           region,
		SourceIPAddress:     "AWS Internal",
		UserAgent:           "AWS Internal",
		EventID:             audit.NewUUID(),
		Resources:           []audit.Resource{resource(account, arn)},
		EventType:           audit.ServiceEvent,
		ManagementEvent:     true,
		EventCategory:       "Management",
		RecipientAccountID:  account,
		ServiceEventDetails: details,
	}
	if failure != nil {
		r.ErrorCode, r.ErrorMessage = string(cloudhsmapi.InternalFailure), failure.Error()
	}
	if err := s.audit.Write(s.ctx, r); err != nil {
		s.log.Error("what the control plane did could not be recorded", "event", name, "resource", arn, "error", err)
	}
}
