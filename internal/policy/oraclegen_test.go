package policy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/policy"
)

// draws is a stream of numbers, the same ones for a seed in every version of Go.
type draws struct {
	state uint64
	wide  bool // also draw that about which evaluators do not agree
}

// intn draws one of 0 … n-1, by SplitMix64.
func (d *draws) intn(n int) int {
	d.state += 0x9E3779B97F4A7C15
	z := d.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return int((z ^ z>>31) % uint64(n))
}

func (d *draws) chance(percent int) bool { return d.intn(100) < percent }

func (d *draws) oneOf(all []string) string { return all[d.intn(len(all))] }

// someOf draws n different places of a list.
func (d *draws) someOf(all []string, n int) []string {
	all = append([]string{}, all...)
	for i := range n {
		j := i + d.intn(len(all)-i)
		all[i], all[j] = all[j], all[i]
	}
	return all[:n]
}

// oracleCase is a request with all that bears on it, in the form of the corpus.
type oracleCase struct {
	Principal string              `json:"principal"` // the ARN of who asks
	Action    string              `json:"action"`
	Resource  string              `json:"resource"`
	Owner     string              `json:"owner"` // of the resource
	Context   map[string][]string `json:"context,omitempty"`

	Policy   json.RawMessage   `json:"policy,omitempty"` // of the key, or of the role to assume
	Identity []json.RawMessage `json:"identity,omitempty"`
	Boundary json.RawMessage   `json:"boundary,omitempty"`
	Session  json.RawMessage   `json:"session,omitempty"`

	Want string `json:"want,omitempty"` // what the other evaluator decided
}

// oracleSubjects are who asks, by the ARN: principals of two accounts. Roles have no
// path, since an evaluator that knows a session by its ARN alone could not tell it.
var oracleSubjects = []string{
	"arn:aws:iam::" + owner + ":user/alice",
	"arn:aws:iam::" + owner + ":user/ops/bob",
	"arn:aws:sts::" + owner + ":assumed-role/Auditor/s1",
	"arn:aws:sts::" + owner + ":assumed-role/Reader/s2",
	"arn:aws:sts::" + owner + ":federated-user/fred",
	"arn:aws:iam::" + other + ":user/eve",
	"arn:aws:sts::" + other + ":assumed-role/Reader/s1",
}

// contextKeys are condition keys with values that requests have.
var contextKeys = []struct {
	name   string
	values []string
	list   bool
}{
	{"aws:PrincipalTag/team", []string{"red", "Red", "blue", "*"}, false},
	{"aws:ResourceTag/team", []string{"red", "blue", "redder"}, false},
	{"aws:SourceIp", []string{"203.0.113.7", "10.1.2.3", "2001:db8::7", "192.168.0.1"}, false},
	{"aws:CurrentTime", []string{"2024-02-29T12:00:00Z", "2026-01-01T00:00:00Z"}, false},
	{"aws:EpochTime", []string{"1709208000", "1767225600"}, false},
	{"aws:MultiFactorAuthAge", []string{"60", "3600", "7200"}, false},
	{"aws:SecureTransport", []string{"true", "false"}, false},
	{"aws:MultiFactorAuthPresent", []string{"true", "false"}, false},
	{"aws:SourceArn", []string{"arn:aws:s3:::bucket", "arn:aws:sns:eu-central-1:111122223333:topic", "arn:aws:iam::111122223333:role/a/b"}, false},
	{"aws:username", []string{"alice", "ops"}, false},
	{"aws:UserAgent", []string{"aws-cli/2.0", "Boto3", "x"}, false},
	{"kms:ViaService", []string{"s3.eu-central-1.amazonaws.com", "ebs.eu-central-1.amazonaws.com"}, false},
	{"kms:CallerAccount", []string{owner, other}, false},
	{"kms:EncryptionContextKeys", []string{"department", "project", "Project"}, true},
}

var oracleKeyActions = []string{"kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"}

