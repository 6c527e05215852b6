package hsm_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
)

func TestChecksOfClusters(t *testing.T) {
	t.Parallel()
	noChange := func(*rig) {}
	for _, tt := range []struct {
		name                        string
		change                      func(*rig) // of the declaration, before it is used
		then                        func(*rig) // of the store's configuration
		locate, connectable, verify kmsapi.Code
		text                        string // of Verify
	}{
		{name: "a good cluster passes", change: noChange},
		{name: "an unknown cluster", change: noChange, then: func(r *rig) { r.cfg.HSM.ClusterID = "cluster-zzzzzzzzzzz" },
			locate: kmsapi.CloudHsmClusterNotFound, verify: kmsapi.KMSInternal},
		{name: "a cluster of another account", change: noChange, then: func(r *rig) { r.cfg.Account = "999999999999" },
			locate: kmsapi.CloudHsmClusterNotFound, verify: kmsapi.KMSInternal},
		{name: "a cluster of another Region", change: noChange, then: func(r *rig) { r.cfg.Region = "eu-west-1" },
			locate: kmsapi.CloudHsmClusterNotFound, verify: kmsapi.KMSInternal},
		{name: "a cluster that is not active", change: func(r *rig) { r.cluster().State = cloudhsmapi.ClusterInitialized },
			locate: kmsapi.CloudHsmClusterNotActive, connectable: kmsapi.CloudHsmClusterNotActive},
		{name: "subnets in one zone only", change: func(r *rig) {
			delete(r.cluster().SubnetMapping, zoneOf(1))
			r.cluster().Members = r.cluster().Members[:1]
		}, connectable: kmsapi.CloudHsmClusterInvalidConfiguration, verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "subnets in at least two"},
		{name: "an altered security group", change: func(r *rig) { r.cluster().SecurityGroupAltered = true },
			connectable: kmsapi.CloudHsmClusterInvalidConfiguration, verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "security group"},
		{name: "mutual TLS", change: func(r *rig) { r.cluster().MTLS = true },
			connectable: kmsapi.CloudHsmClusterInvalidConfiguration, verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "mutual TLS"},
		{name: "IPv6", change: func(r *rig) { r.cluster().NetworkType = cloudhsmapi.DualStack },
			connectable: kmsapi.CloudHsmClusterInvalidConfiguration, verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "IPV4"},
		{name: "one HSM only", change: func(r *rig) { r.cluster().Members = r.cluster().Members[:1] },
			verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "at least two Availability Zones"},
		{name: "two HSMs in one zone", change: func(r *rig) { r.cluster().Members[1].AvailabilityZone = zoneOf(0) },
			verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "at least two Availability Zones"},
		{name: "an HSM that is away", change: func(r *rig) { r.fail(1, always(pkcs11.ErrLost)) },
			verify: kmsapi.CloudHsmClusterInvalidConfiguration, text: "at least two Availability Zones"},
		{name: "another trust anchor", change: noChange, then: func(r *rig) { r.cfg.HSM.TrustAnchor = newAnchor(t) },
			verify: kmsapi.IncorrectTrustAnchor, text: "trust anchor"},
		{name: "a trust anchor that is no certificate", change: noChange, then: func(r *rig) { r.cfg.HSM.TrustAnchor = "garbage" },
			verify: kmsapi.IncorrectTrustAnchor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, tt.change)
			if tt.then != nil {
				tt.then(r)
			}
			wantCode(t, r.kind.Locate(t.Context(), r.cfg), tt.locate)
			wantCode(t, r.kind.Connectable(t.Context(), r.cfg), tt.connectable)
			err := r.kind.Verify(t.Context(), call("CreateCustomKeyStore"), r.cfg)
			wantCode(t, err, tt.verify)
			if tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("the text is %v, want %q in it", err, tt.text)
			}
		})
	}
}

func TestConflictAndRelation(t *testing.T) {
	t.Parallel()
	restored, stranger := "cluster-restored222", "cluster-stranger222"
	r := newRig(t, 2, func(r *rig) {
		twin := *r.cluster()
		twin.ID, twin.Members = restored, nil
		other := twin
		other.ID, other.TrustAnchor = stranger, newAnchor(t)
		r.decl.Clusters = append(r.decl.Clusters, twin, other)
	})
	on := func(account, cluster string) keystore.Config {
		return keystore.Config{ID: "cks-other", Account: account, Region: region, HSM: &keystore.HSMConfig{ClusterID: cluster, TrustAnchor: r.cfg.HSM.TrustAnchor}}
	}
	for _, tt := range []struct {
		name  string
		other keystore.Config
		want  kmsapi.Code
	}{
		{"the same cluster", on(account, clusterID), kmsapi.CloudHsmClusterInUse},
		{"a cluster with the same certificate", on(account, restored), kmsapi.CloudHsmClusterInUse},
		{"a cluster with another certificate", on(account, stranger), ""},
		{"the same cluster in another account", on("999999999999", clusterID), kmsapi.CloudHsmClusterInUse},
		{"a related cluster in another account", on("999999999999", restored), ""},
		{"an external key store", keystore.Config{XKS: &keystore.XKSConfig{}}, ""},
	} {
		wantCode(t, r.kind.Conflict(r.cfg, tt.other), tt.want)
	}
	wantCode(t, r.kind.Related(t.Context(), r.cfg, on(account, restored)), "")
	wantCode(t, r.kind.Related(t.Context(), r.cfg, on(account, clusterID)), "")
	wantCode(t, r.kind.Related(t.Context(), r.cfg, on(account, stranger)), kmsapi.CloudHsmClusterNotRelated)
	gone := on(account, "cluster-gone2222222")
	wantCode(t, r.kind.Related(t.Context(), gone, on(account, restored)), "")
	wantCode(t, r.kind.Related(t.Context(), gone, on(account, stranger)), kmsapi.CloudHsmClusterNotRelated)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRig(t, 2, func(r *rig) { r.kindOpts.Metrics = registry })
	c := r.connect(t)
	key := createKey(t, c)
	r.fail(0, always(pkcs11.ErrLost))
	for range 4 {
		mustEncrypt(t, c, key)
	}
	want := map[string]float64{"up 0": 0, "up 1": 1, "ok": 4, "lost": 1, "failovers": 1}
	got := make(map[string]float64)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := make(map[string]string)
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetName() {
			case "kastellan_hsm_member_up":
				got[map[string]string{hsmID(0): "up 0", hsmID(1): "up 1"}[labels["member"]]] = m.Gauge.GetValue()
			case "kastellan_hsm_operations_total":
				got[labels["outcome"]] += m.Counter.GetValue()
			case "kastellan_hsm_failovers_total":
				got["failovers"] = m.Counter.GetValue()
			}
		}
	}
	for name, value := range want {
		if name == "lost" || name == "failovers" {
			if got[name] > value {
				t.Errorf("%s is %v, want at most %v", name, got[name], value)
			}
		} else if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if _, err := hsm.New(hsm.Config{}); err == nil {
		t.Error("a kind without a directory was made")
	}
}
