package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/audit/trail"
	"kastellan.dev/internal/config"
	"kastellan.dev/internal/rootkey"
)

// withAudit is a valid configuration with another audit section.
func withAudit(section string) string {
	return strings.NewReplacer("audit: {stdout: true}\n", section, `"127.0.0.1:4599"`, `"127.0.0.1:0"`).Replace(valid)
}

func TestAuditSectionsThatContradictThemselvesAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ section, want string }{
		"settings of a directory that is not there": {"audit:\n  stdout: true\n  retention: {max-age: 1h}\n", ":21: audit.retention: needs directory"},
		"a negative size":           {"audit:\n  directory: audit\n  segments: {max-bytes: -1}\n", ":21: audit.segments.max-bytes: is negative"},
		"less than two segments":    {"audit:\n  directory: audit\n  retention: {max-bytes: 1000000}\n", ":21: audit.retention.max-bytes: is less than two segments, which have 67108864 bytes each"},
		"a sink that is not set":    {"audit:\n  directory: audit\n  optional: [syslog]\n", ":21: audit.optional[0]: names none of the sinks"},
		"one that is named twice":   {"audit:\n  directory: audit\n  stdout: true\n  optional: [stdout, stdout]\n", ":22: audit.optional[1]: is named twice"},
		"no required sink":          {"audit:\n  stdout: true\n  optional: [stdout]\n", ":21: audit.optional: leaves no sink"},
		"nothing to write to disk":  {"audit:\n  stdout: true\n  sync: true\n", ":21: audit.sync: needs directory or file"},
		"syslog without a URL":      {"audit:\n  syslog: {facility: local0}\n", ":20: audit.syslog.url: is missing"},
		"a URL of something else":   {"audit:\n  syslog: {url: \"http://log\"}\n", ":20: audit.syslog.url: is not a URL such as"},
		"UDP that calls depend on":  {"audit:\n  stdout: true\n  syslog: {url: \"udp://log:514\"}\n", ":21: audit.syslog.url: is of UDP"},
		"a facility of nobody":      {"audit:\n  syslog: {url: \"tcp://log:601\", facility: other}\n", ":20: audit.syslog.facility: is not one of"},
		"a CA without TLS":          {"audit:\n  syslog: {url: \"tcp://log:601\", ca: ca.pem}\n", ":20: audit.syslog.ca: needs a URL of tls"},
		"a CA that is not there":    {"audit:\n  syslog: {url: \"tls://log:6514\", ca: no.pem}\n", ":20: audit.syslog: "},
		"half a client certificate": {"audit:\n  syslog: {url: \"tls://log:6514\", client-key: alice}\n", ":20: audit.syslog: needs client-certificate and client-key"},
		"a negative timeout":        {"audit:\n  syslog: {url: \"tcp://log:601\", timeout: -1s}\n", ":20: audit.syslog.timeout: is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(write(t, folder(t), "kastellan.yaml", withAudit(tc.section), 0o644))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// bare is a configuration without HSMs.
func bare(section string) string {
	before, _, _ := strings.Cut(withAudit(section), "hsm:\n")
	return before + section
}

func TestAllSinksAreWrittenTo(t *testing.T) {
	dir := folder(t)
	cfg, err := config.Load(write(t, dir, "kastellan.yaml", bare(`audit:
  directory: log/trail
  file: audit.jsonl
  sync: true
  syslog: {url: "udp://127.0.0.1:9", facility: local3, hostname: kms-1, timeout: 1s}
  optional: [syslog]
  segments: {max-bytes: 100000, max-age: 1h}
  retention: {max-bytes: 1000000, max-age: 100h}
  checkpoints: {records: 10, interval: 1s}
`), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.AuditPublicKey(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("the public key before there is a log: %v", err)
	}
	node, err := cfg.Open(t.Context(), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	node.Close()
	key, err := cfg.AuditPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	r, err := trail.Verify(os.DirFS(filepath.Join(dir, "log/trail")), trail.VerifyOptions{Keys: []string{key}})
	if err != nil || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"audit.jsonl", "log/trail/public-key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestOldCheckpointsVerifyAfterTheRootKeyIsReplaced(t *testing.T) {
	dir := folder(t)
	file := write(t, dir, "kastellan.yaml", bare("audit: {directory: trail}\n"), 0o644)
	run := func() string {
		t.Helper()
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		node, err := cfg.Open(t.Context(), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		node.Close()
		key, err := cfg.AuditPublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	before := run()
	if err := rootkey.Generate(filepath.Join(dir, "next.key")); err != nil {
		t.Fatal(err)
	}
	next, err := rootkey.Load(rootkey.Source{File: filepath.Join(dir, "next.key")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be repeated
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.RotateRootKey(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	if cfg, err := config.Load(file); err != nil {
		t.Fatal(err)
	} else if _, err := cfg.AuditPublicKey(); err == nil {
		t.Error("the old root key still opens the signing key")
	}
	if err := os.Rename(filepath.Join(dir, "next.key"), filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	if after := run(); after != before {
		t.Errorf("the key was %s, and is %s", before, after)
	}
	r, err := trail.Verify(os.DirFS(filepath.Join(dir, "trail")), trail.VerifyOptions{Keys: []string{before}})
	if err != nil || !r.OK() || r.Segments != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}
