package config_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// running is a server whose configuration file can be changed.
type running struct {
	t    *testing.T
	node *config.Node
	path string
	log  *logged
}

// logged holds what a server logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take gives what was logged since it was called last.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// reloadable is what the tests begin with.
var reloadable = strings.NewReplacer(`"127.0.0.1:4599"`, `"127.0.0.1:0"`, "audit: {stdout: true}", "audit: {file: audit.jsonl}").Replace(valid)

func serve(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, path: filepath.Join(folder(t), "kastellan.yaml"), log: &logged{}}
	r.write(reloadable)
	cfg, err := config.Load(r.path)
	if err != nil {
		t.Fatal(err)
	}
	if r.node, err = cfg.Open(t.Context(), config.Options{Logger: slog.New(slog.NewTextHandler(r.log, nil))}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.node.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.node.Close()
	})
	r.log.take()
	return r
}

func (r *running) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// reload has the server read what replacing old by new in its first configuration gives, and returns what it logs.
func (r *running) reload(old, new string) string {
	r.t.Helper()
	text := strings.Replace(reloadable, old, new, 1)
	if text == reloadable {
		r.t.Fatalf("the test replaces nothing: %s", old)
	}
	r.write(text)
	r.log.take()
	r.node.ReloadFile(r.path)
	return r.log.take()
}

// code calls an operation as alice and gives the code of what she gets.
func (r *running) code(operation string, in map[string]any) kmsapi.Code {
	r.t.Helper()
	client := kmsclient.New("http://"+r.node.Addr(), "eu-central-1", sigv4.Credentials{
		AccessKeyID: "AKIAALICEEXAMPLE0001", Secret: secret.NewText("a-secret-that-is-long-enough-for-a-key!"),
	})
	err := client.Call(r.t.Context(), kmsclient.KMS+operation, in, nil)
	if err != nil && kmsapi.CodeOf(err) == "" {
		r.t.Fatal(err)
	}
	return kmsapi.CodeOf(err)
}

func TestUsersAndPoliciesAreInForceAfterAReload(t *testing.T) {
	t.Parallel()
	r := serve(t)
	if code := r.code("ListKeys", map[string]any{}); code != "" {
		t.Fatalf("before: %s", code)
	}
	r.reload(`"Effect":"Allow"`, `"Effect":"Deny"`)
	if code := r.code("ListKeys", map[string]any{}); code != kmsapi.AccessDenied {
		t.Errorf("with another policy: %s", code)
	}
	r.reload("AKIAALICEEXAMPLE0001", "AKIASOMEBODYELSE0001")
	if code := r.code("ListKeys", map[string]any{}); code != kmsapi.UnrecognizedClient {
		t.Errorf("without the access key: %s", code)
	}
}

func TestClustersAreInForceAfterAReload(t *testing.T) {
	t.Parallel()
	r := serve(t)
	anchor, err := os.ReadFile(filepath.Join(filepath.Dir(r.path), "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	store := map[string]any{
		"CustomKeyStoreName": "payments", "CloudHsmClusterId": "cluster-3a23b4cdefg",
		"TrustAnchorCertificate": string(anchor), "KeyStorePassword": "a-password",
	}
	if code := r.code("CreateCustomKeyStore", store); code != kmsapi.CloudHsmClusterNotFound {
		t.Fatalf("before: %s", code)
	}
	r.reload("cluster-2a23b4cdefg", "cluster-3a23b4cdefg")
	if code := r.code("CreateCustomKeyStore", store); code == kmsapi.CloudHsmClusterNotFound {
		t.Errorf("after: %s", code)
	}
}

func TestEndpointServicesAreInForceAfterAReload(t *testing.T) {
	t.Parallel()
	const service = "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0"
	r := serve(t)
	store := map[string]any{
		"CustomKeyStoreName": "external", "CustomKeyStoreType": "EXTERNAL_KEY_STORE", "XksProxyConnectivity": "VPC_ENDPOINT_SERVICE",
		"XksProxyUriEndpoint": "https://xks.private.example.com", "XksProxyUriPath": "/kms/xks/v1", "XksProxyVpcEndpointServiceName": service,
		"XksProxyAuthenticationCredential": map[string]string{
			"AccessKeyId": "ABCDEFGHIJKLMNOPQRST", "RawSecretAccessKey": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
		},
	}
	if code := r.code("CreateCustomKeyStore", store); code != kmsapi.XksProxyVpcEndpointServiceNotFound {
		t.Fatalf("before: %s", code)
	}
	r.reload("audit:", `external-key-stores:
  endpoint-services:
    - name: `+service+`
      owner: "111122223333"
      allowed-principals: [cks.kms.eu-central-1.amazonaws.com]
      private-dns-name: xks.private.example.com
      private-dns-verified: true
      targets:
        - {availability-zone: eu-central-1a, address: "127.0.0.1:1"}
        - {availability-zone: eu-central-1b, address: "127.0.0.1:1"}
audit:`)
	if code := r.code("CreateCustomKeyStore", store); code != "" {
		t.Errorf("after: %s", code)
	}
}

func TestAFileWithMistakesChangesNothing(t *testing.T) {
	t.Parallel()
	r := serve(t)
	for old, new := range map[string]string{
		"AKIAALICEEXAMPLE0001": "AKIASOMEBODYELSE0001, colour: red",
		"secret-file: alice":   "secret-file: nobody",
		"data-directory":       "data-dir",
	} {
		if log := r.reload(old, new); !strings.Contains(log, "stays as it is") || !strings.Contains(log, "kastellan.yaml:") {
			t.Errorf("with %s it logs %q", new, log)
		}
		if code := r.code("ListKeys", map[string]any{}); code != "" {
			t.Errorf("with %s alice gets %s", new, code)
		}
	}
}

func TestWhatNeedsARestartIsSaid(t *testing.T) {
	t.Parallel()
	r := serve(t)
	dir := filepath.Dir(r.path)
	other, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "same.key", string(other), 0o600)
	tests := []struct{ setting, old, new string }{
		{"listen", "127.0.0.1:0", "127.0.0.1:1"},
		{"regions", "audit:", "regions: [eu-central-1]\naudit:"},
		{"data-directory", "data-directory: data", "data-directory: elsewhere"},
		{"root-key", "root.key", "same.key"},
		{"external-key-stores.hosts", "audit:", "external-key-stores: {hosts: [{name: xks.example.com}]}\naudit:"},
		{"external-key-stores.request-timeout", "audit:", "external-key-stores: {request-timeout: 1s}\naudit:"},
		{"audit", "audit.jsonl", "other.jsonl"},
		{"quotas", "audit:", "quotas: {keys: 3}\naudit:"},
		{"limits", "audit:", "limits: {request-timeout: 3s}\naudit:"},
		{"log", "audit:", "log: {level: debug}\naudit:"},
		{"metrics", "audit:", "metrics: {from: [10.0.0.0/8]}\naudit:"},
		{"", "alice", "alice2"},
		{"", "pkcs11:token=b", "pkcs11:token=c"},
	}
	write(t, dir, "alice2", "a-secret-that-is-long-enough-for-a-key!", 0o600)
	for _, test := range tests {
		var want []string
		if test.setting != "" {
			want = []string{"setting=" + test.setting}
		}
		log := r.reload(test.old, test.new)
		if !strings.Contains(log, "the configuration was read again") {
			t.Errorf("%s: %s", test.new, log)
		}
		var got []string
		for word := range strings.FieldsSeq(log) {
			if strings.HasPrefix(word, "setting=") {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("with %s it names %v, want %v", test.new, got, want)
		}
	}
}
