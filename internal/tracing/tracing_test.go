package tracing_test

import (
	"context"
	"testing"
	"time"

	"kastellan.dev/internal/tracing"
)

// deep is a context as it reaches a key store: with a deadline and a value or two.
func deep(ctx context.Context) (context.Context, context.CancelFunc) {
	type key int
	for i := range 3 {
		ctx = context.WithValue(ctx, key(i), i)
	}
	return context.WithTimeout(ctx, time.Hour)
}

// work is a function as it stands in the hot path.
func work(ctx context.Context) error {
	_, span := tracing.Start(ctx, "work")
	span.Set(tracing.KeyARN, "arn")
	span.End("")
	return nil
}

func TestWithoutATraceSpansAllocateNothing(t *testing.T) {
	ctx, cancel := deep(t.Context())
	defer cancel()
	if n := testing.AllocsPerRun(100, func() { _ = work(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var off *tracing.Tracer
	if n := testing.AllocsPerRun(100, func() {
		_, span := off.Serve(ctx, nil, true, "request", time.Time{})
		span.End("")
	}); n != 0 {
		t.Errorf("a request: %v allocations", n)
	}
}

// BenchmarkOff is what a span costs that is not recorded because tracing is off, beside the same
// function without one.
func BenchmarkOff(b *testing.B) {
	ctx, cancel := deep(b.Context())
	defer cancel()
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = nothing(ctx)
		}
	})
	b.Run("noop", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = work(ctx)
		}
	})
}

//go:noinline
func nothing(context.Context) error { return nil }
