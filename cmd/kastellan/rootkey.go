package main

import (
	"errors"
	"fmt"
	"io/fs"

	"kastellan.dev/internal/rootkey"
)

type rootKeyCmd struct {
	Generate rootKeyGenerateCmd `cmd:"" help:"Make a root key in a new file that only its owner can read."`
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
