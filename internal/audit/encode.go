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
		o.name("tlsDetails")
		inner := object{dst: append(o.dst, '{')}
		inner.text("tlsVersion", t.TLSVersion)
		inner.text("cipherSuite", t.CipherSuite)
		inner.text("clientProvidedHostHeader", cut(t.ClientProvidedHostHeader))
		o.dst = append(inner.dst, '}')
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

// object appends the members of a JSON object.
type object struct{ dst []byte }

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
	o.name(name)
	inner := object{dst: append(o.dst, '{')}
	inner.present("type", u.Type)
	inner.present("principalId", u.PrincipalID)
	inner.present("arn", u.ARN)
	inner.present("accountId", u.AccountID)
	inner.present("accessKeyId", u.AccessKeyID)
	inner.present("userName", u.UserName)
	if u.SessionContext != nil {
		inner.session("sessionContext", u.SessionContext)
	}
	inner.present("invokedBy", u.InvokedBy)
	inner.present("identityProvider", u.IdentityProvider)
	o.dst = append(inner.dst, '}')
}

func (o *object) session(name string, s *SessionContext) {
	o.name(name)
	inner := object{dst: append(o.dst, '{')}
	if i := s.SessionIssuer; i != nil {
		inner.name("sessionIssuer")
		issuer := object{dst: append(inner.dst, '{')}
		issuer.text("type", i.Type)
		issuer.text("principalId", i.PrincipalID)
		issuer.text("arn", i.ARN)
		issuer.text("accountId", i.AccountID)
		issuer.present("userName", i.UserName)
		inner.dst = append(issuer.dst, '}')
	}
	if w := s.WebIDFederationData; w != nil {
		inner.name("webIdFederationData")
		web := object{dst: append(inner.dst, '{')}
		web.text("federatedProvider", w.FederatedProvider)
		web.value("attributes", w.Attributes)
		inner.dst = append(web.dst, '}')
	}
	if a := s.Attributes; a != nil {
		inner.name("attributes")
		attributes := object{dst: append(inner.dst, '{')}
		attributes.time("creationDate", a.CreationDate)
		attributes.text("mfaAuthenticated", strconv.FormatBool(a.MFAAuthenticated))
		inner.dst = append(attributes.dst, '}')
	}
	inner.present("sourceIdentity", s.SourceIdentity)
	o.dst = append(inner.dst, '}')
}

// data appends a member unless it is empty.
func (o *object) data(name string, d Data) {
	if len(d) == 0 {
		return
	}
	o.name(name)
	var held [8]string
	keys := held[:0]
	for key := range d {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	inner := object{dst: append(o.dst, '{')}
	for _, key := range keys {
		inner.value(key, d[key])
	}
	o.dst = append(inner.dst, '}')
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
		open := byte('[')
		if i > 0 {
			open = ','
		}
		inner := object{dst: append(o.dst, open, '{')}
		inner.text("accountId", r.AccountID)
		inner.text("type", r.Type)
		inner.text("ARN", r.ARN)
		o.dst = append(inner.dst, '}')
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
