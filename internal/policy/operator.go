package policy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"
)

// operator is a condition operator without its prefix and suffix.
type operator struct {
	kind    *kind
	match   func(o *operand, text string, values Values) bool // of the operator that is not negated
	negated bool
	null    bool
}

// operand is a compiled value of a condition, as its operator's kind needs it.
type operand struct {
	pattern pattern
	number  float64
	date    time.Time
	network netip.Prefix
	truth   bool
}

// kind is what values an operator compares.
type kind struct {
	name      string                             // of a value, for errors
	parse     func(text string, o *operand) bool // nil: values are patterns
	wildcards bool                               // in which "*" and "?" are more than themselves
}

var (
	number  = &kind{name: "a number", parse: func(text string, o *operand) (ok bool) { o.number, ok = parseNumber(text); return }}
	date    = &kind{name: "a date", parse: func(text string, o *operand) (ok bool) { o.date, ok = parseDate(text); return }}
	boolean = &kind{name: "true or false", parse: func(text string, o *operand) (ok bool) { o.truth, ok = parseBool(text); return }}
	network = &kind{name: "an IP address or a range of them", parse: func(text string, o *operand) (ok bool) {
		o.network, ok = parseNetwork(text)
		return
	}}
	binary = &kind{name: "base64", parse: func(text string, o *operand) bool {
		data, err := base64.StdEncoding.DecodeString(text)
		o.pattern.text = base64.StdEncoding.EncodeToString(data)
		return err == nil
	}}
)

// Texts and ARNs are patterns; what is special in them is the operator's affair.
var (
	text     = &kind{name: "a string"}
	likeText = &kind{name: "a pattern", wildcards: true}
	arn      = &kind{name: "an ARN", wildcards: true}
)

// operators are all that there are, by their names in lower case.
var operators = map[string]*operator{
	"stringequals":              {kind: text, match: equals},
	"stringnotequals":           {kind: text, match: equals, negated: true},
	"stringequalsignorecase":    {kind: text, match: equalsIgnoreCase},
	"stringnotequalsignorecase": {kind: text, match: equalsIgnoreCase, negated: true},
	"stringlike":                {kind: likeText, match: like},
	"stringnotlike":             {kind: likeText, match: like, negated: true},

	"numericequals":            {kind: number, match: compareNumbers(func(c int) bool { return c == 0 })},
	"numericnotequals":         {kind: number, match: compareNumbers(func(c int) bool { return c == 0 }), negated: true},
	"numericlessthan":          {kind: number, match: compareNumbers(func(c int) bool { return c < 0 })},
	"numericlessthanequals":    {kind: number, match: compareNumbers(func(c int) bool { return c <= 0 })},
	"numericgreaterthan":       {kind: number, match: compareNumbers(func(c int) bool { return c > 0 })},
	"numericgreaterthanequals": {kind: number, match: compareNumbers(func(c int) bool { return c >= 0 })},

	"dateequals":            {kind: date, match: compareDates(func(c int) bool { return c == 0 })},
	"datenotequals":         {kind: date, match: compareDates(func(c int) bool { return c == 0 }), negated: true},
	"datelessthan":          {kind: date, match: compareDates(func(c int) bool { return c < 0 })},
	"datelessthanequals":    {kind: date, match: compareDates(func(c int) bool { return c <= 0 })},
	"dategreaterthan":       {kind: date, match: compareDates(func(c int) bool { return c > 0 })},
	"dategreaterthanequals": {kind: date, match: compareDates(func(c int) bool { return c >= 0 })},

	"bool":         {kind: boolean, match: sameTruth},
	"null":         {kind: boolean, null: true},
	"binaryequals": {kind: binary, match: sameBytes},
	"ipaddress":    {kind: network, match: withinNetwork},
	"notipaddress": {kind: network, match: withinNetwork, negated: true},

	"arnequals":    {kind: arn, match: likeARN},
	"arnlike":      {kind: arn, match: likeARN},
	"arnnotequals": {kind: arn, match: likeARN, negated: true},
	"arnnotlike":   {kind: arn, match: likeARN, negated: true},
}

// compile reads one value of a condition.
func (op *operator) compile(value string, variables bool) (o operand, err error) {
	if op.kind.parse == nil {
		o.pattern, err = dialect{wildcards: op.kind.wildcards, variables: variables}.compile(value)
		return o, err
	}
	if !op.kind.parse(value, &o) {
		return o, fmt.Errorf("%q is not %s", value, op.kind.name)
	}
	return o, nil
}
