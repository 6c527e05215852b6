// Package audit writes the record of every call: one line of JSON in the
// shape of AWS CloudTrail, for calls that were allowed and calls that were
// not, and for what the service does by itself.
//
// A [Log] writes the records that come at one moment together to each of its
// sinks: a [Lines] file, the tamper-evident directory of package audit/trail, a
// syslog server. Every sink is required unless it is wrapped by [Optional]: a
// record that one of them does not take is an error of Write, and a call whose
// record cannot be written is refused by the caller of Write.
//
// A record never holds a plaintext, a ciphertext, a password or a credential:
// members of a request that are sensitive or blobs are left out where they are
// turned into parameters (see Parameters), and there is no other way in.
package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Event types.
const (
	APICall      = "AwsApiCall"      // somebody called an operation
	ServiceEvent = "AwsServiceEvent" // the service acted by itself
)

// Record is one event. Members are named as in CloudTrail. Of the texts that a
// caller can make as long as a header may be, UserAgent, ErrorMessage and
// ClientProvidedHostHeader, the first 1,024 bytes are written.
type Record struct {
	EventVersion        string          `json:"eventVersion"`
	UserIdentity        UserIdentity    `json:"userIdentity"`
	EventTime           time.Time       `json:"eventTime"`
	EventSource         string          `json:"eventSource"`
	EventName           string          `json:"eventName"`
	AWSRegion           string          `json:"awsRegion"`
	SourceIPAddress     string          `json:"sourceIPAddress"`
	UserAgent           string          `json:"userAgent"`
	ErrorCode           string          `json:"errorCode,omitempty"`
	ErrorMessage        string          `json:"errorMessage,omitempty"`
	RequestParameters   json.RawMessage `json:"requestParameters"` // null when there are none
	ResponseElements    json.RawMessage `json:"responseElements"`  // null for what only reads or encrypts
	AdditionalEventData Data            `json:"additionalEventData,omitempty"`
	RequestID           string          `json:"requestID,omitempty"`
	EventID             string          `json:"eventID"`
	ReadOnly            bool            `json:"readOnly"`
	Resources           []Resource      `json:"resources,omitempty"`
	EventType           string          `json:"eventType"`
	ManagementEvent     bool            `json:"managementEvent"`
	EventCategory       string          `json:"eventCategory"`
	RecipientAccountID  string          `json:"recipientAccountId"`
	SharedEventID       string          `json:"sharedEventID,omitempty"`       // the same in the records of two accounts
	ServiceEventDetails Data            `json:"serviceEventDetails,omitempty"` // of service events
	TLSDetails          *TLSDetails     `json:"tlsDetails,omitempty"`
}

// Data holds members that only some events have. Values are texts, or whatever
// encoding/json takes.
type Data map[string]any

// UserIdentity is who called.
type UserIdentity struct {
	Type           string          `json:"type,omitempty"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"` // of temporary credentials
	InvokedBy      string          `json:"invokedBy,omitempty"`
	// IdentityProvider vouches for somebody who is not a principal yet.
	IdentityProvider string `json:"identityProvider,omitempty"`
}

// SessionContext is where temporary credentials come from.
type SessionContext struct {
	SessionIssuer       *SessionIssuer       `json:"sessionIssuer,omitempty"`
	WebIDFederationData *WebIDFederationData `json:"webIdFederationData,omitempty"`
	Attributes          *SessionAttributes   `json:"attributes,omitempty"`
	SourceIdentity      string               `json:"sourceIdentity,omitempty"`
}

// SessionIssuer is the role or user whose session it is.
type SessionIssuer struct {
	Type        string `json:"type"` // Role, IAMUser or Root
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName,omitempty"` // of the role or user
}

// WebIDFederationData is which identity provider vouched for the session.
type WebIDFederationData struct {
	FederatedProvider string            `json:"federatedProvider"`
	Attributes        map[string]string `json:"attributes"`
}

// SessionAttributes are the circumstances of the session.
type SessionAttributes struct {
	CreationDate     time.Time `json:"creationDate"`
	MFAAuthenticated bool      `json:"mfaAuthenticated,string"` // CloudTrail has it as a text
}

// Resource is a key, an alias or a role that the call was about.
type Resource struct {
	AccountID string `json:"accountId"`
	Type      string `json:"type"` // AWS::KMS::Key, AWS::KMS::Alias or AWS::IAM::Role
	ARN       string `json:"ARN"`
}

// TLSDetails is how the call was protected on its way.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion"`
	CipherSuite              string `json:"cipherSuite"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
}

// Writer takes records.
type Writer interface {
	// Write returns when every required sink has taken the record, or says why one
	// has not. It may be called from many goroutines at once.
	Write(ctx context.Context, r *Record) error
}
