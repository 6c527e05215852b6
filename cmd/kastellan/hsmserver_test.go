package main

import (
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/rogpeppe/go-internal/testscript"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// TestHSMCommandsAtAServer runs each script of the commands of clusters against a server of its own with a cluster that is
// initialized and has an HSM: $CLUSTER.
func TestHSMCommandsAtAServer(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/hsmserver/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			t.Parallel()
			b := hsmBench{Server: kastellantest.Start(t, kastellantest.WithPools(t, "ab")), t: t}
			b.cluster = b.NewCluster("ab")
			b.HSM(b.cluster, "a")
			b.anchor = b.Initialize(b.cluster)
			testscript.Run(t, testscript.Params{
				Files: []string{script}, RequireExplicitExec: true, Setup: b.setup,
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"await": await, "keystore": b.keyStore, "connect": b.connect, "disconnect": b.disconnect, "key": b.key, "hsm": b.hsm,
				},
			})
		})
	}
}

// hsmBench is a server whose user owns a cluster.
type hsmBench struct {
	*kastellantest.Server
	t               *testing.T
	cluster, anchor string
}

func (b hsmBench) setup(env *testscript.Env) error {
	id, text := kastellantest.Credentials(kastellantest.Admin)
	env.Setenv("AWS_ENDPOINT_URL", b.Endpoint)
	env.Setenv("AWS_REGION", kastellantest.Region)
	env.Setenv("AWS_ACCESS_KEY_ID", id)
	env.Setenv("AWS_SECRET_ACCESS_KEY", text)
	env.Setenv("CLUSTER", b.cluster)
	return nil
}

// keyStore creates a key store on the cluster: keystore VARIABLE PASSWORD, of the kmsuser.
func (b hsmBench) keyStore(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keystore VARIABLE PASSWORD")
	}
	in := (&kastellantest.Managed{ID: b.cluster, Anchor: b.anchor, Password: args[1]}).CreateInput("store")
	out, err := b.Client(kastellantest.Admin).CreateCustomKeyStore(b.t.Context(), in)
	ts.Check(err)
	ts.Setenv(args[0], *out.CustomKeyStoreId)
}

// connect connects a key store and waits for what comes of it: connect STORE STATE [CODE].
func (b hsmBench) connect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: connect STORE STATE [CODE]")
	}
	_, err := b.Client(kastellantest.Admin).ConnectCustomKeyStore(b.t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &args[0]})
	ts.Check(err)
	store := b.settled(args[0], types.ConnectionStateTypeConnecting)
	if string(store.ConnectionState) != args[1] || len(args) == 3 && string(store.ConnectionErrorCode) != args[2] {
		ts.Fatalf("the key store is %s %s", store.ConnectionState, store.ConnectionErrorCode)
	}
}

// disconnect disconnects a key store: disconnect STORE.
func (b hsmBench) disconnect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: disconnect STORE")
	}
	_, err := b.Client(kastellantest.Admin).DisconnectCustomKeyStore(b.t.Context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &args[0]})
	ts.Check(err)
	if store := b.settled(args[0], types.ConnectionStateTypeDisconnecting); store.ConnectionState != types.ConnectionStateTypeDisconnected {
		ts.Fatalf("the key store is %s", store.ConnectionState)
	}
}

// settled waits until a key store is in another state.
func (b hsmBench) settled(store string, than types.ConnectionStateType) (found types.CustomKeyStoresListEntry) {
	polltest.Until(b.t, "the key store not to be "+string(than), func() bool {
		found = b.Describe(store)
		return found.ConnectionState != than
	})
	return found
}

// key makes a key in a key store: key STORE.
func (b hsmBench) key(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: key STORE")
	}
	in := &awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: aws.String(args[0])}
	_, err := b.Client(kastellantest.Admin).CreateKey(b.t.Context(), in)
	ts.Check(err)
}

// hsm gives the cluster another HSM: hsm ZONE-LETTER.
func (b hsmBench) hsm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hsm ZONE-LETTER")
	}
	b.HSM(b.cluster, args[0])
}
