package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/rootkey"
)

// valid is a small configuration without a mistake.
const valid = `listen: {address: "127.0.0.1:4599"}
data-directory: data
root-key: {file: root.key}
accounts:
  - id: "111122223333"
    users:
      - name: alice
        access-keys: [{id: AKIAALICEEXAMPLE0001, secret-file: alice}]
        policies: [{document: '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}'}]
hsm:
  clusters:
    - id: cluster-2a23b4cdefg
      account: "111122223333"
      region: eu-central-1
      trust-anchor: ca.pem
      members:
        - {id: hsm-lgavqitns2a, availability-zone: eu-central-1a, uri: "pkcs11:token=a?module-path=/m.so"}
        - {id: hsm-mgbwrjuot3b, availability-zone: eu-central-1b, uri: "pkcs11:token=b?module-path=/m.so"}
audit: {stdout: true}
`

// folder makes a folder with the files that valid names.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := rootkey.Generate(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "alice", "a-secret-that-is-long-enough-for-a-key!\n", 0o600)
	write(t, dir, "ca.pem", string(selfSigned(t)), 0o644)
	return dir
}

func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "customer CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestAValidFileLoads(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	cfg, err := config.Load(write(t, dir, "kastellan.yaml", valid, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Accounts[0].Users[0].Name; got != "alice" {
		t.Errorf("the user is %q", got)
	}
}

func TestMistakesAreToldWithTheirLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		old, new string // what is replaced in the valid file
		want     string // line and text
	}{
		{"an unknown setting", "data-directory: data", "data-directory: data\ndata-dir: x", `:3: unknown setting "data-dir"`},
		{"an unknown setting deep inside", "region: eu-central-1\n", "region: eu-central-1\n      colour: red\n", `:15: unknown setting "colour"`},
		{"a setting given twice", "data-directory: data", "data-directory: data\ndata-directory: more", `:3: setting "data-directory" is given twice`},
		{"a value of the wrong kind", "audit: {stdout: true}", "audit: {stdout: 12}", `:19: a value of the wrong kind: wants true or false`},
		{"text that is no YAML", "audit: {stdout: true}", "audit: {stdout: true", `is not valid YAML`},
		{"a second document", "audit: {stdout: true}", "audit: {stdout: true}\n---\na: b", `more than one YAML document`},
		{"an address without a port", `"127.0.0.1:4599"`, `"127.0.0.1"`, `:1: listen.address: is not an address`},
		{"plain HTTP that others can reach", `"127.0.0.1:4599"`, `"0.0.0.0:4599"`, `:1: listen: needs tls, or plain-http: true`},
		{"plain HTTP and TLS", `"127.0.0.1:4599"}`, `"127.0.0.1:4599", plain-http: true, tls: {certificate: c, key: k}}`, `:1: listen.plain-http: contradicts tls`},
		{"no data directory", "data-directory: data\n", "", `: data-directory: is missing`},
		{"no root key", "root-key: {file: root.key}", "root-key: {}", `:3: root-key: needs either file or env`},
		{"two root keys", "root-key: {file: root.key}", "root-key: {file: root.key, env: X}", `:3: root-key: needs either file or env`},
		{"a root key that is not there", "root-key: {file: root.key}", "root-key: {file: other.key}", `:3: root-key: `},
		{"a malformed account id", `id: "111122223333"
    users`, `id: "1111"
    users`, `:5: accounts[0].id: is not an account id`},
		{"a secret that is not there", "secret-file: alice", "secret-file: bob", `:8: accounts[0].users[0].access-keys[0]: `},
		{"no secret", ", secret-file: alice", "", `:8: accounts[0].users[0].access-keys[0]: needs either a file or an environment variable`},
		{"a secret in the file", "secret-file: alice", "secret: hunter2hunter2", `:8: unknown setting "secret"`},
		{"a policy that cannot be evaluated", `"Action":"kms:*"`, `"Action":"kms:*","Condition":{"Bool":{"a":"b"}}`, `:9: accounts[0].users[0].policies[0]: `},
		{"a policy that is not there", `document: '`, `file: 'no.json', document: '`, `:9: accounts[0].users[0].policies[0]: needs either file or document`},
		{"a malformed access key id", "AKIAALICEEXAMPLE0001", "ALICE", `:7: accounts[0].users[0]: `},
		{"a malformed account name", "users:\n", "name: Not A Name\n    users:\n", `:5: accounts[0]: `},
		{"a user twice", "hsm:\n", "      - {name: alice}\nhsm:\n", `:5: accounts[0]: `},
		{"an access key in two accounts", "hsm:\n", "  - {id: \"444455556666\", root: {access-keys: [{id: AKIAALICEEXAMPLE0001, secret-file: alice}]}}\nhsm:\n", `:5: accounts: `},
		{"a cluster of nobody", `account: "111122223333"`, `account: "444455556666"`, `:13: hsm.clusters[0].account: is not among accounts`},
		{"a cluster in a Region that is not served", "data-directory: data", "data-directory: data\nregions: [us-east-1]", `:15: hsm.clusters[0].region: is not among regions`},
		{"a module's variable without a value", `uri: "pkcs11:token=b`, `env: [CONF], uri: "pkcs11:token=b`, `:18: hsm.clusters[0].members[1].env[0]: is not NAME=value`},
		{"half a session", `uri: "pkcs11:token=b`, `sessions: 1.5, uri: "pkcs11:token=b`, `:18: a value of the wrong kind: wants a whole number`},
		{"half a key", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {keys: 1.5}", `:20: a value of the wrong kind: wants a whole number`},
		{"a duration without a unit", "audit: {stdout: true}", "audit: {stdout: true}\nlimits: {request-timeout: 30}", `:20: a value of the wrong kind: wants a duration such as 250ms`},
		{"a token without a module", "pkcs11:token=b?module-path=/m.so", "pkcs11:token=b", `:18: hsm.clusters[0].members[1].uri: has no module-path`},
		{"a PIN in a URI", "token=b?module-path=/m.so", "token=b?module-path=/m.so&pin-value=hunter2", `:18: hsm.clusters[0].members[1].uri: pkcs11 URI has pin-value`},
		{"one token twice", "token=b", "token=a", `:12: hsm.clusters[0]: `},
		{"an unknown cluster state", "region: eu-central-1\n", "region: eu-central-1\n      state: FINE\n", `hsm.clusters[0]: `},
		{"no trust anchor", "      trust-anchor: ca.pem\n", "", `:12: hsm.clusters[0].trust-anchor: is missing`},
		{"a pool that is called as the backup HSM is", "hsm:\n", "hsm:\n  vault: {name: p, softhsm2: {module: /m.so, directory: v}}\n  pools: [{name: p, availability-zone: eu-central-1a, softhsm2: {module: /m.so, directory: w}}]\n",
			"is the backup HSM's"},
		{"a declared cluster's token in a pool", "hsm:\n", "hsm:\n  vault: {softhsm2: {module: /m.so, directory: v}}\n  pools: [{name: p, availability-zone: eu-central-1a, tokens: [{uri: \"pkcs11:token=b;model=m?module-path=/m.so\", pin-file: alice}]}]\n",
			`:12: hsm.pools[0].tokens[0].uri: is a member of a cluster`},
		{"audit to nowhere", "audit: {stdout: true}", "audit: {}", `:19: audit: needs at least one of directory, file, stdout: true and syslog`},
		{"an unknown log level", "audit: {stdout: true}", "audit: {stdout: true}\nlog: {level: loud}", `:20: log.level: is not one of`},
		{"a negative quota", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {keys: -1}", `:20: quotas.keys: is negative`},
		{"request rates of nobody", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {request-rates: gcp}", `:20: quotas.request-rates: is neither aws nor off`},
		{"rates that are off and on", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {request-rates: off, requests-per-second: {RSA: 1}}", `:20: quotas.requests-per-second: contradicts request-rates: off`},
		{"an unknown request quota", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {requests-per-second: {Encrypt: 1}}", `:20: quotas.requests-per-second.Encrypt: is not the name of a request quota; there are CancelKeyDeletion, `},
		{"no requests", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {requests-per-second: {RSA: 0}}", `:20: quotas.requests-per-second.RSA: is not between`},
		{"more than any machine does", "audit: {stdout: true}", "audit: {stdout: true}\nquotas: {requests-per-second: {RSA: .inf}}", `:20: quotas.requests-per-second.RSA: is not between`},
		{"traces to nowhere", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {sample-ratio: 0.1}", `:20: tracing: needs otlp-endpoint`},
		{"traces in clear", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"http://collector.example.com:4318\"}", `:20: tracing.otlp-endpoint: must begin with https://`},
		{"more than all traces", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"https://collector:4318\", sample-ratio: 1.5}", `:20: tracing.sample-ratio: is not between 0 and 1`},
		{"a collector's CA that is not there", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"https://collector:4318\", ca: no.pem}", `:20: tracing.ca: `},
		{"a header without a value", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"https://collector:4318\", headers: [{name: A}]}", `:20: tracing.headers[0]: needs either a file or`},
		{"a header that is none", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"https://collector:4318\", headers: [{name: \"a b\", value-file: alice}]}", `:20: tracing.headers[0]: the name is not that of a header`},
		{"a header in the file", "audit: {stdout: true}", "audit: {stdout: true}\ntracing: {otlp-endpoint: \"https://collector:4318\", headers: [{name: A, value: hunter2}]}", `:20: unknown setting "value"`},
		{"metrics of too many keys", "audit: {stdout: true}", "audit: {stdout: true}\nmetrics: {keys: 1000000}", `:20: metrics.keys: is not between 0 and`},
		{"an endpoint service without a name", "audit: {stdout: true}", "audit: {stdout: true}\nexternal-key-stores: {endpoint-services: [{owner: \"111122223333\"}]}", `:20: external-key-stores.endpoint-services[0]`},
		{"a proxy's CA that is not there", "audit: {stdout: true}", "audit: {stdout: true}\nexternal-key-stores: {hosts: [{name: xks.example.com, ca: no.pem}]}", `:20: external-key-stores.hosts[0].ca: `},
		{"a proxy's host twice", "audit: {stdout: true}", "audit: {stdout: true}\nexternal-key-stores: {hosts: [{name: xks.example.com}, {name: xks.example.com}]}", `:20: external-key-stores.hosts[1].name: is given twice`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(valid, test.old, test.new, 1)
			if text == valid {
				t.Fatal("the test replaces nothing")
			}
			dir := folder(t)
			path := write(t, dir, "kastellan.yaml", text, 0o644)
			_, err := config.Load(path)
			if err == nil {
				t.Fatal("the file loads")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("error:\n%v\nwant %s%s", err, path, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a secret: %v", err)
			}
		})
	}
}

func TestSecretsOthersCanReadAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"root.key", "alice"} {
		dir := folder(t)
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(write(t, dir, "kastellan.yaml", valid, 0o644)); err == nil || !strings.Contains(err.Error(), "mode") {
			t.Errorf("%s: %v, want the mode", name, err)
		}
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("audit: {stdout: true}", "audit: {}", "data-directory: data\n", "", `"127.0.0.1:4599"`, "x").Replace(valid)
	_, err := config.Load(write(t, folder(t), "kastellan.yaml", text, 0o644))
	if err == nil || strings.Count(err.Error(), "\n") != 3 { // the address is wrong, and not known to be a loopback one
		t.Errorf("want four lines, got:\n%v", err)
	}
}

func TestTheExampleIsValid(t *testing.T) {
	t.Setenv("SHOP_SECRET_ACCESS_KEY", "a-secret-that-is-long-enough-for-a-key!")
	dir := t.TempDir()
	text, err := os.ReadFile("../../examples/kastellan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := rootkey.Generate(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	certificate, key := keyPair(t)
	write(t, dir, "tls/server.crt", certificate, 0o644)
	write(t, dir, "tls/server.key", key, 0o600)
	write(t, dir, "secrets/alice", "a-secret-that-is-long-enough-for-a-key!", 0o400)
	write(t, dir, "policies/use-keys.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`, 0o644)
	write(t, dir, "kubernetes/ca.crt", string(selfSigned(t)), 0o644)
	write(t, dir, "hsm/customerCA.crt", string(selfSigned(t)), 0o644)
	write(t, dir, "hsm/pool-1.so", "12345678", 0o600)
	write(t, dir, "hsm/vault.pin", "12345678", 0o600)
	write(t, dir, "secrets/otlp", "Bearer of-the-collector", 0o600)
	write(t, dir, "tracing/ca.pem", string(selfSigned(t)), 0o644)
	write(t, dir, "xks/ca.pem", string(selfSigned(t)), 0o644)
	if _, err := config.Load(write(t, dir, "kastellan.yaml", string(text), 0o644)); err != nil {
		t.Error(err)
	}
}

// TestThePoolsOfTheGuideAreValid takes the section out of the page.
func TestThePoolsOfTheGuideAreValid(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(page), "## Pools of HSMs\n")
	_, block, _ := strings.Cut(chapter, "```yaml\n")
	section, _, found := strings.Cut(block, "```\n")
	if !found {
		t.Fatal("docs/operations.md shows no pools")
	}
	dir := folder(t)
	write(t, dir, "pool-1.so", "12345678", 0o600)
	write(t, dir, "vault.pin", "12345678", 0o600)
	section = strings.ReplaceAll(strings.TrimPrefix(section, "hsm:\n"), "serial=…", "serial=01")
	text := strings.Replace(valid, "hsm:\n", "hsm:\n"+section, 1)
	if _, err := config.Load(write(t, dir, "kastellan.yaml", text, 0o644)); err != nil {
		t.Error(err)
	}
}

func keyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pair.Public(), pair)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}
