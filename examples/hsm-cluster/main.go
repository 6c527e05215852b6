// Command hsm-cluster goes from nothing to an encrypted byte in an HSM cluster of its own with the official SDK for Go: it
// makes a cluster, signs its certificate as a CA that it makes too, gives it two HSMs and a kmsuser, connects a key store to it,
// and encrypts under a key in the HSMs. docs/hsm-clusters.md does the same on the command line.
//
// It takes its subnets, in two availability zones, as arguments, and the rest from the variables that `kastellan serve --dev` prints:
//
//	go run ./examples/hsm-cluster subnet-0000de0a subnet-0000de0b
//
// What it makes stays; the passwords and the CA's key, which are forgotten, would be kept in earnest.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2"
	hsmtypes "github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := aws.Config{
		BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL")),
		Region:       os.Getenv("AWS_REGION"),
		Credentials:  credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	}
	if err := run(ctx, cfg, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hsm-cluster:", err)
		os.Exit(1)
	}
}

// owner is who makes a cluster and uses it.
type owner struct {
	cfg     aws.Config
	hsm     *cloudhsmv2.Client
	kms     *kms.Client
	cluster string // its id
}

func run(ctx context.Context, cfg aws.Config, subnets []string, out io.Writer) error {
	o := &owner{cfg: cfg, hsm: cloudhsmv2.NewFromConfig(cfg), kms: kms.NewFromConfig(cfg)}
	if err := o.createCluster(ctx, subnets); err != nil {
		return fmt.Errorf("creating a cluster: %w", err)
	}
	fmt.Fprintln(out, "made", o.cluster)
	anchor, err := o.initialize(ctx)
	if err != nil {
		return fmt.Errorf("initializing %s: %w", o.cluster, err)
	}
	if err := o.createHSM(ctx, 1); err != nil {
		return fmt.Errorf("creating a second HSM: %w", err)
	}
	password := rand.Text()
	if err := o.addUsers(ctx, rand.Text(), password); err != nil {
		return fmt.Errorf("adding users: %w", err)
	}
	store, err := o.connect(ctx, anchor, password)
	if err != nil {
		return fmt.Errorf("connecting a key store: %w", err)
	}
	fmt.Fprintln(out, "connected", store)
	return o.encrypt(ctx, store, out)
}

// createCluster makes a cluster and its first HSM.
func (o *owner) createCluster(ctx context.Context, subnets []string) error {
	made, err := o.hsm.CreateCluster(ctx, &cloudhsmv2.CreateClusterInput{HsmType: aws.String("hsm2m.medium"), SubnetIds: subnets})
	if err != nil {
		return err
	}
	o.cluster = *made.Cluster.ClusterId
	if err := o.await(ctx, func(c *hsmtypes.Cluster) bool { return c.State == hsmtypes.ClusterStateUninitialized }); err != nil {
		return err
	}
	return o.createHSM(ctx, 0)
}

// createHSM makes an HSM in the n-th of the cluster's availability zones, and waits until it is active.
func (o *owner) createHSM(ctx context.Context, n int) error {
	c, err := o.describe(ctx)
	if err != nil {
		return err
	}
	zones := zonesOf(c)
	if n >= len(zones) {
		return fmt.Errorf("it takes subnets in %d availability zones", n+1)
	}
	made, err := o.hsm.CreateHsm(ctx, &cloudhsmv2.CreateHsmInput{ClusterId: &o.cluster, AvailabilityZone: &zones[n]})
	if err != nil {
		return err
	}
	return o.await(ctx, func(c *hsmtypes.Cluster) bool {
		for _, h := range c.Hsms {
			if *h.HsmId == *made.Hsm.HsmId {
				return h.State == hsmtypes.HsmStateActive
			}
		}
		return false
	})
}

