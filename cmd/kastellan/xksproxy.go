package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy"
)

type xksProxyCmd struct {
	Serve xksServeCmd `cmd:"" help:"Serve the XKS Proxy API over PKCS#11 tokens or a sealed key file. SIGHUP reads the configuration again."`
	Check xksCheckCmd `cmd:"" help:"Test whether a proxy follows the XKS Proxy API. The exit status is 1 if it does not."`
	Key   xksKeyCmd   `cmd:"" help:"Manage the keys of a sealed key file."`
}

type xksServeCmd struct {
	Config   string `required:"" help:"The configuration file." placeholder:"FILE" type:"existingfile"`
	LogLevel string `default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`
}

// Run serves until it is told to stop.
func (c *xksServeCmd) Run(ctx context.Context, term terminal) error {
	if err := secret.GuardMemory(); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(term.err, &slog.HandlerOptions{Level: level}))
	cfg, err := c.load(log)
	if err != nil {
		return err
	}
	server, err := xksproxy.NewServer(cfg)
	if err != nil {
		return err
	}
	stop := onHangup(func() {
		next, err := c.load(log)
		if err == nil {
			err = server.Reload(next)
		}
		if err != nil {
			log.Error("the configuration could not be read again and stays as it is", "error", err.Error())
			return
		}
		log.Info("the configuration was read again", "path", c.Config)
	})
	defer stop()
	log.Info("serving the XKS Proxy API", "address", server.Addr().String(), "pid", os.Getpid())
	return server.Serve(ctx)
}

func (c *xksServeCmd) load(log *slog.Logger) (xksproxy.ServerConfig, error) {
	file, err := xksproxy.ReadFile(c.Config)
	if err != nil {
		return xksproxy.ServerConfig{}, err
	}
	cfg, err := file.Resolve()
	if err != nil {
		return cfg, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg.Proxy.Logger, cfg.Proxy.Version = log, productVersion()
	return cfg, nil
}
