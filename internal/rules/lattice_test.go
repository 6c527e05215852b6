package rules_test

import (
	"slices"
	"strings"
	"testing"
)

// lattice is the direction of imports: a package may import those of the lines above its
// own, and nothing else of ours. Packages of one line do not know each other.
const lattice = `
secret xaes
kmsapi xksapi policy
audit blob sigv4 identity awsjson store pkcs11
rootkey store/bolt keystore cloudhsm endpointservice
keystore/soft keystore/hsm keystore/xks kms xksproxy/keyfile
server xksproxy
config xksproxy/check kmsclient
devmode
cmd/kastellan
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
	level := levels()
	for _, p := range list(t) {
		if isTestPackage(p.name()) {
			continue
		}
		mine, known := level[p.name()]
		if !known {
			t.Errorf("%s has no place in the lattice: give it one", p.name())
			continue
		}
		for _, imported := range ours(p.Imports) {
			if theirs, known := level[imported]; !known || theirs >= mine {
				t.Errorf("%s imports %s, which is not below it in the lattice", p.name(), imported)
			}
		}
	}
}

func TestForbiddenImportsAreAbsent(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		for _, rule := range forbidden {
			if rule.importer != "*" && rule.importer != p.name() || slices.Contains(rule.except, p.name()) || isTestPackage(p.name()) {
				continue
			}
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, rule.importing) {
					t.Errorf("%s imports %s: %s", p.name(), imported, rule.reason)
				}
			}
		}
	}
}

func TestTheProgramHoldsNoTestCode(t *testing.T) {
	t.Parallel()
	found := false
	for _, p := range list(t) {
		if p.name() != "cmd/kastellan" {
			continue
		}
		found = true
		for _, dep := range p.Deps {
			switch {
			case dep == "testing", strings.HasPrefix(dep, "github.com/aws/"), strings.HasPrefix(dep, "github.com/rogpeppe/"),
				strings.HasPrefix(dep, "github.com/google/go-cmp"), strings.HasPrefix(dep, "pgregory.net/"),
				strings.HasPrefix(dep, module) && isTestPackage(short(dep)):
				t.Errorf("the program depends on %s", dep)
			}
		}
	}
	if !found {
		t.Error("there is no cmd/kastellan to look at")
	}
}
