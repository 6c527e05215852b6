package main

import (
	"errors"
	"os"

	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// clientFlags say which endpoint to call; the AWS CLI reads the same variables.
type clientFlags struct {
	EndpointURL string `name:"endpoint-url" env:"AWS_ENDPOINT_URL_KMS,AWS_ENDPOINT_URL" default:"http://127.0.0.1:4599" help:"The server's URL."`
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
	return kmsclient.New(f.EndpointURL, f.Region, credentials), nil
}
