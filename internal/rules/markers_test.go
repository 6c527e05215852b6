package rules_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/keystore/xks/xkstest"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/tracing/tracingtest"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	os.Exit(m.Run())
}

// forms are ways in which bytes may be written down, each cut so that it is
// found whatever stands around it.
func forms(secret []byte) map[string][]byte {
	all := map[string][]byte{
		"as they are":    secret,
		"in hexadecimal": []byte(hex.EncodeToString(secret)),
		"as numbers":     []byte(strings.Trim(fmt.Sprint(secret), "[]")),
	}
	for skip := range 3 { // bytes in front move the groups of base64
		if part := secret[skip:]; len(part) >= 6 { // less would be found by chance
			all[fmt.Sprintf("in base64, from byte %d", skip)] = []byte(base64.RawStdEncoding.EncodeToString(part[:len(part)/3*3]))
		}
	}
	return all
}

// shows gives the forms of a secret that are in a text.
func shows(text, secret []byte) (found []string) {
	lower := bytes.ToLower(text)
	for name, form := range forms(secret) {
		if bytes.Contains(text, form) || name == "in hexadecimal" && bytes.Contains(lower, form) {
			found = append(found, name)
		}
	}
	return found
}

func TestSecretsAreFoundInEveryForm(t *testing.T) {
	t.Parallel()
	secret := []byte("a secret?>of many letters")
	for name, text := range map[string]string{
		"as it is":                      "x a secret?>of many letters y",
		"quoted":                        fmt.Sprintf("%q", secret),
		"bytes":                         fmt.Sprintf("%v", secret),
		"hexadecimal":                   fmt.Sprintf("%x", secret),
		"hexadecimal in capitals":       fmt.Sprintf("%X", secret),
		"base64":                        base64.StdEncoding.EncodeToString(secret),
		"base64 behind a byte":          base64.StdEncoding.EncodeToString(append([]byte("1"), secret...)),
		"base64 behind two, and others": base64.StdEncoding.EncodeToString([]byte("12" + string(secret) + "345")),
	} {
		if len(shows([]byte(text), secret)) == 0 {
			t.Errorf("%s: it is not found in %s", name, text)
		}
	}
	if found := shows([]byte("x a secret y 61 20 73"), secret); len(found) > 0 {
		t.Errorf("found %q where it is not", found)
	}
}

// output collects what a server logs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.text.Bytes())
}

// run is a server with the secrets that it was told or made, and what it said.
type run struct {
	*kastellantest.Server
	t       *testing.T
	client  *awskms.Client
	secrets map[string][]byte
	said    map[string][]byte
	log     *output
	traces  *tracingtest.Collector
}

func TestSecretsReachNoLogNoRecordNoMessageAndNoDisk(t *testing.T) {
	t.Parallel()
	t.Run("soft and external key stores", func(t *testing.T) {
		t.Parallel()
		proxy := xkstest.New(t, xkstest.Options{})
		proxy.AddKey("external-key")
		r := newRun(t, kastellantest.Options{External: config.ExternalKeyStores{Hosts: []config.Host{kastellantest.Host(t, proxy)}}})
		r.keep("the proxy's secret access key", []byte(proxy.Secret.Reveal()))
		id := r.KeyStore(kastellantest.ProxyInput(proxy, "external"))
		r.use(*r.Key(&awskms.CreateKeyInput{}).KeyId)
		r.use(*r.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: &id, XksKeyId: aws.String("external-key")}).KeyId)

		wrong := kastellantest.ProxyInput(proxy, "wrong").XksProxyAuthenticationCredential
		wrong.RawSecretAccessKey = aws.String(r.keep("a wrong secret access key", []byte("AWrongSecretAccessKeyOfForty+SixLetters/AndMore")))
		_, err := r.client.UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &id, XksProxyAuthenticationCredential: wrong})
		r.refused("a wrong credential", err)
		r.search()
	})
	t.Run("HSM key stores", func(t *testing.T) {
		t.Parallel()
		cluster := kastellantest.NewCluster(t, "cluster-markers2222", 2)
		r := newRun(t, kastellantest.Options{Clusters: []*kastellantest.Cluster{cluster}})
		r.keep("the password", []byte(cluster.Password))
		id := r.KeyStore(cluster.CreateInput("hsm"))
		r.use(*r.Key(&awskms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: &id}).KeyId)
		r.Disconnect(id)

		wrong := r.keep("a wrong password", []byte("wrong-password-of-32-letters-xyz"))
		if _, err := r.client.UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &id, KeyStorePassword: &wrong}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &id}); err != nil {
			t.Fatal(err)
		}
		for settled := false; !settled; {
			state := r.Describe(id).ConnectionState
			settled = state == types.ConnectionStateTypeFailed || state == types.ConnectionStateTypeConnected
		}
		r.said["the evidence"] = []byte(r.Explain(id).Evidence)
		r.search()
	})
}

