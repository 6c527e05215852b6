package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/rootkey"
)

type rootKeyCmd struct {
	Generate rootKeyGenerateCmd `cmd:"" help:"Make a root key in a new file that only its owner can read."`
	Rotate   rootKeyRotateCmd   `cmd:"" help:"Put another root key in the place of a server's, which must not be running."`
}

type rootKeyGenerateCmd struct {
	File string `arg:"" help:"The file to make; one that exists is left alone." type:"path"`
}

// Run makes the file.
func (c *rootKeyGenerateCmd) Run(term terminal) error {
	err := rootkey.Generate(c.File)
	if errors.Is(err, fs.ErrExist) {
		return withHint(err, "a root key that is overwritten takes everything sealed under it along: choose another file")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(term.out, "%s holds a new root key; keep a copy where the data is not: without it nothing can be read\n", c.File)
	return err
}

type rootKeyRotateCmd struct {
	Config string `required:"" help:"The server's configuration file, which names the present root key." type:"path"`
	To     string `required:"" help:"The file with the new root key." type:"path"`
}

// Run replaces the root key. It can be repeated after an interruption.
func (c *rootKeyRotateCmd) Run(ctx context.Context, term terminal) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	next, err := rootkey.Load(rootkey.Source{File: c.To})
	if err != nil {
		return err
	}
	if err := cfg.RotateRootKey(ctx, next); err != nil {
		return withHint(err, "stop the server first; after an interruption, give the same command again")
	}
	_, err = fmt.Fprintf(term.out, "the root key is that of %s now: name it in root-key.file before the server starts again; backups need the key that they were made under\n", c.To)
	return err
}
