package main

import (
	"fmt"

	"kastellan.dev/internal/config"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check a server's configuration file, and the files that it names."`
}

type configCheckCmd struct {
	File string `arg:"" help:"The configuration file." type:"path"`
}

// Run tells whether the file is valid.
func (c *configCheckCmd) Run(term terminal) error {
	if _, err := config.Load(c.File); err != nil {
		return err
	}
	_, err := fmt.Fprintf(term.out, "%s is valid\n", c.File)
	return err
}
