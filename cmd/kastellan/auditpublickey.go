package main

import "fmt"

type auditPublicKeyCmd struct {
	Config string `required:"" help:"The server's configuration file." placeholder:"FILE" type:"path"`
}

// Run opens the signing key, which takes the root key, and prints its public half.
func (c *auditPublicKeyCmd) Run(term terminal) error {
	log := auditLog{Config: c.Config}
	cfg, err := log.config()
	if err != nil {
		return err
	}
	if _, err := log.directory(cfg); err != nil {
		return err
	}
	key, err := cfg.AuditPublicKey()
	if err != nil {
		return withHint(err, "the key is made when the server starts with audit.directory for the first time")
	}
	_, err = fmt.Fprintln(term.out, key)
	return err
}
