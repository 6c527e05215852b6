package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/probe"
	"kastellan.dev/internal/secret"
)

// hsmPINEnv is the environment variable of the user's PIN.
const hsmPINEnv = "KASTELLAN_HSM_PIN"

type hsmProbeCmd struct {
	Module        string        `arg:"" help:"The vendor's PKCS#11 module, a shared library." type:"path"`
	Token         string        `help:"The token: a pkcs11: URI, a label or a slot's number. Not needed where there is only one." placeholder:"TOKEN"`
	PINFile       string        `name:"pin-file" help:"The file of the user's PIN; without it, the variable KASTELLAN_HSM_PIN." placeholder:"FILE" type:"existingfile"`
	UserPINFormat string        `name:"user-pin-format" enum:"password,user:password" default:"password" help:"What the PIN consists of: password, or user:password as AWS CloudHSM's module wants it."`
	SOPINFile     string        `name:"so-pin-file" help:"The file of the security officer's PIN: log in with it, and set CKA_TRUSTED." placeholder:"FILE" type:"existingfile"`
	Env           []string      `help:"An environment variable for the module; may be given several times." placeholder:"NAME=VALUE" sep:"none"`
	IV            []string      `name:"iv" enum:"caller,module,module-append,token-random" help:"A source of the IVs of AES-GCM to try; may be given several times. Without it, all are tried." placeholder:"SOURCE"`
	CallTimeout   time.Duration `help:"How long one call on the module may take, 5s unless told otherwise."`
	WrongPIN      bool          `name:"wrong-pin" help:"Send one wrong PIN and then the right one, to see what the token says."`
	ChangePIN     bool          `name:"change-pin" help:"Change the user's PIN and change it back: connecting a key store needs that to work."`
	JSON          bool          `name:"json" help:"Print the report as JSON."`
	Verbose       bool          `help:"Print what the module's process writes."`
}

// Run probes and prints the report.
func (c *hsmProbeCmd) Run(ctx context.Context, term terminal) error {
	options, err := c.options(term)
	if err != nil {
		return err
	}
	report, err := probe.Run(ctx, options)
	if errors.Is(err, probe.ErrWhichToken) {
		for _, token := range report.Tokens {
			err = errors.Join(err, errors.New("slot "+printable(token.String())))
		}
		return withHint(err, "choose one with --token: a label, a slot's number or a pkcs11: URI")
	}
	if report == nil || err != nil && ctx.Err() == nil {
		return err
	}
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := errors.Join(err, write(term.out)); err != nil {
		return err
	}
	if !report.OK() {
		return exitStatus(statusFailed)
	}
	return nil
}

func (c *hsmProbeCmd) options(term terminal) (probe.Options, error) {
	o := probe.Options{
		Module: c.Module, Token: c.Token, Env: c.Env, UserPIN: c.UserPINFormat != "password",
		WrongPIN: c.WrongPIN, SetPIN: c.ChangePIN, CallTimeout: c.CallTimeout,
		PIN: secret.NewText(os.Getenv(hsmPINEnv)),
	}
	if c.Verbose {
		o.Log = slog.New(slog.NewTextHandler(term.err, nil))
	}
	for _, source := range c.IV {
		if source == "caller" {
			source = string(pkcs11.IVByCaller)
		}
		o.IV = append(o.IV, pkcs11.IVSource(source))
	}
	var err error
	if c.PINFile != "" {
		if o.PIN, err = readPIN(c.PINFile); err != nil {
			return o, err
		}
	}
	if c.SOPINFile != "" {
		o.SOPIN, err = readPIN(c.SOPINFile)
	}
	return o, err
}

// readPIN reads the file of a PIN; white space around it is dropped.
func readPIN(path string) (secret.Text, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return secret.Text{}, err
	}
	pin := secret.NewText(strings.TrimSpace(string(text)))
	if pin.IsEmpty() {
		return pin, errors.New(path + " is empty")
	}
	return pin, nil
}
