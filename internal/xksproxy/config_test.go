package xksproxy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xksapi"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/keyfile"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// configured writes a configuration with all that it refers to; DIR in text
// stands for its folder.
func configured(t testing.TB, text string) *xksproxy.File {
	t.Helper()
	f, err := xksproxy.ParseFile("proxy.yaml", []byte(strings.ReplaceAll(text, "DIR", configDir(t))))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func configDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	pki := xksproxytest.NewPKI(t)
	xksproxytest.WriteFiles(t, dir, pki.Server(t, xksproxytest.Host))
	files := map[string]string{
		"secret": xksproxytest.SecretKey + "\n", "secret2": xksproxytest.SecretKey2, "pin": "1234\n", "empty": "\n", "ca.pem": string(pki.PEM()), "weak": "too short",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "open"), []byte(xksproxytest.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "open"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := rootkey.Generate(filepath.Join(dir, "file.key")); err != nil {
		t.Fatal(err)
	}
	key, err := rootkey.Load(rootkey.Source{File: filepath.Join(dir, "file.key")})
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	if err := keyfile.Create(keys, key.Direct()); err != nil {
		t.Fatal(err)
	}
	err = keyfile.Update(keys, key.Direct(), func(f *keyfile.File) error {
		_, err := f.Add("key-1", true, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const goodConfig = `listen: 127.0.0.1:0
tls:
  certificate: DIR/cert.pem
  key: DIR/key.pem
  client_ca: DIR/ca.pem
  client_names: [cks.kms.eu-central-1.amazonaws.com]
metrics_listen: 127.0.0.1:0
health_cache: 30s
rings:
  - name: file
    key_file: DIR/keys
    file_key: DIR/file.key
  - name: hsm
    timeout: 150ms
    health_key: xks-health
    tokens:
      - name: a
        uri: "pkcs11:token=t?module-path=/usr/lib/softhsm/libsofthsm2.so"
        pin: {file: DIR/pin}
        env: [SOFTHSM2_CONF=/tmp/x]
        call_timeout: 2s
        iv: token-random
stores:
  - prefix: /acme
    ring: file
    regions: [eu-central-1]
    credentials:
      - access_key_id: KASTELLANTESTAAAAAAAA
        secret: {file: DIR/secret}
      - access_key_id: KASTELLANTESTBBBBBBBB
        secret: {file: DIR/secret2}
    all_keys: true
    rules:
      - name: nobody
        effect: deny
        principals: ["*/mallory"]
        operations: [Encrypt]
    default: allow
    limits: {rate: 1800, concurrent: 64, max_aad: 65535}
  - prefix: /hsm
    ring: hsm
    credentials:
      - access_key_id: KASTELLANTESTAAAAAAAA
        secret: {file: DIR/secret}
    keys:
      - id: payments
        labels: [payments-2025, payments-2026]
        usage: [ENCRYPT, DECRYPT]
`

func TestAGoodConfigurationIsUnderstood(t *testing.T) {
	t.Parallel()
	cfg, err := configured(t, goodConfig).Resolve()
	if err != nil {
		t.Fatal(err)
	}
	store, hsm := cfg.Proxy.Stores[0], cfg.Proxy.Rings[1]
	switch {
	case cfg.TLS.ClientNames[0] != "cks.kms.eu-central-1.amazonaws.com", cfg.Proxy.HealthCache != 30*time.Second,
		store.Prefix != "/acme", !store.AllKeys, store.Limits.Rate != 1800, store.Rules[0].Name != "nobody", store.Credentials[1].Secret.Reveal() != xksproxytest.SecretKey2,
		hsm.Timeout != 150*time.Millisecond, hsm.Tokens.Members[0].PIN.Reveal() != "1234", hsm.Tokens.Members[0].PKCS11.URI.Token != "t",
		cfg.Proxy.Stores[1].Keys[0].Labels[1] != "payments-2026":
		t.Errorf("%+v", cfg)
	}
	// And it works: the ring of tokens that are not there does not hinder the other.
	cfg.Proxy.Stores[0].Regions = nil
	encrypt(t, newProxy(t, cfg.Proxy), "key-1", "x", "")
}

func TestAWrongConfigurationIsRefusedWithItsLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, want string }{
		{"an unknown setting", "health_cache: 30s", "health_cash: 30s", `line 8: there is no setting "health_cash"`},
		{"an unknown setting deep down", "        usage: [", "        uses: [", `line 48: there is no setting "uses"`},
		{"a setting twice", "metrics_listen: 127.0.0.1:0", "listen: 127.0.0.1:1", "line 7"},
		{"a wrong type", "health_cache: 30s", "health_cache: soon", "line 8"},
		{"no address", "listen: 127.0.0.1:0\ntls", "tls", "listen: is missing"},
		{"TLS and plain HTTP", "metrics_listen: 127.0.0.1:0", "plain_http: true", "line 7: plain_http: contradicts"},
		{"a certificate that is not there", "DIR/cert.pem", "DIR/nothing.pem", "line 3: tls"},
		{"a TLS key that everybody can read", "DIR/key.pem", "DIR/open", "line 3: tls: loading TLS key: "},
		{"half of mutual TLS", "  client_ca: DIR/ca.pem\n", "", "line 3: tls: mutual TLS needs both"},
		{"a health check remembered too long", "30s", "2m", "line 8: health_cache"},
		{"no collector", "health_cache: 30s", "health_cache: 30s\ntracing: {sample_ratio: 0.1}", "line 9: tracing.otlp_endpoint"},
		{"traces in clear", "health_cache: 30s", "health_cache: 30s\ntracing: {otlp_endpoint: \"http://collector:4318\"}", "line 9: tracing.otlp_endpoint: must begin with https://"},
		{"a part that is more than all", "health_cache: 30s", "health_cache: 30s\ntracing: {otlp_endpoint: \"https://collector:4318\", sample_ratio: 2}", "line 9: tracing.sample_ratio"},
		{"a collector's CA that is none", "health_cache: 30s", "health_cache: 30s\ntracing: {otlp_endpoint: \"https://collector:4318\", ca: DIR/secret}", "line 9: tracing.ca: holds no PEM"},
		{"a header that everybody can read", "health_cache: 30s", "health_cache: 30s\ntracing: {otlp_endpoint: \"https://collector:4318\", headers: [{name: A, value: {file: DIR/open}}]}", "line 9: tracing.headers[0]: "},
		{"a header twice", "health_cache: 30s", "health_cache: 30s\ntracing: {otlp_endpoint: \"https://collector:4318\", headers: [{name: A, value: {file: DIR/secret}}, {name: A, value: {file: DIR/secret}}]}", "line 9: tracing.headers[1].name: is there twice"},
		{"a key file with another key", "DIR/file.key", "DIR/secret", "line 12: rings[0].file_key"},
		{"a key file and tokens", "    file_key: DIR/file.key\n", "    file_key: DIR/file.key\n    health_key: x\n", "line 11: rings[0].key_file: contradicts"},
		{"no key for health checks", "    health_key: xks-health\n", "", "line 13: rings[1].health_key"},
		{"a time below zero", "    timeout: 150ms\n", "    timeout: 150ms\n    slow_after: -1s\n", "line 15: rings[1].slow_after"},
		{"a time to log in below zero", "    timeout: 150ms\n", "    timeout: 150ms\n    login_timeout: -1s\n", "line 15: rings[1].login_timeout"},
		{"a key id that is a folder", "id: payments", "id: ..", "line 46: stores[1].keys[0].id"},
		{"a URI that is none", "pkcs11:token=t?", "pkcs12:token=t?", "line 18: rings[1].tokens[0].uri"},
		{"a PIN in the URI", "?module-path", "?pin-value=1234&module-path", "line 18: rings[1].tokens[0].uri"},
		{"an empty PIN", "DIR/pin", "DIR/empty", "line 19: rings[1].tokens[0].pin: the secret is empty"},
		{"a variable that is not set", "{file: DIR/pin}", "{env: KASTELLAN_NOT_SET}", "line 19: rings[1].tokens[0].pin: the environment variable"},
		{"neither file nor variable", "{file: DIR/pin}", "{}", "line 19: rings[1].tokens[0].pin: give either"},
		{"an unknown source of IVs", "token-random", "dice", "line 22: rings[1].tokens[0].iv"},
		{"a secret that everybody can read", "DIR/secret}\n      - ", "DIR/open}\n      - ", "line 29: stores[0].credentials[0].secret: "},
		{"a weak secret", "DIR/secret2", "DIR/weak", "line 31: stores[0].credentials[1].secret: must be 43"},
		{"an access key id twice", "KASTELLANTESTBBBBBBBB", "KASTELLANTESTAAAAAAAA", "line 30: stores[0].credentials[1].access_key_id: is there twice"},
		{"a ring that is not there", "ring: file", "ring: fire", "line 25: stores[0].ring"},
		{"a prefix twice", "prefix: /hsm", "prefix: /acme", "line 40: stores[1].prefix"},
		{"a prefix that KMS does not allow", "prefix: /hsm", "prefix: hsm/", "line 40: stores[1].prefix"},
		{"rules without a default", "    default: allow\n", "", "stores[0].default: must say"},
		{"a rule with an unknown effect", "effect: deny", "effect: maybe", "line 35: stores[0].rules[0].effect"},
		{"a rule with an unknown operation", "[Encrypt]", "[Encrypt, Health]", "line 37: stores[0].rules[0].operations[1]"},
		{"a limit below what KMS sends", "max_aad: 65535", "max_plaintext: 4096", "line 39: stores[0].limits.max_plaintext"},
		{"all keys and a list", "    keys:\n", "    all_keys: true\n    keys:\n", "stores[1].keys: either"},
		{"an unknown usage", "[ENCRYPT, DECRYPT]", "[SIGN]", "line 48: stores[1].keys[0].usage[0]"},
		{"the key for health checks as an id", "id: payments\n        labels: [payments-2025, payments-2026]", "id: xks-health", "line 46: stores[1].keys[0].id: is the key for"},
		{"the key for health checks shown", "[payments-2025,", "[xks-health,", "line 47: stores[1].keys[0].labels[0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(goodConfig, c.old) {
				t.Fatalf("the good configuration has no %q", c.old)
			}
			text := strings.ReplaceAll(strings.Replace(goodConfig, c.old, c.new, 1), "DIR", configDir(t))
			f, err := xksproxy.ParseFile("proxy.yaml", []byte(text))
			if err == nil {
				_, err = f.Resolve()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "proxy.yaml") {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestNoUsageIsNotEveryUsage(t *testing.T) {
	t.Parallel()
	for usage, want := range map[string]int{"[]": 0, "[ENCRYPT]": 1, "[ENCRYPT, DECRYPT]": 2, "null": 2} {
		text := strings.Replace(goodConfig, "all_keys: true", "keys: [{id: key-1, usage: "+usage+"}]", 1)
		cfg, err := configured(t, text).Resolve()
		if err != nil {
			t.Fatal(err)
		}
		cfg.Proxy.Stores[0].Regions = nil
		w := post(t, newProxy(t, cfg.Proxy), "/keys/key-1/metadata", object{"requestMetadata": metadata("CreateKey")})
		if got := decode[xksapi.MetadataResponse](t, w).KeyUsage; len(got) != want {
			t.Errorf("usage %s gives %v", usage, got)
		}
	}
}

// Half a file can make sense: one that ends before a store's rules says that there are none.
func TestAFileThatIsBeingWrittenIsNotReadYet(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(name, []byte("listen: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := xksproxy.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(info.ModTime()); since < 100*time.Millisecond {
		t.Errorf("the file was read %s after it was written", since)
	}
}

func TestAFileIsReadWhateverItsClockSays(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(name, []byte("listen: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(name, future, future); err != nil {
		t.Fatal(err)
	}
	if _, err := xksproxy.ReadFile(name); err != nil {
		t.Error(err)
	}
}

func TestTheConfigurationIsOneDocumentOfBoundedSize(t *testing.T) {
	t.Parallel()
	if _, err := xksproxy.ParseFile("f", []byte("listen: a\n---\nlisten: b\n")); err == nil {
		t.Error("two documents were accepted")
	}
	name := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(name, bytes.Repeat([]byte("#\n"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := xksproxy.ReadFile(name); err == nil {
		t.Error("a file of 6 MB was accepted")
	}
	if f, err := xksproxy.ParseFile("f", nil); err != nil {
		t.Error(err)
	} else if _, err := f.Resolve(); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("an empty file: %v", err)
	}
}

func TestTheExampleIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../examples/xks-proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("secrets/pin", "DIR/pin", "secrets/xks-next", "DIR/secret2", "secrets/xks}", "DIR/secret}", "secrets/otlp", "DIR/secret",
		"tls/proxy.crt", "DIR/cert.pem", "tls/proxy.key", "DIR/key.pem").Replace(string(text))
	if _, err := configured(t, here).Resolve(); err != nil {
		t.Error(err)
	}
}
