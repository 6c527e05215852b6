package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// clientFlags say which endpoint to call; the AWS CLI reads the same variables.
type clientFlags struct {
	EndpointURL string `name:"endpoint-url" env:"AWS_ENDPOINT_URL_KMS,AWS_ENDPOINT_URL" default:"http://127.0.0.1:4599" help:"The server's URL."`
	CA          string `name:"ca" env:"AWS_CA_BUNDLE" help:"The file of the CAs that the server's certificate may come from (PEM); without it, the system's." placeholder:"FILE" type:"existingfile"`
	Region      string `env:"AWS_REGION,AWS_DEFAULT_REGION" default:"us-east-1" help:"The Region."`
}

// client takes the credentials from the environment.
func (f clientFlags) client() (*kmsclient.Client, error) {
	credentials := sigv4.Credentials{
		AccessKeyID:  os.Getenv("AWS_ACCESS_KEY_ID"),
		Secret:       secret.NewText(os.Getenv("AWS_SECRET_ACCESS_KEY")),
		SessionToken: secret.NewText(os.Getenv("AWS_SESSION_TOKEN")),
	}
	if credentials.AccessKeyID == "" || credentials.Secret.IsEmpty() {
		return nil, withHint(errors.New("no credentials"), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	client := kmsclient.New(f.EndpointURL, f.Region, credentials)
	if f.CA != "" {
		cas, err := readCAs(f.CA)
		if err != nil {
			return nil, err
		}
		client.Trust(cas)
	}
	return client, nil
}

// readCAs reads a bundle of CA certificates.
func readCAs(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return cas, nil
}