func newOracleCase(d *draws) oracleCase {
	c := oracleCase{Principal: d.oneOf(oracleSubjects), Owner: owner, Resource: keyARN, Context: map[string][]string{}}
	for _, k := range contextKeys {
		if !d.chance(60) {
			continue
		}
		n := 1
		if k.list {
			n = 1 + d.intn(3)
		}
		c.Context[k.name] = d.someOf(k.values, n)
		if d.wide && d.chance(5) {
			c.Context[k.name] = c.Context[k.name][:0]
		}
		if d.wide && k.name == "aws:PrincipalTag/team" && d.chance(20) {
			c.Context[k.name] = []string{""}
		}
	}
	session := !strings.Contains(c.Principal, ":user/") && d.chance(25)
	if d.wide && d.chance(10) {
		c.Principal = "arn:aws:iam::" + d.oneOf([]string{owner, other}) + ":root"
	}
	g := policyGen{draws: d, c: &c, actions: oracleKeyActions, session: session}
	switch kind := d.intn(10); {
	case kind == 0: // nothing that has a policy
		c.Action, c.Resource = d.oneOf([]string{"kms:CreateKey", "kms:ListKeys"}), "*"
		g.actions = []string{"kms:CreateKey", "kms:ListKeys"}
		c.Owner = strings.Split(c.Principal, ":")[4]
		for name := range c.Context {
			if strings.HasPrefix(name, "kms:") || strings.HasPrefix(name, "aws:ResourceTag") {
				delete(c.Context, name)
			}
		}
	case kind == 1: // a role to assume
		c.Action, c.Resource = "sts:AssumeRole", "arn:aws:iam::"+owner+":role/Target"
		g.actions = []string{"sts:AssumeRole", "sts:TagSession"}
		for name := range c.Context {
			if strings.HasPrefix(name, "kms:") {
				delete(c.Context, name)
			}
		}
		c.Policy = g.document("trust")
	default:
		c.Action = d.oneOf(oracleKeyActions)
		c.Policy = g.document("key")
	}
	for range d.intn(3) {
		c.Identity = append(c.Identity, g.document("identity"))
	}
	if d.chance(15) {
		c.Boundary = g.document("identity")
	}
	if session {
		c.Session = g.document("identity")
	}
	if strings.HasSuffix(c.Principal, ":root") {
		c.Identity, c.Boundary, c.Session = nil, nil, nil
	}
	return c
}

// policyGen draws policies that have something to do with a case.
type policyGen struct {
	*draws
	c       *oracleCase
	actions []string
	session bool // there will be a session policy
}

func (g policyGen) document(kind string) json.RawMessage {
	var statements []map[string]any
	for range 1 + g.intn(3) {
		statements = append(statements, g.statement(kind))
	}
	doc, err := json.Marshal(map[string]any{"Version": policy.Version2012, "Statement": statements})
	if err != nil {
		panic(err)
	}
	if g.chance(10) && (g.wide || !strings.Contains(string(doc), "${")) {
		doc = []byte(strings.Replace(string(doc), policy.Version2012, policy.Version2008, 1))
	}
	return doc
}

func (g policyGen) statement(kind string) map[string]any {
	s := map[string]any{"Effect": "Allow"}
	if g.chance(12) {
		s["Effect"] = "Deny"
	}
	element := "Action"
	if g.chance(8) {
		element = "NotAction"
	}
	s[element] = g.some(g.actionPatterns(kind))
	if kind != "trust" {
		element = "Resource"
		if g.chance(8) {
			element = "NotResource"
		}
		patterns := g.resourcePatterns()
		if element == "NotResource" && !g.wide {
			patterns = withoutVariables(patterns)
		}
		s[element] = g.some(patterns)
	}
	if kind != "identity" {
		if s["Effect"] == "Deny" && g.chance(25) {
			s["NotPrincipal"] = g.notPrincipal()
		} else {
			s["Principal"] = g.principal()
		}
	}
	if g.chance(45) {
		conditions := map[string]map[string]any{}
		for range 1 + g.intn(2) {
			operator, key, value := g.condition()
			if conditions[operator] == nil {
				conditions[operator] = map[string]any{}
			}
			conditions[operator][key] = value
		}
		s["Condition"] = conditions
	}
	return s
}

