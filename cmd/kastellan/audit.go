package main

import (
	"errors"
	"fmt"

	"kastellan.dev/internal/config"
)

type auditCmd struct {
	Verify    auditVerifyCmd    `cmd:"" help:"Find out whether an audit log is as it was written. The exit status is 1 if it is not."`
	Tail      auditTailCmd      `cmd:"" help:"Show records of an audit log."`
	PublicKey auditPublicKeyCmd `cmd:"" help:"Print the key that the log's checkpoints are verified with."`
}

// auditLog says which log is meant.
type auditLog struct {
	Path   string `arg:"" optional:"" help:"The log's directory." placeholder:"DIR" type:"path"`
	Config string `help:"The server's configuration file, which names the log." placeholder:"FILE" type:"path"`
}

// config reads the configuration file; without one it is nil.
func (l auditLog) config() (*config.Config, error) {
	if (l.Path == "") == (l.Config == "") {
		return nil, withHint(errors.New("give either the log or --config"), "`kastellan audit --help` tells more")
	}
	if l.Config == "" {
		return nil, nil
	}
	return config.Load(l.Config)
}

// directory is that of the log.
func (l auditLog) directory(cfg *config.Config) (string, error) {
	if cfg == nil {
		return l.Path, nil
	}
	if cfg.Audit.Directory == "" {
		return "", fmt.Errorf("%s has no audit.directory", l.Config)
	}
	return cfg.AuditDirectory(), nil
}
