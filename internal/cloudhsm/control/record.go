package control

import (
	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
)

// record is what the audit log says of the call. Passwords and session ids are not in it: their members are
// marked as sensitive.
func (c *call) record(out any, err error) *audit.Record {
	r := audit.OfCall(&c.caller, c.s.now(), cloudhsmapi.EventSource, c.op.Name, c.op.ReadOnly)
	r.RequestParameters, r.Resources = audit.Parameters(c.in), c.resources
	if err != nil {
		r.SetError(err, cloudhsmapi.OnWire)
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
