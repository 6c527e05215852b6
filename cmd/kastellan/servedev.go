package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"text/tabwriter"

	"kastellan.dev/internal/devmode"
	"kastellan.dev/internal/kmsapi"
)

// serveDev serves for development until it is told to stop.
func (c *serveCmd) serveDev(ctx context.Context, term terminal) error {
	log := slog.New(slog.NewTextHandler(term.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := devmode.Start(ctx, devmode.Config{Directory: c.Data, Listen: c.Listen, Region: c.Region, Logger: log})
	if errors.Is(err, syscall.EADDRINUSE) {
		return withHint(fmt.Errorf("starting the development server: %w", err),
			"another program listens there, perhaps another development server; --listen 127.0.0.1:PORT takes another port (make run ARGS=\"--listen …\")")
	}
	if err != nil && ctx.Err() != nil { // Ctrl-C; what it broke off is no news
		return errors.New("the development server was told to end before it was ready")
	}
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
	fmt.Fprintf(&b, "kastellan serves the KMS, STS and CloudHSM APIs on %s (ready after %s)\n\n", s.Endpoint, round(s.Took))
	listStores(&b, s)
	for _, line := range s.LeftOut {
		fmt.Fprintln(&b, line)
	}
	b.WriteByte('\n')
	fmt.Fprintf(&b, "paste this into another shell:\n\n")
	// The AWS CLI reads AWS_REGION since version 2, and AWS_DEFAULT_REGION before.
	fmt.Fprintf(&b, "  export AWS_ENDPOINT_URL=%s AWS_REGION=%s AWS_DEFAULT_REGION=%s\n", s.Endpoint, s.Region, s.Region)
	fmt.Fprintf(&b, "  export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s\n\n", devmode.AccessKeyID, devmode.SecretAccessKey)
	// Files, since the versions of the AWS CLI differ in how they read binary arguments; the
	// endpoint as a flag, since those before 1.29 and 2.13, Debian's among them, do not read the
	// variable and would call AWS.
	const aws = "  aws --endpoint-url $AWS_ENDPOINT_URL kms"
	fmt.Fprintf(&b, "  echo hello > plain\n")
	fmt.Fprintf(&b, "%s encrypt --key-id %s --plaintext fileb://plain --query CiphertextBlob --output text | base64 -d > sealed\n", aws, firstKey(s.Keys))
	fmt.Fprintf(&b, "%s decrypt --ciphertext-blob fileb://sealed --query Plaintext --output text | base64 -d\n", aws)
	fmt.Fprintf(&b, "  aws --endpoint-url $AWS_ENDPOINT_URL sts assume-role --role-arn %s --role-session-name me\n\n", devmode.Role)
	if s.Ephemeral {
		fmt.Fprintf(&b, "everything is gone when this ends; --data DIR keeps it (make run ARGS=\"--data DIR\"). Ctrl-C ends it\n")
	} else {
		fmt.Fprintf(&b, "everything is kept in %s. Ctrl-C ends this\n", s.Directory)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// firstKey is the key that the lines to paste use: the one in the HSMs, if there is one.
func firstKey(keys []devmode.Key) string {
	alias := "alias/dev"
	for _, k := range keys {
		if k.Alias == "alias/dev-hsm" {
			alias = k.Alias
		}
	}
	return alias
}

// listStores lists the key stores and keys, and what to do about a store that is not connected.
func listStores(w io.Writer, s *devmode.Server) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, store := range s.Stores {
		note := ""
		if store.State != string(kmsapi.Connected) {
			note = "  " + strings.TrimSpace(store.ErrorCode+" `kastellan key-store explain "+store.ID+"` says why")
		}
		fmt.Fprintf(table, "  key store\t%s\t%s\t%s%s\n", store.Name, store.ID, store.State, note)
	}
	for _, key := range s.Keys {
		fmt.Fprintf(table, "  key\t%s\t%s\n", key.Alias, key.ID)
	}
	if len(s.Subnets) > 0 {
		fmt.Fprintf(table, "  subnets\tof HSM clusters\t%s\n", strings.Join(s.Subnets, " "))
	}
	_ = table.Flush() // to a strings.Builder
}
