package audit

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendRecord appends the record as one line of JSON. The record of an
// encryption is a large part of its cost, hence this instead of encoding/json;
// a test holds the two to the same result.
func appendRecord(dst []byte, r *Record) []byte {
	o := object{dst: append(dst, '{')}
	o.text("eventVersion", r.EventVersion)
	o.identity("userIdentity", &r.UserIdentity)
	o.time("eventTime", r.EventTime)
	o.text("eventSource", r.EventSource)
	o.text("eventName", r.EventName)
	o.text("awsRegion", r.AWSRegion)
	o.text("sourceIPAddress", r.SourceIPAddress)
	o.text("userAgent", cut(r.UserAgent))
	o.present("errorCode", r.ErrorCode)
	o.present("errorMessage", cut(r.ErrorMessage))
	o.raw("requestParameters", r.RequestParameters)
	o.raw("responseElements", r.ResponseElements)
	o.data("additionalEventData", r.AdditionalEventData)
	o.present("requestID", r.RequestID)
	o.text("eventID", r.EventID)
	o.flag("readOnly", r.ReadOnly)
	o.resources("resources", r.Resources)
	o.text("eventType", r.EventType)
	o.flag("managementEvent", r.ManagementEvent)
	o.text("eventCategory", r.EventCategory)
	o.text("recipientAccountId", r.RecipientAccountID)
	o.present("sharedEventID", r.SharedEventID)
	o.data("serviceEventDetails", r.ServiceEventDetails)
	if t := r.TLSDetails; t != nil {
		o.open("tlsDetails")
		o.text("tlsVersion", t.TLSVersion)
		o.text("cipherSuite", t.CipherSuite)
		o.text("clientProvidedHostHeader", cut(t.ClientProvidedHostHeader))
		o.close()
	}
	return append(o.dst, '}', '\n')
}

// maxText is how much CloudTrail keeps of texts that callers choose, in bytes.
const maxText = 1024

// cut leaves at most maxText bytes of s, and no part of a character.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// object appends the members of a JSON object, and of those within it.
type object struct{ dst []byte }

// open begins a member that is an object: what is appended until close is in it.
func (o *object) open(name string) {
	o.name(name)
	o.dst = append(o.dst, '{')
}

func (o *object) close() { o.dst = append(o.dst, '}') }

func (o *object) name(name string) {
	if o.dst[len(o.dst)-1] != '{' {
		o.dst = append(o.dst, ',')
	}
	o.dst = append(o.dst, '"')
	o.dst = append(o.dst, name...)
	o.dst = append(o.dst, '"', ':')
}

func (o *object) text(name, value string) {
	o.name(name)
	o.dst = appendString(o.dst, value)
}

// present appends a member unless it is empty.
func (o *object) present(name, value string) {
	if value != "" {
		o.text(name, value)
	}
}

func (o *object) flag(name string, value bool) {
	o.name(name)
	o.dst = strconv.AppendBool(o.dst, value)
}

func (o *object) raw(name string, value []byte) {
	o.name(name)
	if value == nil {
		value = []byte("null")
	}
	o.dst = append(o.dst, value...)
}

func (o *object) identity(name string, u *UserIdentity) {
	o.open(name)
	o.present("type", u.Type)
	o.present("principalId", u.PrincipalID)
	o.present("arn", u.ARN)
	o.present("accountId", u.AccountID)
	o.present("accessKeyId", u.AccessKeyID)
	o.present("userName", u.UserName)
	if u.SessionContext != nil {
		o.session("sessionContext", u.SessionContext)
	}
	o.present("invokedBy", u.InvokedBy)
	o.present("identityProvider", u.IdentityProvider)
	o.close()
}

func (o *object) session(name string, s *SessionContext) {
	o.open(name)
	if i := s.SessionIssuer; i != nil {
		o.open("sessionIssuer")
		o.text("type", i.Type)
		o.text("principalId", i.PrincipalID)
		o.text("arn", i.ARN)
		o.text("accountId", i.AccountID)
		o.present("userName", i.UserName)
		o.close()
	}
	if w := s.WebIDFederationData; w != nil {
		o.open("webIdFederationData")
		o.text("federatedProvider", w.FederatedProvider)
		o.value("attributes", w.Attributes)
		o.close()
	}
	if a := s.Attributes; a != nil {
		o.open("attributes")
		o.time("creationDate", a.CreationDate)
		o.text("mfaAuthenticated", strconv.FormatBool(a.MFAAuthenticated))
		o.close()
	}
	o.present("sourceIdentity", s.SourceIdentity)
	o.close()
}

// data appends a member unless it is empty.
func (o *object) data(name string, d Data) {
	if len(d) == 0 {
		return
	}
	var held [8]string
	keys := held[:0]
	for key := range d {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	o.open(name)
	for _, key := range keys {
		o.value(key, d[key])
	}
	o.close()
}

// value appends a member of any kind; one that is no JSON is null.
func (o *object) value(name string, v any) {
	if text, ok := v.(string); ok {
		o.text(name, text)
		return
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		encoded = nil
	}
	o.raw(name, encoded)
}

func (o *object) time(name string, t time.Time) {
	o.name(name)
	o.dst = t.AppendFormat(o.dst, `"`+time.RFC3339Nano+`"`)
}

func (o *object) resources(name string, list []Resource) {
	if len(list) == 0 {
		return
	}
	o.name(name)
	for i, r := range list {
		before := byte('[')
		if i > 0 {
			before = ','
		}
		o.dst = append(o.dst, before, '{')
		o.text("accountId", r.AccountID)
		o.text("type", r.Type)
		o.text("ARN", r.ARN)
		o.close()
	}
	o.dst = append(o.dst, ']')
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
