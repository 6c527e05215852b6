package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kastellan.dev/internal/xksapi"
)

// budget is how long KMS waits.
const budget = 250 * time.Millisecond

func loadCases() []testCase {
	return []testCase{
		{
			id: "load.latency", title: "99 of 100 calls answer in the 250 ms that KMS waits", level: Should, expected: "p99 of Encrypt at most 250 ms",
			run: latency,
		},
		{
			id: "load.burst", title: "Many calls at once are served or throttled, nothing else", level: Must,
			expected: "200, or 429 ThrottlingException, or 503 DependencyTimeoutException; at least one 200", run: burst,
		},
	}
}

func latency(ctx context.Context, p *prober) (string, error) {
	took := make([]time.Duration, 0, p.o.Calls)
	body := encryptBody(random(256), exampleAAD).json()
	for range p.o.Calls {
		a, err := p.sendWith(ctx, p.client, request{path: p.expand(encryptPath), body: body})
		if err != nil {
			return "", err
		}
		if seen, err := a.wantOK(new(object)); err != nil {
			return seen, err
		}
		took = append(took, a.took)
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	seen := fmt.Sprintf("p50 %s, p99 %s of %d calls", p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), len(took))
	if p99 > budget {
		return seen, errNotMet
	}
	return seen, nil
}

func burst(ctx context.Context, p *prober) (string, error) {
	body := encryptBody(random(256), exampleAAD).json()
	answers := make([]answer, p.o.Concurrency)
	errs := make([]error, p.o.Concurrency)
	var wg sync.WaitGroup
	for i := range p.o.Concurrency {
		wg.Go(func() {
			answers[i], errs[i] = p.sendWith(ctx, p.client, request{path: p.expand(encryptPath), body: body})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	served := 0
	for _, a := range answers {
		if a.status == 200 {
			served++
			continue
		}
		if seen, err := a.wantError(xksapi.ThrottlingException, xksapi.DependencyTimeoutException); err != nil {
			return seen, err
		}
	}
	p.answers = append(p.answers, answers...)
	seen := fmt.Sprintf("%d of %d served", served, len(answers))
	if served == 0 {
		return seen, errNotMet
	}
	return seen, nil
}