// initialize signs the cluster's certificate, and gives that of the CA: the trust anchor.
func (o *owner) initialize(ctx context.Context) (anchor string, err error) {
	c, err := o.describe(ctx)
	if err != nil {
		return "", err
	}
	signed, anchor, err := sign(aws.ToString(c.Certificates.ClusterCsr))
	if err != nil {
		return "", err
	}
	_, err = o.hsm.InitializeCluster(ctx, &cloudhsmv2.InitializeClusterInput{ClusterId: &o.cluster, SignedCert: &signed, TrustAnchor: &anchor})
	if err != nil {
		return "", err
	}
	return anchor, o.await(ctx, func(c *hsmtypes.Cluster) bool { return c.State == hsmtypes.ClusterStateInitialized })
}

// addUsers activates the cluster and makes the kmsuser. AWS's API ends before that.
func (o *owner) addUsers(ctx context.Context, admin, kmsuser string) error {
	if _, err := o.atHSM(ctx, "ActivateCluster", map[string]string{"ClusterId": o.cluster, "Password": admin}); err != nil {
		return err
	}
	session, err := o.atHSM(ctx, "Login", map[string]string{"ClusterId": o.cluster, "UserName": "admin", "Password": admin})
	if err != nil {
		return err
	}
	id, _ := session["SessionId"].(string)
	_, err = o.atHSM(ctx, "CreateUser", map[string]string{"SessionId": id, "UserName": "kmsuser", "Role": "crypto-user", "Password": kmsuser})
	if err != nil {
		return err
	}
	_, err = o.atHSM(ctx, "Logout", map[string]string{"SessionId": id})
	return err
}

// connect makes a key store on the cluster and connects it.
func (o *owner) connect(ctx context.Context, anchor, password string) (store string, err error) {
	made, err := o.kms.CreateCustomKeyStore(ctx, &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("on " + o.cluster), CloudHsmClusterId: &o.cluster, TrustAnchorCertificate: &anchor, KeyStorePassword: &password,
	})
	if err != nil {
		return "", err
	}
	store = *made.CustomKeyStoreId
	if _, err := o.kms.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &store}); err != nil {
		return "", err
	}
	return store, until(ctx, func() (bool, error) {
		found, err := o.kms.DescribeCustomKeyStores(ctx, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &store})
		if err != nil {
			return false, err
		}
		s := found.CustomKeyStores[0]
		if s.ConnectionState == kmstypes.ConnectionStateTypeFailed {
			return false, fmt.Errorf("%s: %s", store, s.ConnectionErrorCode)
		}
		return s.ConnectionState == kmstypes.ConnectionStateTypeConnected, nil
	})
}

// encrypt makes a key, encrypts a byte under it and gets it back.
func (o *owner) encrypt(ctx context.Context, store string, out io.Writer) error {
	key, err := o.kms.CreateKey(ctx, &kms.CreateKeyInput{Origin: kmstypes.OriginTypeAwsCloudhsm, CustomKeyStoreId: &store})
	if err != nil {
		return fmt.Errorf("creating a key: %w", err)
	}
	sealed, err := o.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")})
	if err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	opened, err := o.kms.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil {
		return fmt.Errorf("decrypting: %w", err)
	}
	if string(opened.Plaintext) != "x" {
		return errors.New("what was decrypted is not what was encrypted")
	}
	fmt.Fprintf(out, "encrypted a byte under %s, and got it back\n", *key.KeyMetadata.Arn)
	return nil
}

func (o *owner) describe(ctx context.Context) (*hsmtypes.Cluster, error) {
	found, err := o.hsm.DescribeClusters(ctx, &cloudhsmv2.DescribeClustersInput{Filters: map[string][]string{"clusterIds": {o.cluster}}})
	if err != nil {
		return nil, err
	}
	if len(found.Clusters) == 0 {
		return nil, fmt.Errorf("there is no cluster %s", o.cluster)
	}
	return &found.Clusters[0], nil
}

// await waits until the cluster is as it should be.
func (o *owner) await(ctx context.Context, is func(*hsmtypes.Cluster) bool) error {
	return until(ctx, func() (bool, error) {
		c, err := o.describe(ctx)
		return err == nil && is(c), err
	})
}

// until asks again and again, until the answer is yes or fails.
func until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
