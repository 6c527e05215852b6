package config

import "fmt"

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
