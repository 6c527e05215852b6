package rules_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/xksproxy"
	"kastellan.dev/internal/xksproxy/xksproxytest"
)

// TestEveryMetricIsDocumented holds the guide to what a running server and a running proxy
// register, in both directions, names and labels.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{Config: func(c *config.Config) { c.Metrics.Keys = 1 }})
	proxy := prometheus.NewRegistry()
	cfg := xksproxytest.Config(xksproxytest.FileRing(t))
	cfg.Registry = proxy
	p, err := xksproxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(t.Context()) })
	for chapter, registry := range map[string]*prometheus.Registry{"## Metrics": server.Node.Metrics, "### Metrics of the proxy": proxy} {
		documented, registered := tableRows(section(t, chapter)), metricsOf(t, registry)
		if len(registered) < 10 {
			t.Fatalf("%s: only %d metrics were found", chapter, len(registered))
		}
		for name, labels := range registered {
			if got, ok := documented[name]; !ok {
				t.Errorf("docs/operations.md does not say what the metric %s is", name)
			} else if !slices.Equal(got, labels) {
				t.Errorf("docs/operations.md says that %s has the labels %v, and it has %v", name, got, labels)
			}
		}
		for name := range documented {
			if _, ok := registered[name]; !ok {
				t.Errorf("docs/operations.md speaks of the metric %s, which does not exist", name)
			}
		}
	}
}

// published are the metrics of AWS KMS in CloudWatch.
var published = []string{
	"SuccessfulRequest", "SecondsUntilKeyMaterialExpiration", "CloudHSMKeyStoreThrottle", "ExternalKeyStoreThrottle", "XksProxyCertificateDaysToExpire",
	"XksProxyCredentialAge", "XksProxyErrors", "XksExternalKeyManagerStates", "XksProxyLatency",
}

func TestEveryMetricOfAWSHasItsPlace(t *testing.T) {
	t.Parallel()
	ours, theirs := tableRows(section(t, "## Metrics")), tableRows(section(t, "### CloudWatch's metrics"))
	delete(theirs, "AWS/KMS") // the head of the table
	for _, name := range published {
		here, ok := theirs[name]
		if !ok || len(here) != 1 {
			t.Errorf("docs/operations.md does not say where %s is: %v", name, here)
		} else if _, ok := ours[here[0]]; !ok {
			t.Errorf("docs/operations.md says that %s is %s, which does not exist", name, here[0])
		}
	}
	if len(theirs) != len(published) {
		t.Errorf("docs/operations.md tells of %d metrics, AWS has %d", len(theirs), len(published))
	}
}

// section gives the text of the guide from a heading to the next one, of whatever level.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/operations.md has no chapter %q", heading)
	}
	after, _, _ = strings.Cut(after, "\n##")
	return after
}

// tableRows gives what stands in backticks in the second column of tables, by what does
// in the first.
func tableRows(text string) map[string][]string {
	out := make(map[string][]string)
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(line, "| `") {
			continue
		}
		names := quoted(cells[1])
		out[names[0]] = quoted(cells[2])
	}
	return out
}

func quoted(cell string) []string {
	var out []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	slices.Sort(out)
	return out
}

// A description says what it describes in its text alone.
var (
	metricName   = regexp.MustCompile(`fqName: "([^"]+)"`)
	constLabels  = regexp.MustCompile(`constLabels: \{([^}]*)\}`)
	metricLabels = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
)

// metricsOf gives the labels of the metrics that are ours, sorted, by name.
func metricsOf(t *testing.T, registry *prometheus.Registry) map[string][]string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descriptions)
		close(descriptions)
	}()
	out := make(map[string][]string)
	for d := range descriptions {
		name := metricName.FindStringSubmatch(d.String())
		if name == nil {
			t.Errorf("a description cannot be read: %s", d)
			continue
		}
		if !strings.HasPrefix(name[1], "kastellan_") {
			continue
		}
		labels := []string(nil)
		for _, text := range []string{constLabels.FindStringSubmatch(d.String())[1], metricLabels.FindStringSubmatch(d.String())[1]} {
			for _, label := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
				label, _, _ = strings.Cut(label, "=")
				labels = append(labels, label)
			}
		}
		slices.Sort(labels)
		out[name[1]] = labels
	}
	return out
}