func (g policyGen) actionPatterns(kind string) []string {
	if kind == "trust" {
		return append([]string{"sts:AssumeRole", "sts:assumerole", "sts:*", "sts:Assume*"}, g.actions...)
	}
	service := strings.Split(g.c.Action, ":")[0]
	return append([]string{"*", service + ":*", strings.ToUpper(service) + ":*", service + ":*e*", service + ":?ncrypt", service + ":En*", "s3:*",
		g.c.Action, strings.ToLower(g.c.Action)}, g.actions...)
}

func (g policyGen) resourcePatterns() []string {
	parts := strings.SplitN(g.c.Resource, "/", 2)
	if len(parts) < 2 {
		return []string{"*", "*", "arn:aws:kms:*:111122223333:key/*"}
	}
	colons := strings.Split(g.c.Resource, ":")
	service := strings.Join(colons[:3], ":")
	return []string{
		"*", "*", "*", g.c.Resource, g.c.Resource, parts[0] + "/*", parts[0] + "/?*", strings.Replace(g.c.Resource, ":key/", ":KEY/", 1),
		service + ":*:*:*", service + ":*", service + ":*:444455556666:*", parts[0] + "/${aws:username}", parts[0] + "/*${aws:PrincipalTag/team}*",
		parts[0] + "/${aws:PrincipalTag/none, '*'}", parts[0] + "/" + parts[1] + "x", parts[0] + "/" + parts[1][:3] + "*" + parts[1][4:],
	}
}

func (g policyGen) principal() any {
	account := strings.Split(g.c.Principal, ":")[4]
	role := oracleRole(g.c.Principal)
	names := []string{g.c.Principal, g.c.Principal, account, "arn:aws:iam::" + account + ":root", owner, g.oneOf(oracleSubjects)}
	if g.session && !g.wide {
		names = []string{account, "arn:aws:iam::" + account + ":root", owner}
	}
	if role != "" {
		names = append(names, role, role, role+"x")
	}
	if g.session && !g.wide { // it does not limit who is named directly; not all evaluators know
		return map[string]any{"AWS": g.some(names)}
	}
	switch g.intn(10) {
	case 0:
		return "*"
	case 1:
		return map[string]any{"AWS": "*"}
	case 2:
		return map[string]any{"Service": "logs.amazonaws.com"}
	}
	return map[string]any{"AWS": g.some(names)}
}

// notPrincipal names all that the subject is, or nothing of it: evaluators do not agree about
// what lies between.
func (g policyGen) notPrincipal() any {
	all := []string{g.c.Principal, strings.Split(g.c.Principal, ":")[4]}
	if role := oracleRole(g.c.Principal); role != "" {
		all = append(all, role)
	}
	switch g.intn(3) {
	case 0:
		return "*"
	case 1:
		return map[string]any{"AWS": "arn:aws:iam::999999999999:user/nobody"}
	}
	if g.wide {
		return map[string]any{"AWS": g.some(append(all, "arn:aws:iam::"+all[1]+":root"))}
	}
	return map[string]any{"AWS": all}
}

// oracleRole is the ARN of the role of a session.
func oracleRole(arn string) string {
	before, after, ok := strings.Cut(arn, ":assumed-role/")
	if !ok {
		return ""
	}
	return strings.Replace(before, ":sts:", ":iam:", 1) + ":role/" + strings.Split(after, "/")[0]
}

