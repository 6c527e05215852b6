package sigv4

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/kmsapi"
)

const (
	// skew is how far a request's date may be off.
	skew = 5 * time.Minute
	// maxExpires is AWS's limit of X-Amz-Expires.
	maxExpires = 7 * 24 * time.Hour
)

// claim is what a request says about its signature, not yet believed.
type claim struct {
	query         bool // said in the query string, not in a header
	params        []param
	algorithm     string
	credential    string
	signedHeaders string
	signature     string
	token         string
	contentHash   string // x-amz-content-sha256 among the parameters
	date          string
	dateHeader    string // where the date stands; empty in the query form
	expires       string

	at       time.Time     // the date
	validity time.Duration // from the date on
	scope    scope
}

// scope is a credential taken apart.
type scope struct{ accessKeyID, date, region, service, terminator string }

// read finds the signature, in the header or in the query string.
func (c *claim) read(r *http.Request) error {
	authorization := r.Header["Authorization"]
	params, ok := parseQuery(r.URL.RawQuery)
	if !ok || r.URL.Opaque != "" {
		return invalid("The path or query string cannot be decoded.")
	}
	c.params, c.query = params, claimsInQuery(params)
	switch {
	case c.query && len(authorization) > 0:
		return invalid("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case c.query:
		return c.readQuery()
	case len(authorization) == 0 || !strings.HasPrefix(authorization[0], "AWS4-"):
		return kmsapi.Errorf(kmsapi.MissingAuthentication, "Request is missing Authentication Token")
	case len(authorization) > 1:
		return incomplete("The request has more than one Authorization header.")
	default:
		return c.readHeaders(r.Header, authorization[0])
	}
}

func claimsInQuery(params []param) bool {
	for _, p := range params {
		switch p.name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			return true
		}
	}
	return false
}

// readHeaders reads the header form. What is missing is told all at once. The
// header is quoted back, as AWS does: without one of its parts it is of no use to anybody.
func (c *claim) readHeaders(h http.Header, authorization string) error {
	list := ""
	c.algorithm, list, _ = strings.Cut(authorization, " ")
	for piece := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.Trim(piece, " \t"), "=")
		if !give(c.headerField(name), value) {
			return incomplete("Authorization header gives '%s' more than once.", name)
		}
	}
	c.token = joined(h["X-Amz-Security-Token"])
	c.date, c.dateHeader = joined(h["X-Amz-Date"]), "x-amz-date"
	if c.date == "" {
		c.date, c.dateHeader = joined(h["Date"]), "date"
	}

	missing := ""
	for _, p := range []param{{"Credential", c.credential}, {"Signature", c.signature}, {"SignedHeaders", c.signedHeaders}} {
		if p.value == "" {
			missing += "Authorization header requires '" + p.name + "' parameter. "
		}
	}
	if c.date == "" {
		missing += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	if missing != "" {
		return incomplete("%sAuthorization=%s", missing, authorization)
	}
	return nil
}

func (c *claim) headerField(name string) *string {
	switch name {
	case "Credential":
		return &c.credential
	case "SignedHeaders":
		return &c.signedHeaders
	case "Signature":
		return &c.signature
	default:
		return nil
	}
}

// readQuery reads the query form.
func (c *claim) readQuery() error {
	for _, p := range c.params {
		if !give(c.queryField(p.name), p.value) {
			return incomplete("The query string gives '%s' more than once.", p.name)
		}
	}
	missing := ""
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if *c.queryField(name) == "" {
			missing += "AWS query-string parameters must include '" + name + "'. "
		}
	}
	if missing != "" {
		return incomplete("%sRe-examine the query-string parameters.", missing)
	}
	return nil
}

func (c *claim) queryField(name string) *string {
	switch name {
	case "X-Amz-Algorithm":
		return &c.algorithm
	case "X-Amz-Credential":
		return &c.credential
	case "X-Amz-Signature":
		return &c.signature
	case "X-Amz-SignedHeaders":
		return &c.signedHeaders
	case "X-Amz-Date":
		return &c.date
	case "X-Amz-Expires":
		return &c.expires
	case "X-Amz-Security-Token":
		return &c.token
	case "X-Amz-Content-Sha256":
		return &c.contentHash
	default:
		return nil
	}
}

// give sets a field that has no value yet; nil is a field nobody asks for.
func give(field *string, value string) bool {
	if field == nil {
		return true
	}
	if *field != "" {
		return false
	}
	*field = value
	return true
}

// parse takes credential, algorithm and date apart.
func (c *claim) parse() error {
	if strings.Count(c.credential, "/") != 4 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", c.credential)
	}
	rest := c.credential
	for _, field := range []*string{&c.scope.accessKeyID, &c.scope.date, &c.scope.region, &c.scope.service, &c.scope.terminator} {
		*field, rest, _ = strings.Cut(rest, "/")
	}
	if c.algorithm != algorithm {
		return incomplete("Unsupported AWS 'algorithm': '%s'.", c.algorithm)
	}
	var ok bool
	if c.at, ok = c.parseDate(); !ok {
		return incomplete("Date must be in ISO-8601 'basic format'. Got '%s'.", c.date)
	}
	if c.validity, ok = c.parseExpires(); !ok {
		return incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800. Got '%s'.", c.expires)
	}
	return nil
}

func (c *claim) parseDate() (time.Time, bool) {
	if len(c.date) == len(timeFormat) { // time.Parse would take fractions of a second
		at, err := time.Parse(timeFormat, c.date)
		return at, err == nil
	}
	if c.dateHeader == "date" {
		at, err := http.ParseTime(c.date)
		return at.UTC(), err == nil
	}
	return time.Time{}, false
}

func (c *claim) parseExpires() (time.Duration, bool) {
	if c.expires == "" {
		return skew, true
	}
	n, err := strconv.Atoi(c.expires)
	d := time.Duration(n) * time.Second
	return d, err == nil && n > 0 && n <= int(maxExpires/time.Second)
}

// joined is the value of a header given any number of times. Where only one
// makes sense, several joined do not.
func joined(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ",")
}

func invalid(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.InvalidSignature, format, args...)
}

func incomplete(format string, args ...any) error {
	return kmsapi.Errorf(kmsapi.IncompleteSignature, format, args...)
}
