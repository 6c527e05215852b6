package identity

import (
	"strconv"
	"strings"
	"time"
)

// Lookup gives the values of a global condition key, in lower case: those about the
// principal and about the circumstances of the request, which is for a Region.
func (c *Caller) Lookup(key, region string, now time.Time) (values []string, ok bool) {
	switch key {
	case "aws:currenttime":
		return one(now.UTC().Format(time.RFC3339))
	case "aws:epochtime":
		return one(strconv.FormatInt(now.Unix(), 10))
	case "aws:requestedregion":
		return some(region)
	case "aws:securetransport":
		return one(strconv.FormatBool(c.TLSVersion != ""))
	case "aws:sourceip":
		return some(c.SourceIP)
	case "aws:useragent":
		return some(c.UserAgent)
	case "aws:referer":
		return some(c.Referer)
	case "aws:principalisawsservice":
		return one("false")
	}
	if c.Principal == nil {
		return nil, false
	}
	return c.Principal.lookup(key)
}

// lookup gives the values of condition keys about the principal alone.
func (p *Principal) lookup(key string) (values []string, ok bool) {
	switch key {
	case "aws:principalarn":
		if role := p.Subject().Role; role != "" {
			return one(role)
		}
		return some(p.ARN)
	case "aws:principalaccount":
		return some(p.Account)
	case "aws:principaltype":
		return some(principalTypes[p.Type])
	case "aws:userid":
		return some(p.PrincipalID)
	case "aws:username":
		return some(p.UserName)
	case "aws:viaawsservice":
		return one(strconv.FormatBool(p.ViaService != ""))
	case "aws:calledvia", "aws:calledviafirst", "aws:calledvialast":
		return some(calledVia(p.ViaService))
	}
	if which, found := strings.CutPrefix(key, "aws:principalorg"); found {
		return p.organization.Value(which)
	}
	if name, found := strings.CutPrefix(key, "aws:principaltag/"); found {
		return tag(p.Tags, name)
	}
	if p.Session != nil {
		return p.Session.lookup(key)
	}
	return nil, false
}

// Value is that of aws:PrincipalOrgID and its like, by what they end in: "id" or "paths".
func (o *Organization) Value(which string) (values []string, ok bool) {
	switch {
	case o == nil:
		return nil, false
	case which == "id":
		return some(o.ID)
	case which == "paths":
		return some(o.Path)
	default:
		return nil, false
	}
}

// calledVia is how aws:CalledVia names a service: without its Region.
func calledVia(service string) string {
	name, rest, _ := strings.Cut(service, ".")
	if _, domain, ok := strings.Cut(rest, "."); ok {
		return name + "." + domain
	}
	return service
}

// principalTypes are the values of aws:PrincipalType.
var principalTypes = map[string]string{
	TypeRoot:          "Account",
	TypeIAMUser:       "User",
	TypeAssumedRole:   "AssumedRole",
	TypeFederatedUser: "FederatedUser",
}

// lookup gives the values of condition keys that temporary credentials have.
func (s *Session) lookup(key string) (values []string, ok bool) {
	switch key {
	case "aws:tokenissuetime":
		return one(s.Issued.UTC().Format(time.RFC3339))
	case "aws:multifactorauthpresent":
		return one("false")
	case "aws:sourceidentity":
		return some(s.SourceIdentity)
	case "aws:federatedprovider":
		return some(s.Provider)
	}
	return some(s.Claims[key])
}

func tag(tags map[string]string, name string) (values []string, ok bool) {
	for key, value := range tags {
		if strings.EqualFold(key, name) { // IAM keeps names that differ by more than case
			values = append(values, value)
		}
	}
	return values, len(values) > 0
}

func one(value string) ([]string, bool) { return []string{value}, true }

// some is one, unless the value is empty: then the request does not have the key.
func some(value string) ([]string, bool) {
	if value == "" {
		return nil, false
	}
	return one(value)
}
