package clusters_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudhsmv2/types"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/cloudhsm/control"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// traffic uses a key until it is stopped, and counts what was answered and what failed.
type traffic struct {
	answered, failed atomic.Int64
	last             atomic.Pointer[string]
	keys             []string // ARNs of those that were made meanwhile, and acknowledged
	stop             func()
}

// traffic uses the key, and makes keys, at most so many.
func (o *owned) traffic(sealed []byte, most int) *traffic {
	ctx, cancel := context.WithCancel(o.t.Context())
	tr, client := &traffic{}, o.Client(admin)
	failed := func(err error) {
		tr.failed.Add(1)
		text := err.Error()
		tr.last.Store(&text)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for len(tr.keys) < most && ctx.Err() == nil {
			out, err := client.CreateKey(ctx, &awskms.CreateKeyInput{Origin: kmstypes.OriginTypeAwsCloudhsm, CustomKeyStoreId: &o.store})
			var few *kmstypes.CloudHsmClusterInvalidConfigurationException
			var failure *kmstypes.KMSInternalException
			switch {
			case ctx.Err() != nil, errors.As(err, &few), errors.As(err, &failure): // a key takes two HSMs that are whole
			case err != nil:
				failed(fmt.Errorf("creating a key: %w", err))
			default:
				tr.keys = append(tr.keys, *out.KeyMetadata.Arn)
			}
		}
	})
	for range 2 {
		work.Go(func() {
			for ctx.Err() == nil {
				out, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
				if err == nil && string(out.Plaintext) == "a secret" {
					_, err = client.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &o.key, KeySpec: kmstypes.DataKeySpecAes256})
				}
				if err == nil {
					_, err = client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &o.key, Plaintext: []byte("another secret")})
				}
				switch {
				case ctx.Err() != nil, strings.Contains(fmt.Sprint(err), "ThrottlingException"):
				case err != nil:
					failed(err)
				default:
					tr.answered.Add(1)
				}
			}
		})
	}
	tr.stop = func() { cancel(); work.Wait() }
	return tr
}

// objects gives the files of the key objects of the token in a zone, the oldest first.
func (o *owned) objects(letter string) []string {
	o.t.Helper()
	found, err := filepath.Glob(filepath.Join(o.token(o.t, letter), "tokens", "*", "*.object"))
	o.must(err)
	found = slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == "token.object" })
	age := func(path string) time.Time {
		info, err := os.Stat(path)
		o.must(err)
		return info.ModTime()
	}
	slices.SortFunc(found, func(a, b string) int { return age(a).Compare(age(b)) })
	if len(found) < 2 {
		o.t.Fatalf("the token in %s has %d objects, want a cluster key and a key at least", letter, len(found))
	}
	return found
}

func (o *owned) remove(paths ...string) {
	o.t.Helper()
	for _, path := range paths { // the module may make a file in a directory that is being removed
		polltest.Until(o.t, path+" to be removed", func() bool { return os.RemoveAll(path) == nil })
	}
}

