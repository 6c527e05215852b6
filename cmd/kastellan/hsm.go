package main

import (
	"context"
	"fmt"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsclient"
)

type hsmCmd struct {
	Activate hsmActivateCmd `cmd:"" help:"Give the admin of an initialized cluster its first password, which activates the cluster."`
	User     hsmUserCmd     `cmd:"" help:"Manage the users of a cluster, as one of its admins."`
	Keys     hsmKeysCmd     `cmd:"" help:"Look at the keys of a cluster, as one of its crypto users."`
	Shell    hsmShellCmd    `cmd:"" help:"Log in to a cluster and give commands one by one."`
	Probe    hsmProbeCmd    `cmd:"" help:"Find out what can be done with a PKCS#11 module and a token of it. The exit status is 1 if the token cannot be used."`
}

// hsmFlags say which cluster.
type hsmFlags struct {
	clientFlags
	ClusterID string `required:"" help:"The cluster's id." placeholder:"CLUSTER-ID"`
}

// hsmClient signs for the service that clusters belong to.
func (f hsmFlags) hsmClient() (*kmsclient.Client, error) {
	client, err := f.client()
	if err != nil {
		return nil, err
	}
	return client.For(cloudhsmapi.Service), nil
}

type hsmActivateCmd struct {
	hsmFlags
	PasswordFile string `help:"The file of the admin's password; without it, the variable KASTELLAN_HSM_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
	JSON         bool   `name:"json" help:"Print the server's answer as JSON."`
}

// Run activates the cluster.
func (c *hsmActivateCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.hsmClient()
	if err != nil {
		return err
	}
	password, err := passwordSource{file: c.PasswordFile, env: hsmPasswordEnv, flag: "--password-file", of: "admin", fresh: true}.read(ctx, term)
	if err != nil {
		return err
	}
	in := cloudhsmapi.ActivateClusterRequest{ClusterID: c.ClusterID, Password: password}
	answer, err := hsmCall[cloudhsmapi.ActivateClusterResponse](ctx, client, "ActivateCluster", in)
	if err != nil {
		return fmt.Errorf("activating %s: %w", c.ClusterID, err)
	}
	if c.JSON {
		return writeJSON(term.out, answer)
	}
	_, err = fmt.Fprintf(term.out, "%s is %s; `kastellan hsm user create` makes more users\n", c.ClusterID, answer.State)
	return err
}
