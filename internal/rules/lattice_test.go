package rules_test

import (
	"slices"
	"strings"
	"testing"
)

// lattice is the direction of imports: a package may import those of the lines above its
// own, and nothing else of ours. Packages of one line do not know each other.
const lattice = `
secret xaes durable tracing
kmsapi xksapi policy tracing/otlp
identity stsapi cloudhsmapi
keyspec keywrap nitro audit blob sigv4 awsjson store pkcs11
rootkey store/bolt keystore pkcs11/probe cloudhsm endpointservice audit/trail audit/syslog awsquery
keystore/soft keystore/hsm cloudhsm/rack keystore/xks kms sts xksproxy/keyfile
cloudhsm/control
server xksproxy
config xksproxy/check kmsclient
devmode
cmd/kastellan examples/hsm-cluster
`

// forbidden are imports that the lattice would allow, or that are not ours, each with its reason.
var forbidden = []struct {
	importer  string
	except    []string
	importing string // a prefix of import paths
	reason    string
}{
	{importer: "kms", importing: module + "internal/keystore/", reason: "the domain knows the contract, never a kind of store"},
	{importer: "kms", importing: "net/http", reason: "the domain does not know HTTP"},
	{importer: "server", importing: module + "internal/keystore", reason: "key stores are reached through the domain only"},
	{importer: "server", importing: module + "internal/store", reason: "metadata is reached through the domain only"},
	{importer: "*", except: []string{"pkcs11"}, importing: "github.com/miekg/pkcs11", reason: "one package holds cgo"},
	{importer: "*", except: []string{"store/bolt"}, importing: "go.etcd.io/bbolt", reason: "one package knows the file"},
	{importer: "*", except: []string{"config", "xksproxy"}, importing: "go.yaml.in", reason: "configuration files are read in one place for each program"},
	{importer: "*", except: []string{"xksproxy"}, importing: "math/rand", reason: "randomness comes from crypto/rand; only load is spread without it"},
	{importer: "tracing", importing: "go.opentelemetry.io/otel/sdk", reason: "spans are made and exported in tracing/otlp"},
	{importer: "*", except: []string{"tracing", "tracing/otlp"}, importing: "go.opentelemetry.io/", reason: "one package knows what spans are"},
	{importer: "examples/hsm-cluster", importing: module, reason: "programs of elsewhere can import nothing of ours"},
	{importer: "*", importing: "unsafe", except: []string{"pkcs11"}, reason: "nothing here needs it"},
}

// levels maps each package to its line of the lattice.
func levels() map[string]int {
	out := make(map[string]int)
	for i, line := range strings.Split(strings.TrimSpace(lattice), "\n") {
		for _, name := range strings.Fields(line) {
			out[name] = i
		}
	}
	return out
}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	report(t, wrongWay(list(t)))
	planted := []pkg{
		{ImportPath: module + "internal/secret", Imports: []string{"fmt"}},
		{ImportPath: module + "internal/kms", Imports: []string{module + "internal/keystore", "github.com/x/kms"}},
		{ImportPath: module + "internal/keystoretest", Imports: []string{module + "internal/server"}},
	}
	mustFind(t, planted, wrongWay)
	mustFind(t, append(planted, pkg{ImportPath: module + "internal/kmsapi", Imports: []string{module + "internal/kms"}}), wrongWay, "kmsapi imports kms")
	mustFind(t, append(planted, pkg{ImportPath: module + "internal/xksapi", Imports: []string{module + "internal/kmsapi"}}), wrongWay, "xksapi imports kmsapi")
	mustFind(t, append(planted, pkg{ImportPath: module + "internal/kms", Imports: []string{module + "internal/new"}}), wrongWay, "kms imports new")
	mustFind(t, append(planted, pkg{ImportPath: module + "internal/util"}), wrongWay, "util has no place")
}

func wrongWay(packages []pkg) (broken []string) {
	level := levels()
	for _, p := range packages {
		if isTestPackage(p.name()) {
			continue
		}
		mine, known := level[p.name()]
		if !known {
			broken = append(broken, p.name()+" has no place in the lattice: give it one")
			continue
		}
		for _, imported := range ours(p.Imports) {
			if theirs, known := level[imported]; !known || theirs >= mine {
				broken = append(broken, p.name()+" imports "+imported+", which is not below it in the lattice")
			}
		}
	}
	return broken
}

func TestForbiddenImportsAreAbsent(t *testing.T) {
	t.Parallel()
	report(t, forbiddenImports(list(t)))
	for _, rule := range forbidden {
		importer := strings.Replace(rule.importer, "*", "audit", 1)
		bad := pkg{ImportPath: module + "internal/" + importer, Imports: []string{"fmt", rule.importing + "x"}}
		mustFind(t, []pkg{bad}, forbiddenImports, importer+" imports "+rule.importing)
		for _, allowed := range rule.except {
			mustFind(t, []pkg{{ImportPath: module + "internal/" + allowed, Imports: bad.Imports}}, forbiddenImports)
		}
	}
}

func forbiddenImports(packages []pkg) (broken []string) {
	for _, p := range packages {
		for _, rule := range forbidden {
			if rule.importer != "*" && rule.importer != p.name() || slices.Contains(rule.except, p.name()) || isTestPackage(p.name()) {
				continue
			}
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, rule.importing) {
					broken = append(broken, p.name()+" imports "+imported+": "+rule.reason)
				}
			}
		}
	}
	return broken
}

func TestTheProgramHoldsNoTestCode(t *testing.T) {
	t.Parallel()
	report(t, testCode(list(t)))
	program := pkg{ImportPath: module + "cmd/kastellan", Deps: []string{"fmt", module + "internal/kms"}}
	mustFind(t, []pkg{program}, testCode)
	mustFind(t, nil, testCode, "there is no cmd/kastellan")
	for _, dep := range []string{"testing", "github.com/aws/aws-sdk-go-v2", "github.com/google/go-cmp/cmp", module + "internal/kastellantest"} {
		program.Deps = []string{dep}
		mustFind(t, []pkg{program}, testCode, "depends on "+dep)
	}
}

func testCode(packages []pkg) (broken []string) {
	found := false
	for _, p := range packages {
		if p.name() != "cmd/kastellan" {
			continue
		}
		found = true
		for _, dep := range p.Deps {
			switch {
			case dep == "testing", strings.HasPrefix(dep, "github.com/aws/"), strings.HasPrefix(dep, "github.com/rogpeppe/"),
				strings.HasPrefix(dep, "github.com/google/go-cmp"), strings.HasPrefix(dep, "pgregory.net/"),
				strings.HasPrefix(dep, module) && isTestPackage(short(dep)):
				broken = append(broken, "the program depends on "+dep)
			}
		}
	}
	if !found {
		broken = append(broken, "there is no cmd/kastellan to look at")
	}
	return broken
}

func report(t *testing.T, broken []string) {
	t.Helper()
	for _, text := range broken {
		t.Error(text)
	}
}

// mustFind plants packages: each text of want must be in one finding, and there are no others.
func mustFind(t *testing.T, packages []pkg, find func([]pkg) []string, want ...string) {
	t.Helper()
	found := find(packages)
	ok := len(found) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.Contains(found[i], want[i])
	}
	if !ok {
		t.Errorf("found %q, want %q", found, want)
	}
}