func newRun(t *testing.T, o kastellantest.Options) *run {
	t.Helper()
	r := &run{t: t, secrets: make(map[string][]byte), said: make(map[string][]byte), log: new(output), traces: tracingtest.New(t)}
	o.Config = func(cfg *config.Config) { cfg.Tracing = config.Tracing{Endpoint: r.traces.URL, CA: r.traces.CAFile} }
	o.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Server = kastellantest.Start(t, o)
	r.client = r.Client(kastellantest.Admin)
	_, text := kastellantest.Credentials(kastellantest.Admin)
	r.keep("the administrator's secret access key", []byte(text))
	root, err := os.ReadFile(r.Config.RootKey.File)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(root)))
	if err != nil {
		t.Fatal(err)
	}
	r.keep("the root key", key)
	return r
}

// keep remembers a secret.
func (r *run) keep(name string, secret []byte) string {
	r.secrets[name] = bytes.Clone(secret)
	return string(secret)
}

func (r *run) refused(what string, err error) {
	r.t.Helper()
	if err == nil {
		r.t.Fatalf("%s is taken", what)
	}
	r.said["the refusal of "+what] = []byte(err.Error())
}

// use lets a key work, and lets it refuse.
func (r *run) use(key string) {
	r.t.Helper()
	ctx := r.t.Context()
	plaintext := []byte(r.keep("a plaintext", []byte("a plaintext that nobody else may see")))
	sealed, err := r.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: plaintext})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
		r.t.Fatal(err)
	}
	data, err := r.client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		r.t.Fatal(err)
	}
	r.keep("a data key of "+key, data.Plaintext)
	random, err := r.client.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.keep("random bytes", random.Plaintext)

	_, err = r.client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"another": "context"}})
	r.refused("another context", err)
	long := bytes.Repeat(plaintext, 200)
	_, err = r.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: long})
	r.refused("a plaintext that is too long", err)
	_, err = r.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String("alias/none"), Plaintext: plaintext})
	r.refused("a key that does not exist", err)
	short := "pw-?>1"
	r.keep("a password that is too short", []byte(short))
	_, err = r.client.CreateCustomKeyStore(ctx, &awskms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("x"), KeyStorePassword: &short})
	r.refused("a password that is too short", err)
	r.said["the refusal of what is not JSON"] = r.post(fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q`, key, plaintext))
	r.said["the refusal of what is not base64"] = r.post(fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q}`, key, plaintext))
}

// post sends a body that no SDK sends.
func (r *run) post(body string) []byte {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.Endpoint, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "TrentService.Encrypt")
	return r.do(req)
}

func (r *run) do(req *http.Request) []byte {
	r.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// search looks for every secret in all that the server has said and stored.
func (r *run) search() {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.Endpoint+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.said["the metrics"] = r.do(req)
	r.Stop()
	r.said["the log"] = r.log.bytes()
	r.said["the traces"] = bytes.Join(r.traces.Bodies(), nil)
	err = filepath.WalkDir(r.Directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		r.said[filepath.Base(path)] = text
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for what, sign := range map[string]string{"the log": "TrentService.Encrypt", "audit.jsonl": `"Encrypt"`, "the metrics": "kastellan_", "the traces": "key store Encrypt", "kastellan.db": kastellantest.Account} {
		if !bytes.Contains(r.said[what], []byte(sign)) {
			r.t.Errorf("%s does not have %q in it: it is not what is meant", what, sign)
		}
	}
	for what, text := range r.said {
		for name, secret := range r.secrets {
			if found := shows(text, secret); len(found) > 0 {
				r.t.Errorf("%s shows %s %q", what, name, found)
			}
		}
	}
}
