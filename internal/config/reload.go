package config

import (
	"fmt"
	"reflect"
)

// ReloadFile reads the configuration file again and puts in force what can change
// while the server runs: accounts, clusters and endpoint services. It
// logs what came of it; if anything is wrong, everything stays as it is.
func (n *Node) ReloadFile(path string) {
	cfg, err := load(path, n.cfg)
	if err == nil {
		err = n.Reload(cfg)
	}
	if err != nil {
		n.log.Error("the configuration could not be read again and stays as it is", "error", err)
		return
	}
	n.log.Info("the configuration was read again", "path", path)
	for _, name := range n.cfg.needRestart(cfg) {
		n.log.Warn("a changed setting has no effect before a restart", "setting", name)
	}
}

// needRestart names the settings of next that differ and that Reload leaves alone.
func (c *Config) needRestart(next *Config) []string {
	external, nextExternal := c.ExternalKeyStores, next.ExternalKeyStores
	var names []string
	for _, setting := range []struct {
		name      string
		now, next any
	}{
		{"listen", c.Listen, next.Listen},
		{"regions", c.Regions, next.Regions},
		{"data-directory", c.DataDirectory, next.DataDirectory},
		{"root-key", c.RootKey, next.RootKey},
		{"hsm.pools", c.HSM.Pools, next.HSM.Pools},
		{"hsm.vault", c.HSM.Vault, next.HSM.Vault},
		{"hsm.backup-interval", c.HSM.BackupInterval, next.HSM.BackupInterval},
		{"hsm.replace-after", c.HSM.ReplaceAfter, next.HSM.ReplaceAfter},
		{"hsm.quotas", c.HSM.Quotas, next.HSM.Quotas},
		{"external-key-stores.hosts", external.Hosts, nextExternal.Hosts},
		{"external-key-stores.request-timeout", external.RequestTimeout, nextExternal.RequestTimeout},
		{"audit", c.Audit, next.Audit},
		{"quotas", c.Quotas, next.Quotas},
		{"limits", c.Limits, next.Limits},
		{"log", c.Log, next.Log},
		{"metrics", c.Metrics, next.Metrics},
		{"tracing", c.Tracing, next.Tracing},
		{"nitro", c.Nitro, next.Nitro},
	} {
		if !reflect.DeepEqual(setting.now, setting.next) {
			names = append(names, setting.name)
		}
	}
	return names
}

// Reload puts the accounts, HSM clusters and endpoint services of another
// configuration, which was checked, in force. The rest needs a restart.
func (n *Node) Reload(cfg *Config) error {
	directory, err := cfg.directory()
	if err != nil {
		return fmt.Errorf("reading the accounts: %w", err)
	}
	p := &problems{}
	declaration := cfg.declaration(p)
	if err := p.err(); err != nil {
		return err
	}
	if err := n.clusters.Replace(declaration); err != nil {
		return err
	}
	if err := n.services.Replace(cfg.endpointServices()); err != nil {
		return err
	}
	n.identities.Replace(directory)
	return nil
}
