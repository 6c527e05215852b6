package config

import (
	"time"

	"kastellan.dev/internal/nitro"
)

// Nitro says which attestation documents are believed that come as the
// Recipient of a request.
type Nitro struct {
	Roots  string        `yaml:"roots"`   // PEM file; empty means AWS's root
	MaxAge time.Duration `yaml:"max-age"` // of a document; zero means 5 minutes
}

func (c *Config) checkNitro(p *problems) {
	if c.Nitro.Roots != "" {
		_, err := readPool(c.path(c.Nitro.Roots))
		p.check(where{"nitro", "roots"}, err)
	}
	if c.Nitro.MaxAge < 0 {
		p.add(where{"nitro", "max-age"}, "is negative")
	}
}

// verifier makes what verifies attestation documents.
func (c *Config) verifier() (*nitro.Verifier, error) {
	roots := nitro.AWSRoot()
	if c.Nitro.Roots != "" {
		given, err := readPool(c.path(c.Nitro.Roots))
		if err != nil {
			return nil, err
		}
		roots = given
	}
	v, err := nitro.New(roots)
	if err != nil {
		return nil, err
	}
	if c.Nitro.MaxAge != 0 {
		v.MaxAge = c.Nitro.MaxAge
	}
	return v, nil
}
