package endpointservice_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/endpointservice"
)

const name = "com.amazonaws.vpce.eu-central-1.vpce-svc-0123456789abcdef0"

// good is a service that keeps all rules.
func good() endpointservice.Service {
	return endpointservice.Service{
		Name: name, Owner: "111122223333", AllowedPrincipals: []string{"cks.kms.eu-central-1.amazonaws.com"},
		PrivateDNSName: "xks.example.com", PrivateDNSVerified: true,
		Targets: []endpointservice.Target{
			{AvailabilityZone: "eu-central-1a", Address: "10.0.1.5:443"}, {AvailabilityZone: "eu-central-1b", Address: "10.0.2.5:443"},
		},
	}
}

var need = endpointservice.Requirements{Region: "eu-central-1", CallerAccount: "111122223333", EndpointHost: "XKS.example.com."}

func TestRules(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*endpointservice.Service, *endpointservice.Requirements)
		want   []string
	}{
		"a good service":    {func(*endpointservice.Service, *endpointservice.Requirements) {}, nil},
		"one for everybody": {func(s *endpointservice.Service, _ *endpointservice.Requirements) { s.AllowedPrincipals = []string{"*"} }, nil},
		"one of another account, which is named": {func(s *endpointservice.Service, n *endpointservice.Requirements) {
			s.Owner, n.Owner = "999999999999", "999999999999"
		}, nil},
		"another Region": {func(_ *endpointservice.Service, n *endpointservice.Requirements) { n.Region = "us-east-1" },
			[]string{"violated: the service is in the Region of the key store; found: eu-central-1",
				"violated: KMS is an allowed principal; found: cks.kms.eu-central-1.amazonaws.com"}},
		"nobody allowed": {func(s *endpointservice.Service, _ *endpointservice.Requirements) { s.AllowedPrincipals = nil },
			[]string{"violated: KMS is an allowed principal; found: none"}},
		"three targets in one zone": {func(s *endpointservice.Service, _ *endpointservice.Requirements) {
			for i := range s.Targets {
				s.Targets[i].AvailabilityZone = "eu-central-1c"
			}
		}, []string{"violated: the load balancer is in two subnets in two Availability Zones at least; found: eu-central-1c"}},
		"no private name, whatever else is wrong with it": {func(s *endpointservice.Service, _ *endpointservice.Requirements) {
			s.PrivateDNSName, s.PrivateDNSVerified = "", false
		}, []string{"violated: the service has a private DNS name; found: none"}},
		"an address as the name": {func(s *endpointservice.Service, n *endpointservice.Requirements) {
			s.PrivateDNSName, n.EndpointHost = "10.0.0.1", "10.0.0.1"
		}, []string{"violated: the private DNS name is a subdomain of a public domain; found: 10.0.0.1"}},
		"a target with IPv6": {func(s *endpointservice.Service, _ *endpointservice.Requirements) {
			s.Targets[1].Address = "[fd00::5]:443"
		},
			[]string{"violated: the service has IPv4 addresses; found: 10.0.1.5:443, [fd00::5]:443"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := good(), need
			tt.change(&s, &n)
			var have []string
			for _, v := range endpointservice.Check(s, n) {
				have = append(have, v.String())
			}
			if diff := cmp.Diff(tt.want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDeclarationsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*endpointservice.Service){
		"":                                  func(*endpointservice.Service) {},
		"the name is not of the form":       func(s *endpointservice.Service) { s.Name = "vpce-svc-1" },
		"the owner":                         func(s *endpointservice.Service) { s.Owner = "me" },
		"is not a host name":                func(s *endpointservice.Service) { s.PrivateDNSName = "a name" },
		"there are no targets":              func(s *endpointservice.Service) { s.Targets = nil },
		"has no availability zone":          func(s *endpointservice.Service) { s.Targets[0].AvailabilityZone = "" },
		"is not an IP address and a port":   func(s *endpointservice.Service) { s.Targets[0].Address = "proxy.example.com:443" },
		"\"10.0.1.5\" is not an IP address": func(s *endpointservice.Service) { s.Targets[0].Address = "10.0.1.5" },
	} {
		s := good()
		change(&s)
		_, err := endpointservice.Declare([]endpointservice.Service{s})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	twin := good()
	if _, err := endpointservice.Declare([]endpointservice.Service{good(), twin}); err == nil {
		t.Error("a service is declared twice")
	}
	twin.Name, twin.PrivateDNSName = strings.Replace(name, "0123", "4567", 1), "Xks.Example.Com."
	if _, err := endpointservice.Declare([]endpointservice.Service{good(), twin}); err == nil || !strings.Contains(err.Error(), "same private DNS name") {
		t.Errorf("two services with one name: %v", err)
	}
}

func TestReplacingIsAllOrNothing(t *testing.T) {
	t.Parallel()
	d, err := endpointservice.Declare([]endpointservice.Service{good()})
	if err != nil {
		t.Fatal(err)
	}
	next := good()
	next.Name = strings.Replace(name, "0123", "4567", 1)
	broken := next
	broken.Owner = ""
	if err := d.Replace([]endpointservice.Service{next, broken}); err == nil {
		t.Error("a broken declaration is taken")
	}
	if _, ok := d.Find(name); !ok {
		t.Error("a broken declaration took away what was there")
	}
	if err := d.Replace([]endpointservice.Service{next}); err != nil {
		t.Fatal(err)
	}
	_, old := d.Find(name)
	if _, found := d.Find(next.Name); old || !found {
		t.Errorf("old %v, new %v", old, found)
	}
	if s, ok := new(endpointservice.Declared).Find(name); ok {
		t.Errorf("the empty directory has %v", fmt.Sprint(s))
	}
}
