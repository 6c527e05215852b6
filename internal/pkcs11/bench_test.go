//go:build cgo && unix

package pkcs11_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"kastellan.dev/internal/pkcs11/pkcs11test"
)

// BenchmarkEncryptGCM compares 32-byte encryptions through the bare binding,
// in this process, and through a child. What counts are the ratios within a run.
func BenchmarkEncryptGCM(b *testing.B) {
	ref := pkcs11test.NewTokens(b, 1)[0]
	for _, entry := range ref.Env {
		name, value, _ := strings.Cut(entry, "=")
		b.Setenv(name, value)
	}
	cfg := ref.Config()
	token := openLoggedIn(b, ref, cfg)
	generate(b, token, dataKey)

	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("bare/%d", callers), func(b *testing.B) {
			bare := newBareLoop(b, ref, callers)
			inParallel(b, len(bare.sessions), bare.encrypt)
		})
		for _, inProcess := range []bool{true, false} {
			name := "child"
			if inProcess {
				name = "inprocess"
			}
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) {
				cfg := cfg
				cfg.InProcess = inProcess
				token := openLoggedIn(b, ref, cfg)
				ctx := b.Context()
				found, err := token.FindKeys(ctx, dataKey.Label, nil)
				if err != nil || len(found) == 0 {
					b.Fatal(err)
				}
				plaintext := make([]byte, 32)
				inParallel(b, callers, func(int) error {
					_, err := token.EncryptGCM(ctx, found[0], plaintext, nil)
					return err
				})
			})
		}
	}
}

// inParallel shares b.N calls among the callers.
func inParallel(b *testing.B, callers int, call func(caller int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for caller := range callers {
		n := b.N / callers
		if caller < b.N%callers {
			n++
		}
		wg.Go(func() {
			for range n {
				if err := call(caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// bareLoop is the floor: the binding alone, a session per caller.
type bareLoop struct {
	ctx      *p11.Ctx
	sessions []p11.SessionHandle
	key      p11.ObjectHandle
}

func newBareLoop(b *testing.B, ref pkcs11test.TokenRef, callers int) *bareLoop {
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	l := &bareLoop{ctx: p11.New(pkcs11test.Module)}
	must(l.ctx.Initialize())
	b.Cleanup(func() { _ = l.ctx.Finalize() })
	slots, err := l.ctx.GetSlotList(true)
	must(err)
	for range min(callers, 16) {
		session, err := l.ctx.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(err)
		l.sessions = append(l.sessions, session)
	}
	must(l.ctx.Login(l.sessions[0], p11.CKU_USER, ref.PIN))
	must(l.ctx.FindObjectsInit(l.sessions[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, dataKey.Label)}))
	found, _, err := l.ctx.FindObjects(l.sessions[0], 1)
	must(err)
	must(l.ctx.FindObjectsFinal(l.sessions[0]))
	l.key = found[0]
	return l
}

func (l *bareLoop) encrypt(caller int) error {
	session := l.sessions[caller]
	params := p11.NewGCMParams(make([]byte, 12), nil, 128)
	defer params.Free()
	if err := l.ctx.EncryptInit(session, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, l.key); err != nil {
		return err
	}
	_, err := l.ctx.Encrypt(session, make([]byte, 32))
	return err
}
