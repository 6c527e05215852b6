package config

import (
	"crypto/tls"
	"net/netip"
	"regexp"
	"time"

	"kastellan.dev/internal/endpointservice"
	"kastellan.dev/internal/keystore/xks"
)

// ExternalKeyStores says how the proxies of external key stores are reached.
type ExternalKeyStores struct {
	Hosts            []Host            `yaml:"hosts"`
	EndpointServices []EndpointService `yaml:"endpoint-services"`
	RequestTimeout   time.Duration     `yaml:"request-timeout"` // of one request to a proxy; zero means 250 ms
}

// Host says how a proxy's host name is reached where DNS, port 443 and the
// system's CAs are not the answer.
type Host struct {
	Name              string `yaml:"name"`               // as in XksProxyUriEndpoint, without https://
	Address           string `yaml:"address"`            // "host:port"; empty means the name and 443
	CA                string `yaml:"ca"`                 // PEM file; empty means the system's
	ClientCertificate string `yaml:"client-certificate"` // PEM file, for proxies that ask for one
	ClientKey         string `yaml:"client-key"`         // PEM file
}

// EndpointService is a VPC endpoint service.
type EndpointService struct {
	Name               string   `yaml:"name"`  // "com.amazonaws.vpce.<region>.vpce-svc-…"
	Owner              string   `yaml:"owner"` // account
	AllowedPrincipals  []string `yaml:"allowed-principals"`
	AcceptanceRequired bool     `yaml:"acceptance-required"`
	PrivateDNSName     string   `yaml:"private-dns-name"`
	PrivateDNSVerified bool     `yaml:"private-dns-verified"`
	Targets            []Target `yaml:"targets"`
}

// Target is where one availability zone's share of an endpoint service is.
type Target struct {
	AvailabilityZone string `yaml:"availability-zone"`
	Address          string `yaml:"address"` // "ip:port"
}

var hostName = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

func (c *Config) checkExternal(p *problems) {
	seen := make(map[string]bool)
	for i, h := range c.ExternalKeyStores.Hosts {
		w := where{"external-key-stores", "hosts", i}
		if p.need(w.at("name"), h.Name) {
			c.checkHost(p, w, h)
			if seen[h.Name] {
				p.add(w.at("name"), "is given twice")
			}
			seen[h.Name] = true
		}
	}
	if c.ExternalKeyStores.RequestTimeout < 0 {
		p.add(where{"external-key-stores", "request-timeout"}, "is negative")
	}
	before := len(p.errs)
	services := c.endpointServices()
	for i, s := range services {
		w := where{"external-key-stores", "endpoint-services", i}
		before := len(p.errs)
		for j, t := range s.Targets {
			if _, err := netip.ParseAddrPort(t.Address); err != nil {
				p.add(w.at("targets", j, "address"), "is not an IP address and a port, such as 10.0.0.5:443")
			}
		}
		if len(p.errs) == before {
			_, err := endpointservice.Declare(services[i : i+1])
			p.check(w, err)
		}
	}
	if len(p.errs) == before { // what two of them have in common
		_, err := endpointservice.Declare(services)
		p.check(where{"external-key-stores", "endpoint-services"}, err)
	}
}

func (c *Config) checkHost(p *problems, w where, h Host) {
	if !hostName.MatchString(h.Name) {
		p.add(w.at("name"), "is not a host name, without https:// and port")
	}
	if h.Address != "" {
		p.check(w.at("address"), checkAddress(h.Address))
	}
	if h.CA != "" {
		_, err := readPool(c.path(h.CA))
		p.check(w.at("ca"), err)
	}
	if (h.ClientCertificate == "") != (h.ClientKey == "") {
		p.add(w, "needs client-certificate and client-key together")
	} else if h.ClientKey != "" {
		p.check(w, checkKeyPair(c.path(h.ClientCertificate), c.path(h.ClientKey)))
	}
}

// endpointServices turns the section into what package endpointservice knows.
func (c *Config) endpointServices() []endpointservice.Service {
	var out []endpointservice.Service
	for _, s := range c.ExternalKeyStores.EndpointServices {
		service := endpointservice.Service{
			Name: s.Name, Owner: s.Owner, AllowedPrincipals: s.AllowedPrincipals, AcceptanceRequired: s.AcceptanceRequired,
			PrivateDNSName: s.PrivateDNSName, PrivateDNSVerified: s.PrivateDNSVerified,
		}
		for _, t := range s.Targets {
			service.Targets = append(service.Targets, endpointservice.Target(t))
		}
		out = append(out, service)
	}
	return out
}

// hosts reads what the section names.
func (c *Config) hosts(p *problems) map[string]xks.HostConfig {
	out := make(map[string]xks.HostConfig)
	for i, h := range c.ExternalKeyStores.Hosts {
		host, err := c.host(h)
		p.check(where{"external-key-stores", "hosts", i}, err)
		out[h.Name] = host
	}
	return out
}

func (c *Config) host(h Host) (xks.HostConfig, error) {
	out := xks.HostConfig{Address: h.Address}
	var err error
	if h.CA != "" {
		if out.CABundle, err = readLimited(c.path(h.CA), maxFile); err != nil {
			return out, plain(err)
		}
	}
	if h.ClientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(c.path(h.ClientCertificate), c.path(h.ClientKey))
		if err != nil {
			return out, plain(err)
		}
		out.ClientCertificate = &pair
	}
	return out, nil
}
