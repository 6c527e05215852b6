package e2e_test

import (
	stdcontext "context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/trail"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// answered gathers the ids of the requests that were answered.
type answered struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (a *answered) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids[id] = true
}

func (a *answered) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

// burden calls from many goroutines until the server is gone.
func burden(p *process, key string, a *answered) *sync.WaitGroup {
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for {
				out, err := p.Encrypt(stdcontext.Background(), &awskms.EncryptInput{KeyId: &key, Plaintext: message})
				if err != nil {
					return
				}
				if id, ok := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata); ok {
					a.add(id)
				}
			}
		})
	}
	return &work
}

// TestEveryAnsweredCallHasItsRecordAfterKill9 kills a server under load, several times.
func TestEveryAnsweredCallHasItsRecordAfterKill9(t *testing.T) {
	t.Parallel()
	file := kastellantest.ConfigurationFile(t, "audit: {directory: trail, segments: {max-bytes: 100000}, checkpoints: {records: 50}}\n")
	directory := filepath.Join(filepath.Dir(file), "trail")
	a := &answered{ids: make(map[string]bool)}
	key := ""
	for round := range 4 {
		p := launch(t, file)
		if key == "" {
			key = *must[*awskms.CreateKeyOutput](t)(p.CreateKey(t.Context(), &awskms.CreateKeyInput{})).KeyMetadata.Arn
		}
		before := a.count()
		work := burden(p, key, a)
		polltest.Until(t, "answers", func() bool { return a.count() >= before+150+17*round })
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if !p.Killed() {
			t.Fatal("the server did not die")
		}
		work.Wait()
		wantRecorded(t, directory, a)
	}
	p := launch(t, file) // and what is left is gone on with
	must[*awskms.ListKeysOutput](t)(p.ListKeys(t.Context(), &awskms.ListKeysInput{}))
	p.Stop()
	if r := wantRecorded(t, directory, a); r.SignedThrough != r.Last-1 {
		t.Errorf("the log is signed through the entry %d of %d", r.SignedThrough, r.Last)
	}
}

// wantRecorded verifies a trail and looks for the records of all requests that were answered.
func wantRecorded(t *testing.T, dir string, a *answered) *trail.Report {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "public-key"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := trail.Verify(os.DirFS(dir), trail.VerifyOptions{Keys: []string{strings.TrimSpace(string(key))}})
	if err != nil || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	found := make(map[string]bool)
	err = trail.Tail(t.Context(), dir, trail.TailOptions{Newest: -1}, func(_ []byte, r *audit.Record) error {
		found[r.RequestID] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := range a.ids {
		if !found[id] {
			t.Errorf("the request %s was answered and has no record", id)
		}
	}
	return r
}
