package audit

import (
	"errors"
	"time"

	"kastellan.dev/internal/identity"
	"kastellan.dev/internal/kmsapi"
)

// OfCall begins the record of a call: who asked which service for what, when and from where. What the
// caller asked about, and what came of it, is added by the service.
func OfCall(caller *identity.Caller, at time.Time, source, operation string, readOnly bool) *Record {
	r := &Record{
		EventVersion:       eventVersion,
		UserIdentity:       IdentityOf(caller.Principal),
		EventTime:          at.UTC(),
		EventSource:        source,
		EventName:          operation,
		AWSRegion:          caller.Region,
		SourceIPAddress:    caller.SourceIP,
		UserAgent:          caller.UserAgent,
		RequestID:          caller.RequestID,
		EventID:            NewUUID(),
		ReadOnly:           readOnly,
		EventType:          APICall,
		ManagementEvent:    true,
		EventCategory:      management,
		RecipientAccountID: caller.Account,
	}
	if caller.TLSVersion != "" {
		r.TLSDetails = &TLSDetails{TLSVersion: caller.TLSVersion, CipherSuite: caller.CipherSuite, ClientProvidedHostHeader: caller.Host}
	}
	return r
}

// What every record has.
const (
	eventVersion = "1.11"
	management   = "Management"
)

// SetError says why a call failed: onWire gives the name of a code in the service's answers. Of an error that
// callers are told nothing of, neither are the readers of the record.
func (r *Record) SetError(err error, onWire func(kmsapi.Code) (name string, status int)) {
	r.ErrorCode, _ = onWire(kmsapi.CodeOf(err))
	var known *kmsapi.Error
	if errors.As(err, &known) {
		r.ErrorMessage = known.Message
	}
}
