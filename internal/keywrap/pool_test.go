package keywrap_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"kastellan.dev/internal/keywrap"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
)

// workshop makes keys that are distinct but no good, and counts them.
type workshop struct {
	made   atomic.Int32
	busy   atomic.Int32
	pause  chan struct{} // nil, or each key takes a value of it
	failed error
	order  []kmsapi.WrappingKeySpec // of one goroutine
}

func (w *workshop) generate(spec kmsapi.WrappingKeySpec) (*keywrap.PrivateKey, error) {
	if spec != "SM2" && w.busy.Add(1) > 1 {
		panic("two keys are being made")
	}
	if w.pause != nil {
		<-w.pause
	}
	w.order = append(w.order, spec)
	w.made.Add(1)
	w.busy.Add(-1)
	return new(keywrap.PrivateKey), w.failed
}

func TestPoolHasRealKeysReady(t *testing.T) {
	t.Parallel()
	pool := keywrap.NewPool()
	defer pool.Close()
	for _, p := range []pair{{"RSAES_OAEP_SHA_256", "RSA_2048"}, {"SM2PKE", "SM2"}} {
		k, err := pool.Get(t.Context(), p.spec)
		if err != nil || k.Spec() != p.spec {
			t.Fatalf("%s: %v", p.spec, err)
		}
		if _, err := k.Unwrap(p.alg, wrap(t, p, k, random(32))); err != nil {
			t.Errorf("%s: %v", p.spec, err)
		}
	}
	if _, err := pool.Get(t.Context(), "RSA_1024"); kmsapi.CodeOf(err) != kmsapi.Validation {
		t.Error(err)
	}
}

func TestPoolKeepsAFewKeysOfTheKindsInUse(t *testing.T) {
	t.Parallel()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		var w workshop
		pool := keywrap.NewPoolOf(w.generate)
		defer pool.Close()
		synctest.Wait()
		if n := w.made.Load(); n != 0 {
			t.Errorf("%d keys are made before anybody has asked", n)
		}
		want := int32(0)
		for _, spec := range []kmsapi.WrappingKeySpec{"RSA_4096", "RSA_2048"} {
			want += keywrap.Ready
			for range 4 {
				if _, err := pool.Get(t.Context(), spec); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if want++; w.made.Load() != want {
					t.Fatalf("%d keys were made, want %d", w.made.Load(), want)
				}
			}
		}
	})
}

func TestPoolHandsEveryKeyOutOnce(t *testing.T) {
	t.Parallel()
	var w workshop
	pool := keywrap.NewPoolOf(w.generate)
	var all sync.Map
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			for range 50 {
				k, err := pool.Get(t.Context(), specs[i%3])
				if _, twice := all.LoadOrStore(k, true); err != nil || k == nil || twice {
					t.Errorf("%p, %v, handed out before: %v", k, err, twice)
				}
			}
		})
	}
	group.Wait()
	pool.Close()
	if n := w.made.Load(); n < 32*50 || n > 32*50+3*keywrap.Ready {
		t.Errorf("%d keys were made for %d callers", n, 32*50)
	}
}

func TestPoolServesKindsInTurnAndCallersFirst(t *testing.T) {
	t.Parallel()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		w := workshop{pause: make(chan struct{})}
		pool := keywrap.NewPoolOf(w.generate)
		defer pool.Close()
		defer close(w.pause)
		var served sync.Map
		for _, spec := range []kmsapi.WrappingKeySpec{"RSA_4096", "RSA_4096", "RSA_4096", "RSA_4096", "RSA_4096", "RSA_2048", "RSA_3072"} {
			go func() {
				if _, err := pool.Get(t.Context(), spec); err == nil {
					served.Store(spec, true)
				}
			}()
			synctest.Wait()
		}
		for range 4 {
			w.pause <- struct{}{}
			synctest.Wait()
		}
		for _, spec := range specs[:3] {
			if _, ok := served.Load(spec); !ok {
				t.Errorf("after four keys, nobody has one of %s; made were %q", spec, w.order)
			}
		}
		for range 3 { // the callers that are left, before any key to spare
			w.pause <- struct{}{}
			synctest.Wait()
		}
		made := make(map[kmsapi.WrappingKeySpec]int)
		for _, spec := range w.order {
			made[spec]++
		}
		if made["RSA_4096"] != 5 || made["RSA_3072"] != 1 || made["RSA_2048"] != 1 {
			t.Errorf("keys are made to spare while callers wait: %q", w.order)
		}
	})
}

func TestPoolLetsCallersGo(t *testing.T) {
	t.Parallel()
	polltest.NeedsBubble(t)
	synctest.Test(t, func(t *testing.T) {
		w := workshop{pause: make(chan struct{})}
		pool := keywrap.NewPoolOf(w.generate)
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan error, 2)
		go func() {
			_, err := pool.Get(ctx, "RSA_4096")
			answers <- err
		}()
		go func() {
			_, err := pool.Get(t.Context(), "RSA_4096")
			answers <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that goes: %v", err)
		}
		closed := make(chan struct{})
		go func() { pool.Close(); pool.Close(); close(closed) }()
		if err := <-answers; err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a caller of a pool that is closed: %v", err)
		}
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait for the key that is being made")
		default:
		}
		w.pause <- struct{}{}
		<-closed
		if n := w.made.Load(); n != 1 {
			t.Errorf("%d keys were made", n)
		}
		for _, spec := range specs[:3] {
			if k, err := pool.Get(t.Context(), spec); err == nil {
				t.Errorf("a closed pool gives %v", k)
			}
		}
	})
}

func TestPoolGivesNoReadyKeyToACallerThatHasGone(t *testing.T) {
	t.Parallel()
	var w workshop
	pool := keywrap.NewPoolOf(w.generate)
	defer pool.Close()
	if _, err := pool.Get(t.Context(), "RSA_2048"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if k, err := pool.Get(ctx, "RSA_2048"); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, %v", k, err)
		}
	}
}

func TestPoolTellsWhatFailed(t *testing.T) {
	t.Parallel()
	w := workshop{failed: errors.New("no entropy")}
	pool := keywrap.NewPoolOf(w.generate)
	defer pool.Close()
	for _, spec := range specs {
		if _, err := pool.Get(t.Context(), spec); err != w.failed {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
