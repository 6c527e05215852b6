package trail

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/audit"
)

// Filter says which records are wanted. What is empty admits all.
type Filter struct {
	Events    []string // names; one of them
	Principal string   // ARN, user name, role name, principal id or access key id of who called
	Key       string   // ARN or id of a key, ARN or name of an alias, as in the resources or as the caller gave it
	ErrorCode string   // an exception's name; "any" is every failure, "none" every success
	Source    string   // IP address
	RequestID string
	Since     time.Time // inclusive
	Until     time.Time // exclusive
}

// Admits tells whether a record is wanted.
func (f *Filter) Admits(r *audit.Record) bool {
	switch {
	case len(f.Events) > 0 && !slices.Contains(f.Events, r.EventName),
		f.Source != "" && f.Source != r.SourceIPAddress,
		f.RequestID != "" && f.RequestID != r.RequestID,
		!f.Since.IsZero() && r.EventTime.Before(f.Since),
		!f.Until.IsZero() && !r.EventTime.Before(f.Until):
		return false
	}
	return f.admitsOutcome(r.ErrorCode) && f.admitsPrincipal(&r.UserIdentity) && f.admitsKey(r)
}

func (f *Filter) admitsOutcome(code string) bool {
	switch f.ErrorCode {
	case "":
		return true
	case "any":
		return code != ""
	case "none":
		return code == ""
	default:
		return code == f.ErrorCode
	}
}

func (f *Filter) admitsPrincipal(u *audit.UserIdentity) bool {
	names := []string{"", u.ARN, u.UserName, u.PrincipalID, u.AccessKeyID, u.InvokedBy}
	if u.SessionContext != nil && u.SessionContext.SessionIssuer != nil {
		issuer := u.SessionContext.SessionIssuer
		names = append(names, issuer.ARN, issuer.UserName)
	}
	return slices.Contains(names, f.Principal)
}

// keyMembers are the parameters that name a key or an alias.
var keyMembers = []string{"keyId", "targetKeyId", "sourceKeyId", "destinationKeyId", "aliasName"}

func (f *Filter) admitsKey(r *audit.Record) bool {
	if f.Key == "" {
		return true
	}
	for _, resource := range r.Resources {
		if f.names(resource.ARN) {
			return true
		}
	}
	if id, ok := r.ServiceEventDetails["keyId"].(string); ok && f.names(id) {
		return true
	}
	var given map[string]json.RawMessage
	if json.Unmarshal(r.RequestParameters, &given) != nil {
		return false
	}
	for _, member := range keyMembers {
		var id string
		if json.Unmarshal(given[member], &id) == nil && f.names(id) {
			return true
		}
	}
	return false
}

// names tells whether an ARN or id is that of the key or alias.
func (f *Filter) names(id string) bool {
	return id == f.Key || strings.HasPrefix(id, "arn:") && (strings.HasSuffix(id, "/"+f.Key) || strings.HasSuffix(id, ":"+f.Key))
}