// TestAnHSMThatLosesSomethingGetsItBack does harm to one of two HSMs under traffic.
func TestAnHSMThatLosesSomethingGetsItBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lost bool // it turns DEGRADED
		harm func(o *owned)
		mend func(o *owned) // nil: it is replaced, or mended by what compares the HSMs
	}{
		{"its token is removed", true, func(o *owned) { o.remove(o.token(o.t, "b")) }, nil},
		{"its token is initialised again", true, func(o *owned) {
			dir := o.token(o.t, "b")
			cmd := exec.CommandContext(o.t.Context(), "softhsm2-util", "--init-token", "--free", "--label", o.HSMs[1], "--so-pin", "12345678", "--pin", "12345678")
			cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+filepath.Join(dir, "softhsm2.conf"))
			o.remove(filepath.Dir(o.objects("b")[0])) // who does not know the SO PIN makes it anew
			if out, err := cmd.CombinedOutput(); err != nil {
				o.t.Fatalf("softhsm2-util: %v\n%s", err, out)
			}
		}, nil},
		{"all its objects are removed", false, func(o *owned) { o.remove(o.objects("b")...) }, nil},
		{"its newest object is removed", false, func(o *owned) { o.remove(o.objects("b")[len(o.objects("b"))-1]) }, nil},
		{"its oldest object, the cluster key, is removed", false, func(o *owned) { o.remove(o.objects("b")[0]) }, nil},
		{"its module hangs", true, func(o *owned) { o.faults["b"].Set(o.t, "C_GetTokenInfo hang") }, func(o *owned) { o.faults["b"].Clear(o.t) }},
		{"its module crashes", true, func(o *owned) { o.faults["b"].Set(o.t, "C_GetTokenInfo crash", "C_DecryptInit crash") }, func(o *owned) { o.faults["b"].Clear(o.t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := &owned{t: t, arena: newArena(t, "ab", func(opt *kastellantest.Options) {
				if c.mend == nil {
					quick := opt.Control
					opt.Control = func(cfg *control.Config) { quick(cfg); cfg.Timing.ReplaceAfter = 300 * time.Millisecond }
				}
			})}
			o.Managed = o.Ready("ab")
			o.store = o.KeyStore(o.CreateInput("owned"))
			o.key = *o.Key(&awskms.CreateKeyInput{Origin: kmstypes.OriginTypeAwsCloudhsm, CustomKeyStoreId: &o.store}).Arn
			sealed, err := o.Client(admin).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &o.key, Plaintext: []byte("a secret")})
			o.must(err)
			keys := 0 // that are made meanwhile
			if c.lost {
				keys = 8
			}
			tr := o.traffic(sealed.CiphertextBlob, keys)
			defer tr.stop()
			before := len(o.objects("b"))
			c.harm(o)
			if c.lost && c.mend != nil {
				o.WaitHSM(o.ID, o.HSMs[1], types.HsmStateDegraded)
				if state := o.DescribeCluster(o.ID).State; state != types.ClusterStateDegraded {
					t.Errorf("with an HSM lost the cluster is %s", state)
				}
				c.mend(o)
			} else if c.lost {
				polltest.Until(t, "the HSM to be seen as lost", func() bool {
					return o.DescribeCluster(o.ID).Hsms[1].State != types.HsmStateActive
				})
			}
			o.WaitHSM(o.ID, o.HSMs[1], types.HsmStateActive)
			polltest.Until(t, "the one token in zone b to have all objects again", func() bool {
				found, _ := filepath.Glob(filepath.Join(o.Config.HSM.Pools[1].SoftHSM2.Directory, "token-*"))
				return len(found) == 1 && count(found[0]) >= before
			})
			if s := o.Describe(o.store).ConnectionState; s != kmstypes.ConnectionStateTypeConnected {
				t.Errorf("the key store is %s", s)
			}
			tr.stop()
			if n := tr.failed.Load(); n > 0 {
				t.Errorf("%d calls were answered and %d failed: %s", tr.answered.Load(), n, *tr.last.Load())
			}
			if tr.answered.Load() == 0 {
				t.Error("nothing was answered")
			}
			o.alone("b", sealed.CiphertextBlob, tr.keys...)
		})
	}
}

// count gives how many key objects a token has.
func count(token string) int {
	found, _ := filepath.Glob(filepath.Join(token, "tokens", "*", "*.object"))
	return len(found) - 1
}

// alone sees that the HSM in a zone does without the others, by having it do so for a while.
func (o *owned) alone(letter string, sealed []byte, keys ...string) {
	o.t.Helper()
	var last string
	defer func() {
		if o.t.Failed() {
			o.t.Log(fmt.Sprint("alone: ", last))
		}
	}()
	for other, f := range o.faults {
		if other != letter {
			f.Set(o.t, "C_DecryptInit rv=0x30", "C_EncryptInit rv=0x30")
			defer f.Clear(o.t)
		}
	}
	polltest.Until(o.t, "the HSM in "+letter+" to do alone", func() bool {
		out, err := o.Client(admin).Decrypt(o.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
		if err != nil {
			last = err.Error()
		}
		return err == nil && string(out.Plaintext) == "a secret"
	})
	for _, key := range keys {
		polltest.Until(o.t, "the HSM in "+letter+" to have "+key, func() bool {
			_, err := o.Client(admin).Encrypt(o.t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			return err == nil
		})
	}
}