// condition draws an operator and a key of its type, with values for it.
func (g policyGen) condition() (operator, key string, value any) {
	k := contextKeys[g.intn(len(contextKeys))]
	if g.c.Resource == "*" || strings.HasPrefix(g.c.Action, "sts:") {
		k = contextKeys[2+g.intn(9)] // those that every action has
	}
	key = k.name
	values := append([]string{}, k.values...)
	kind := "String"
	switch key {
	case "aws:SourceIp":
		kind, values = "Ip", append(values[:2], "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32", "::/0", "192.168.0.0/16", "10.1.2.3/32")
	case "aws:CurrentTime":
		kind, values = "Date", append(values, "2025-01-01T00:00:00Z", "2024-02-29T13:00:00+01:00", "2024-02-29", "2024-02-29T12:00:00.5Z")
	case "aws:EpochTime", "aws:MultiFactorAuthAge":
		kind, values = "Numeric", append(values, "1800", "59.5", "1000000000")
	case "aws:SecureTransport", "aws:MultiFactorAuthPresent":
		kind = "Bool"
	case "aws:SourceArn":
		kind, values = "Arn", append(values, "arn:aws:s3:::*", "arn:aws:*:*:111122223333:*", "arn:*:sns:*:*:t?pic", "arn:aws:iam::111122223333:role/*", "arn:aws:s3:::${aws:username}")
	default:
		values = append(values, "r*", "*e*", "?ed", "*", "${aws:username}", "${aws:PrincipalTag/team}", "${aws:PrincipalTag/none, 'red'}", "${aws:ResourceTag/none}", "${*}")
	}
	if more := contested[kind]; g.wide {
		values = append(values, more...)
	}
	operator = g.oneOf(map[string][]string{
		"String":  {"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"},
		"Numeric": {"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"},
		"Date":    {"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"},
		"Bool":    {"Bool"},
		"Ip":      {"IpAddress", "NotIpAddress"},
		"Arn":     {"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"},
	}[kind])
	switch {
	case g.wide:
	case strings.HasPrefix(operator, "NotIp"):
		values = slices.DeleteFunc(values, func(v string) bool { return !strings.Contains(v, "/") })
	default:
		if strings.Contains(operator, "IgnoreCase") {
			values = slices.DeleteFunc(values, func(v string) bool { return v == "${*}" })
		}
		if strings.Contains(operator, "Not") {
			values = withoutVariables(values)
		}
	}
	if g.chance(8) {
		return "Null", key, g.oneOf([]string{"true", "false"})
	}
	switch set := k.list || g.chance(5); {
	case set:
		operator = g.oneOf([]string{"ForAnyValue:", "ForAllValues:"}) + operator
	case g.chance(20):
		operator += "IfExists"
	}
	if g.wide && g.chance(10) && !strings.HasSuffix(operator, "IfExists") {
		operator += "IfExists"
	}
	if g.wide && g.chance(10) {
		_, after, found := strings.Cut(operator, ":")
		if found {
			operator = after
		}
	}
	if g.chance(20) {
		key = strings.ToUpper(key[:5]) + key[5:]
	}
	return operator, key, g.some(values)
}

// contested are values of conditions, by the kind of operator, that are taken
// for different things.
var contested = map[string][]string{
	"String":  {"x${aws:PrincipalTag/team}"},
	"Ip":      {"0.0.0.0/0", "2001:db8::7"},
	"Numeric": {"1e9"},
	"Date":    {"1709208000"},
	"Arn":     {"*", "arn:aws:s3:*"},
}

// withoutVariables leaves out what may have no value.
func withoutVariables(all []string) []string {
	return slices.DeleteFunc(all, func(v string) bool { return strings.Contains(v, "${aws:") && !strings.Contains(v, ",") })
}

// some draws one, two or three texts: as JSON, a string or a list.
func (g policyGen) some(all []string) any {
	chosen := g.someOf(all, min(max(1, g.intn(4)), len(all)))
	if len(chosen) == 1 {
		return chosen[0]
	}
	return chosen
}

// oracleCases draws the cases of a corpus, the same ones every time.
func oracleCases(n int) []oracleCase {
	d := &draws{}
	var all []oracleCase
	for range n {
		all = append(all, newOracleCase(d))
	}
	return all
}

func (c *oracleCase) String() string {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}
