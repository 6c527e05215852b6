package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"kastellan.dev/internal/devmode"
	"kastellan.dev/internal/kmsapi"
)

// serveDev serves for development until it is told to stop.
func (c *serveCmd) serveDev(ctx context.Context, term terminal) error {
	log := slog.New(slog.NewTextHandler(term.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := devmode.Start(ctx, devmode.Config{Directory: c.Data, Listen: c.Listen, Region: c.Region, Logger: log})
	if err != nil {
		return fmt.Errorf("starting the development server: %w", err)
	}
	if err := introduce(term.out, server); err != nil {
		_ = server.Close()
		return err
	}
	<-server.Done()
	return server.Close()
}

// introduce prints what there is and the lines to paste.
func introduce(w io.Writer, s *devmode.Server) error {
	var b strings.Builder
	fmt.Fprintf(&b, "kastellan serves the KMS API on %s (ready after %s)\n\n", s.Endpoint, round(s.Took))
	listStores(&b, s)
	if s.LeftOut != "" {
		fmt.Fprintf(&b, "%s\n", s.LeftOut)
	}
	b.WriteByte('\n')
	fmt.Fprintf(&b, "paste this into another shell:\n\n")
	// The AWS CLI reads AWS_REGION since version 2, and AWS_DEFAULT_REGION before.
	fmt.Fprintf(&b, "  export AWS_ENDPOINT_URL=%s AWS_REGION=%s AWS_DEFAULT_REGION=%s\n", s.Endpoint, s.Region, s.Region)
	fmt.Fprintf(&b, "  export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s\n\n", devmode.AccessKeyID, devmode.SecretAccessKey)
	alias := s.Keys[0].Alias
	for _, k := range s.Keys {
		if k.Alias == "alias/dev-hsm" {
			alias = k.Alias
		}
	}
	// Files, since the versions of the AWS CLI differ in how they read binary arguments.
	fmt.Fprintf(&b, "  echo hello > plain\n")
	fmt.Fprintf(&b, "  aws kms encrypt --key-id %s --plaintext fileb://plain --query CiphertextBlob --output text | base64 -d > sealed\n", alias)
	fmt.Fprintf(&b, "  aws kms decrypt --ciphertext-blob fileb://sealed --query Plaintext --output text | base64 -d\n\n")
	if s.Ephemeral {
		fmt.Fprintf(&b, "everything is gone when this ends; --data DIR keeps it. Ctrl-C ends it\n")
	} else {
		fmt.Fprintf(&b, "everything is kept in %s. Ctrl-C ends this\n", s.Directory)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// listStores lists the key stores and keys, and what to do about a store that is not connected.
func listStores(w io.Writer, s *devmode.Server) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, store := range s.Stores {
		note := ""
		if store.State != string(kmsapi.Connected) {
			note = strings.TrimSpace(store.ErrorCode + " `kastellan key-store explain " + store.ID + "` says why")
		}
		fmt.Fprintf(table, "  key store\t%s\t%s\t%s\t%s\n", store.Name, store.ID, store.State, note)
	}
	for _, key := range s.Keys {
		fmt.Fprintf(table, "  key\t%s\t%s\t\t\n", key.Alias, key.ID)
	}
	_ = table.Flush() // to a strings.Builder
}
