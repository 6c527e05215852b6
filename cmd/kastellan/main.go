// Kastellan is a key management service that speaks the AWS KMS API and keeps
// the keys in key stores that its users own.
//
// This package is the program's surface: a file for each subcommand, which turns
// flags into a configuration and prints what came of it. What the
// program does lives in the packages under internal.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"kastellan.dev/internal/pkcs11"
)

// cli is the grammar of the command line.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Serve the KMS API."`
	XksProxy xksProxyCmd `cmd:"" help:"Be, or test, an XKS proxy."`
	KeyStore keyStoreCmd `cmd:"" help:"Look at custom key stores."`
	HSM      hsmCmd      `cmd:"" name:"hsm" help:"Manage the users of HSM clusters, look at their keys, and try HSMs."`
	RootKey  rootKeyCmd  `cmd:"" help:"Make and replace root keys."`
	Config   configCmd   `cmd:"" help:"Check configuration files."`
	Audit    auditCmd    `cmd:"" help:"Verify and read audit logs."`
	Version  versionCmd  `cmd:"" help:"Print the version of the program."`
}

// terminal is where a subcommand prints, and what it is told there.
type terminal struct {
	out io.Writer // what was asked for
	err io.Writer // everything else
	in  io.Reader // nil: nobody answers
}

func main() {
	pkcs11.WorkerMain()
	os.Exit(run(os.Args[1:], terminal{out: os.Stdout, err: os.Stderr, in: os.Stdin}))
}

// run is the program; it returns the exit status.
func run(args []string, term terminal) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	status := -1 // set when kong ends the program by itself, for --help
	parser := kong.Must(&cli{},
		kong.Name("kastellan"),
		kong.Description("A key management service that speaks the AWS KMS API."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(term.out, term.err),
		kong.Exit(func(code int) { status = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(term),
	)
	parsed, err := parser.Parse(args)
	if status >= 0 {
		return status
	}
	if err != nil {
		complain(term.err, withHint(err, "`kastellan --help` lists the commands"))
		return statusUsage
	}
	err = parsed.Run()
	var verdict exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &verdict):
		return int(verdict)
	default:
		complain(term.err, err)
		return statusFailed
	}
}
