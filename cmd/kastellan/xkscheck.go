package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/xksproxy/check"
)

type xksCheckCmd struct {
	URL     string `arg:"" help:"The proxy: https://host[:port][/prefix]."`
	Address string `help:"Dial this instead of the URL's host and port." placeholder:"HOST:PORT"`
	Region  string `default:"us-east-1" help:"The Region to sign for."`

	AccessKeyID string `required:"" env:"XKS_ACCESS_KEY_ID" help:"The access key id to sign with." placeholder:"ID"`
	SecretFile  string `help:"The file of its secret; without it, the variable XKS_SECRET_ACCESS_KEY." placeholder:"FILE" type:"existingfile"`

	CA                string `name:"ca" help:"The file of the CA that issued the proxy's certificate (PEM)." placeholder:"FILE" type:"existingfile"`
	ClientCertificate string `help:"A client certificate (PEM), for a proxy that asks for one." placeholder:"FILE" type:"existingfile" and:"client"`
	ClientKey         string `help:"Its key (PEM)." placeholder:"FILE" type:"existingfile" and:"client"`

	Key            string `required:"" help:"An enabled key that may encrypt and decrypt; the check uses it." placeholder:"ID"`
	DisabledKey    string `help:"A disabled key." placeholder:"ID"`
	EncryptOnlyKey string `help:"A key that may only encrypt." placeholder:"ID"`
	DecryptOnlyKey string `help:"A key that may only decrypt." placeholder:"ID"`
	ImpotentKey    string `help:"A key that may do neither." placeholder:"ID"`
	DeniedKey      string `help:"A key that the proxy's own rules deny." placeholder:"ID"`
	UnknownKey     string `help:"A key that does not exist, where the made-up one would not do." placeholder:"ID"`

	SecondAccessKeyID string `help:"Another credential of the same store." placeholder:"ID" and:"second"`
	SecondSecretFile  string `help:"The file of its secret." placeholder:"FILE" type:"existingfile" and:"second"`

	Principal string `help:"The awsPrincipalArn to send, for a proxy whose rules look at it." placeholder:"ARN"`
	KMSKeyARN string `name:"kms-key-arn" help:"The kmsKeyArn to send, likewise." placeholder:"ARN"`

	Calls       int           `default:"200" help:"How many calls measure the latency."`
	Concurrency int           `default:"32" help:"How many calls at once make the burst."`
	Timeout     time.Duration `default:"5s" help:"How long one call may take; AWS KMS waits 250ms."`
	JSON        bool          `name:"json" help:"Print the report as JSON."`
}

// Run checks the proxy and prints the report.
func (c *xksCheckCmd) Run(ctx context.Context, term terminal) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	report, err := check.Run(ctx, options)
	if err != nil {
		return err
	}
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := write(term.out); err != nil {
		return err
	}
	if !report.OK() {
		return exitStatus(report.ExitStatus())
	}
	return nil
}

func (c *xksCheckCmd) options() (check.Options, error) {
	o := check.Options{
		URL: c.URL, Address: c.Address, Region: c.Region, AccessKeyID: c.AccessKeyID,
		KeyID: c.Key, DisabledKeyID: c.DisabledKey, EncryptOnlyKeyID: c.EncryptOnlyKey,
		DecryptOnlyKeyID: c.DecryptOnlyKey, ImpotentKeyID: c.ImpotentKey, DeniedKeyID: c.DeniedKey, UnknownKeyID: c.UnknownKey,
		SecondAccessKeyID: c.SecondAccessKeyID, Principal: c.Principal, KMSKeyARN: c.KMSKeyARN,
		Calls: c.Calls, Concurrency: c.Concurrency, Timeout: c.Timeout,
	}
	var err error
	if o.Secret, err = c.secret(); err != nil {
		return o, err
	}
	if c.SecondSecretFile != "" {
		text, err := os.ReadFile(c.SecondSecretFile)
		if err != nil {
			return o, err
		}
		o.SecondSecret = secret.NewText(strings.TrimSpace(string(text)))
	}
	if c.CA != "" {
		if o.CA, err = readCAs(c.CA); err != nil {
			return o, err
		}
	}
	if c.ClientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCertificate, c.ClientKey)
		if err != nil {
			return o, fmt.Errorf("reading the client certificate: %w", err)
		}
		o.ClientCert = &pair
	}
	return o, nil
}

func (c *xksCheckCmd) secret() (secret.Text, error) {
	value := os.Getenv("XKS_SECRET_ACCESS_KEY")
	if c.SecretFile != "" {
		text, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return secret.Text{}, err
		}
		value = strings.TrimSpace(string(text))
	}
	if value == "" {
		return secret.Text{}, withHint(errors.New("no secret to sign with"), "set XKS_SECRET_ACCESS_KEY, or give --secret-file")
	}
	return secret.NewText(value), nil
}
