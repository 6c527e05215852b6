package server

import (
	"net/http"
	"net/url"
	"strings"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/awsquery"
	"kastellan.dev/internal/kmsapi"
)

// protocol is the form that requests and answers of an API have.
type protocol interface {
	// begin finds the operation, if it can be known without the body.
	begin(x *exchange)
	// parse reads the body, and finds the operation or fails.
	parse(x *exchange) error
	// decode fills an empty request of the operation, and checks its constraints.
	decode(x *exchange, in any) error
	// encode and encodeError make the answer in the scratch.
	encode(x *exchange, out any)
	encodeError(x *exchange, e *kmsapi.Error)
	// onWire gives the name and the HTTP status that a code has in the answer.
	onWire(x *exchange, code kmsapi.Code) (name string, status int)
	contentType() []string
}

// protocolOf tells which protocol a request has; nil if none that is served.
func (s *Server) protocolOf(r *http.Request) protocol {
	switch {
	case len(s.queries) > 0 && (r.Method == http.MethodPost && isForm(r.Header["Content-Type"]) || r.Method == http.MethodGet && r.URL.Query().Has("Action")):
		return new(queryProtocol)
	case r.Method == http.MethodPost && isJSON(r.Header["Content-Type"]):
		return jsonProtocol{}
	}
	return nil
}

// isJSON tells whether a body may be read as AWS JSON: anything else that it
// says it is would be another protocol's, which we would misread. To say
// nothing is allowed.
func isJSON(types []string) bool {
	switch mediaType(types) {
	case "application/x-amz-json-1.1", "application/x-amz-json-1.0", "application/json":
		return true
	default:
		return len(types) == 0
	}
}

func isForm(types []string) bool { return mediaType(types) == "application/x-www-form-urlencoded" }

// mediaType is empty if there is not one.
func mediaType(types []string) string {
	if len(types) != 1 {
		return ""
	}
	media, _, _ := strings.Cut(types[0], ";")
	return strings.ToLower(strings.Trim(media, " \t"))
}

// jsonProtocol is AWS JSON 1.1. The document is kept in the exchange.
type jsonProtocol struct{}

func (jsonProtocol) begin(x *exchange) { x.op = x.s.operations[x.target()] }

// target is what names the operation: a header, or a parameter of the query
// string, to which the official SDKs move it when they presign. Given twice, in
// whatever places, it is nothing.
func (x *exchange) target() string {
	targets := x.r.Header["X-Amz-Target"]
	if x.r.URL.RawQuery != "" {
		query, err := url.ParseQuery(x.r.URL.RawQuery)
		if err != nil {
			return ""
		}
		targets = append(targets[:len(targets):len(targets)], query["X-Amz-Target"]...)
	}
	if len(targets) != 1 {
		return ""
	}
	return targets[0]
}

func (jsonProtocol) parse(x *exchange) (err error) {
	if x.json, err = awsjson.Parse(x.scratch.in.Bytes()); err != nil {
		return err
	}
	if x.op == nil {
		return kmsapi.Errorf(kmsapi.UnknownOperation, "")
	}
	return nil
}

func (jsonProtocol) decode(x *exchange, in any) error { return x.json.Decode(in) }

func (jsonProtocol) encode(x *exchange, out any) {
	x.scratch.out = awsjson.Append(x.scratch.out[:0], out)
}

func (jsonProtocol) encodeError(x *exchange, e *kmsapi.Error) {
	if own := x.jsonErrors(); own != nil {
		name, _ := own.OnWire(e.Code)
		x.scratch.out = awsjson.AppendErrorAs(x.scratch.out[:0], name, own.Message, e.Message)
		return
	}
	x.scratch.out = awsjson.AppendError(x.scratch.out[:0], e)
}

// jsonErrors is how the operation's API writes errors; nil if as KMS does, and
// where the operation is not known.
func (x *exchange) jsonErrors() *Errors {
	if x.op == nil {
		return nil
	}
	return x.op.errors
}

func (jsonProtocol) onWire(x *exchange, code kmsapi.Code) (string, int) {
	if own := x.jsonErrors(); own != nil {
		return own.OnWire(code)
	}
	return string(code), code.Status()
}

func (jsonProtocol) contentType() []string { return jsonType }

// queryProtocol is the AWS query protocol.
type queryProtocol struct{ form awsquery.Form }

func (*queryProtocol) begin(*exchange) {}

func (q *queryProtocol) parse(x *exchange) (err error) {
	if q.form, err = awsquery.Parse(x.r.URL.RawQuery, x.scratch.in.Bytes()); err != nil {
		return err
	}
	action, version := q.form.Get("Action"), q.form.Get("Version")
	if action == "" {
		return kmsapi.Errorf("MissingAction", "The request must contain the parameter Action.")
	}
	if x.op = x.s.queries[version+" "+action]; x.op == nil {
		return kmsapi.Errorf(kmsapi.UnknownOperation, "There is no operation with that Action in an API of that Version.")
	}
	return nil
}

func (q *queryProtocol) decode(_ *exchange, in any) error { return q.form.Decode(in) }

func (*queryProtocol) encode(x *exchange, out any) {
	x.scratch.out = awsquery.Append(x.scratch.out[:0], x.op.query.Namespace, x.op.Name, x.id, out)
}

func (q *queryProtocol) encodeError(x *exchange, e *kmsapi.Error) {
	code, status := q.onWire(x, e.Code)
	x.scratch.out = awsquery.AppendError(x.scratch.out[:0], q.api(x).Namespace, x.id, code, e.Message, status)
}

func (q *queryProtocol) onWire(x *exchange, code kmsapi.Code) (string, int) {
	return q.api(x).OnWire(code)
}

// api is that of the operation, or any of those that are served if there is none:
// errors have to look like one's.
func (*queryProtocol) api(x *exchange) *Query {
	if x.op != nil {
		return x.op.query
	}
	for _, op := range x.s.queries {
		return op.query
	}
	return &Query{OnWire: func(c kmsapi.Code) (string, int) { return string(c), c.Status() }} // unreachable: see protocolOf
}

var (
	jsonType = []string{"application/x-amz-json-1.1"}
	xmlType  = []string{"text/xml"}
)

func (*queryProtocol) contentType() []string { return xmlType }
