package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/secret"
)

type serveCmd struct {
	Config string `help:"The configuration file." placeholder:"FILE" type:"path" xor:"mode" required:""`
	Dev    bool   `help:"Serve for development on the loopback interface, with well-known credentials." xor:"mode" required:""`

	Data   string `help:"With --dev: keep everything in this directory." placeholder:"DIR" type:"path"`
	Listen string `help:"With --dev: the address." placeholder:"ADDRESS"`
	Region string `help:"With --dev: the Region." placeholder:"REGION"`
}

// Run serves until it is told to stop.
func (c *serveCmd) Run(ctx context.Context, term terminal) error {
	if err := secret.GuardMemory(); err != nil {
		return err
	}
	if c.Dev {
		return c.serveDev(ctx, term)
	}
	if c.Data != "" || c.Listen != "" || c.Region != "" {
		return withHint(errors.New("--data, --listen and --region belong to --dev"), "the configuration file has data-directory, listen and regions")
	}
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	node, err := cfg.Open(ctx, config.Options{Version: productVersion()})
	if err != nil {
		return err
	}
	defer node.Close()
	stop := onHangup(func() { node.ReloadFile(c.Config) })
	defer stop()
	return node.Serve(ctx)
}

// onHangup calls fn for each SIGHUP until stop is called.
func onHangup(fn func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangups:
				fn()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(done)
	}
}
