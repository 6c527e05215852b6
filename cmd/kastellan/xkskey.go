package main

import (
	"fmt"
	"text/tabwriter"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xksproxy/keyfile"
)

type xksKeyCmd struct {
	Init    xksKeyInitCmd    `cmd:"" help:"Make a key file without keys."`
	Add     xksKeyAddCmd     `cmd:"" help:"Make a key."`
	Rotate  xksKeyRotateCmd  `cmd:"" help:"Give a key a new version, which encrypts from now on; the old ones still decrypt."`
	Enable  xksKeyEnableCmd  `cmd:"" help:"Enable a key."`
	Disable xksKeyDisableCmd `cmd:"" help:"Disable a key."`
	List    xksKeyListCmd    `cmd:"" help:"List the keys."`
}

// keyFileFlags say which key file, and what opens it.
type keyFileFlags struct {
	KeyFile string `required:"" help:"The sealed key file." placeholder:"FILE" type:"path"`
	FileKey string `help:"The file of the key that seals it, as 'kastellan root-key generate' makes it." placeholder:"FILE" type:"path"`
	FileEnv string `name:"file-key-env" help:"The variable that holds that key instead." placeholder:"NAME"`
}

func (f keyFileFlags) sealer() (rootkey.Sealer, error) {
	if (f.FileKey == "") == (f.FileEnv == "") {
		return nil, withHint(fmt.Errorf("either --file-key or --file-key-env says what seals %s", f.KeyFile),
			"`kastellan root-key generate FILE` makes such a key")
	}
	key, err := rootkey.Load(rootkey.Source{File: f.FileKey, Env: f.FileEnv})
	if err != nil {
		return nil, fmt.Errorf("reading the file key: %w", err)
	}
	return key.Direct(), nil
}

// change alters the key file and says what came of it.
func (f keyFileFlags) change(term terminal, id, done string, fn func(*keyfile.File) error) error {
	sealer, err := f.sealer()
	if err != nil {
		return err
	}
	if err := keyfile.Update(f.KeyFile, sealer, fn); err != nil {
		return fmt.Errorf("changing key %s in %s: %w", id, f.KeyFile, err)
	}
	_, err = fmt.Fprintf(term.out, "key %s %s; a proxy that is running sees it after a SIGHUP\n", id, done)
	return err
}

type xksKeyInitCmd struct{ keyFileFlags }

// Run makes the file.
func (c *xksKeyInitCmd) Run(term terminal) error {
	sealer, err := c.sealer()
	if err != nil {
		return err
	}
	if err := keyfile.Create(c.KeyFile, sealer); err != nil {
		return fmt.Errorf("making %s: %w", c.KeyFile, err)
	}
	_, err = fmt.Fprintf(term.out, "%s is made; `kastellan xks-proxy key add` puts keys into it\n", c.KeyFile)
	return err
}

type xksKeyAddCmd struct {
	keyFileFlags
	ID          string `arg:"" help:"The external key's id, XksKeyId in KMS."`
	EncryptOnly bool   `help:"The key may only encrypt." xor:"usage"`
	DecryptOnly bool   `help:"The key may only decrypt." xor:"usage"`
}

// Run makes the key.
func (c *xksKeyAddCmd) Run(term terminal) error {
	return c.change(term, c.ID, "is made", func(f *keyfile.File) error {
		_, err := f.Add(c.ID, !c.DecryptOnly, !c.EncryptOnly)
		return err
	})
}

type xksKeyRotateCmd struct {
	keyFileFlags
	ID string `arg:"" help:"The key's id."`
}

// Run gives the key a new version.
func (c *xksKeyRotateCmd) Run(term terminal) error {
	return c.change(term, c.ID, "has a new version", func(f *keyfile.File) error {
		_, err := f.Rotate(c.ID)
		return err
	})
}

type xksKeyEnableCmd struct {
	keyFileFlags
	ID string `arg:"" help:"The key's id."`
}

// Run enables the key.
func (c *xksKeyEnableCmd) Run(term terminal) error {
	return c.change(term, c.ID, "is enabled", func(f *keyfile.File) error { return f.SetEnabled(c.ID, true) })
}

type xksKeyDisableCmd struct {
	keyFileFlags
	ID string `arg:"" help:"The key's id."`
}

// Run disables the key.
func (c *xksKeyDisableCmd) Run(term terminal) error {
	return c.change(term, c.ID, "is disabled", func(f *keyfile.File) error { return f.SetEnabled(c.ID, false) })
}

type xksKeyListCmd struct{ keyFileFlags }

// Run lists the keys.
func (c *xksKeyListCmd) Run(term terminal) error {
	sealer, err := c.sealer()
	if err != nil {
		return err
	}
	file, err := keyfile.Load(c.KeyFile, sealer)
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.KeyFile, err)
	}
	table := tabwriter.NewWriter(term.out, 0, 0, 2, ' ', 0)
	for _, k := range file.Keys() {
		fmt.Fprintf(table, "%s\t%s\t%s\tversion %d\n", k.ID, status(k.Enabled), usage(k), k.Newest().Number)
	}
	return table.Flush()
}

func status(enabled bool) string {
	if enabled {
		return "enabled"
	}
	return "disabled"
}

func usage(k *keyfile.Key) string {
	switch {
	case k.Encrypt && k.Decrypt:
		return "encrypt, decrypt"
	case k.Encrypt:
		return "encrypt"
	default:
		return "decrypt"
	}
}
