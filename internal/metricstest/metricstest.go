// Package metricstest reads metrics for tests as a monitoring system would: by name and
// labels. It is for tests only.
package metricstest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Labels choose among the series of a metric; those that are not named may have any value.
type Labels map[string]string

// Value adds up the series of a metric that have the labels: of a histogram, how many
// observations there were. The second is how many series these are.
func Value(t testing.TB, g prometheus.Gatherer, name string, labels Labels) (sum float64, series int) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if has(m, labels) {
				series++
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum, series
}

func has(m *dto.Metric, labels Labels) bool {
	found := 0
	for _, l := range m.GetLabel() {
		want, named := labels[l.GetName()]
		if named && want != l.GetValue() {
			return false
		}
		if named {
			found++
		}
	}
	return found == len(labels)
}

// Want tells when the series with the labels do not add up to a value.
func Want(t testing.TB, g prometheus.Gatherer, name string, labels Labels, want float64) {
	t.Helper()
	if got, series := Value(t, g, name, labels); got != want || series == 0 {
		t.Errorf("%s%v is %v in %d series, want %v", name, labels, got, series, want)
	}
}

// WantNone tells when there are series with the labels.
func WantNone(t testing.TB, g prometheus.Gatherer, name string, labels Labels) {
	t.Helper()
	if got, series := Value(t, g, name, labels); series != 0 {
		t.Errorf("%s%v is there: %v", name, labels, got)
	}
}
