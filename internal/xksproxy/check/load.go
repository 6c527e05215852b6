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

// coldCalls is how many connections the measurement of new ones makes.
const coldCalls = 5

// loadCases are about speed, of which the specification demands nothing; a proxy that is
// too slow does not serve KMS all the same.
func loadCases() []testCase {
	return []testCase{
		latencyCase("load.latency", "99 of 100 calls to encrypt answer in the 250 ms that KMS waits", encryptPath,
			func(_ context.Context, p *prober) ([]byte, error) {
				return p.body(encryptBody(random(256), exampleAAD)), nil
			}),
		latencyCase("load.latency.decrypt", "99 of 100 calls to decrypt answer in the 250 ms that KMS waits", decryptPath,
			func(ctx context.Context, p *prober) ([]byte, error) {
				e, _, err := p.encrypted(ctx, p.o.KeyID, encryptBody(random(256), exampleAAD))
				return p.body(decryptBody(e, exampleAAD)), err
			}),
		{
			id: "load.cold", title: "A new connection and its first call fit in 250 ms", level: Should,
			expected: fmt.Sprintf("the slowest of %d at most 250 ms", coldCalls), run: cold,
		},
		{
			id: "load.burst", title: "Many calls at once are served or throttled, nothing else", level: Should,
			expected: "200, or 429 ThrottlingException, or 503 DependencyTimeoutException; at least one 200", run: burst,
		},
	}
}

func latencyCase(id, title, path string, body func(context.Context, *prober) ([]byte, error)) testCase {
	return testCase{
		id: id, title: title, level: Should, expected: "p99 at most 250 ms",
		run: func(ctx context.Context, p *prober) (string, error) {
			text, err := body(ctx, p)
			if err != nil {
				return "", err
			}
			took := make([]time.Duration, 0, p.o.Calls)
			for range p.o.Calls {
				a, err := p.sendWith(ctx, p.client, request{path: p.expand(path), body: text})
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
			return inBudget(p99, "p50 %s, p99 %s of %d calls", p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), len(took))
		},
	}
}

func inBudget(took time.Duration, format string, args ...any) (seen string, err error) {
	if took > budget {
		err = errNotMet
	}
	return fmt.Sprintf(format, args...), err
}

func cold(ctx context.Context, p *prober) (string, error) {
	body := p.body(encryptBody(random(256), exampleAAD))
	var slowest time.Duration
	for range coldCalls {
		client := p.newClient(p.tlsConfig(), true)
		a, err := p.sendWith(ctx, client, request{path: p.expand(encryptPath), body: body})
		client.CloseIdleConnections()
		if err != nil {
			return "", err
		}
		if seen, err := a.wantOK(new(object)); err != nil {
			return seen, err
		}
		slowest = max(slowest, a.took)
	}
	return inBudget(slowest, "%s at most", slowest.Round(10*time.Microsecond))
}

func burst(ctx context.Context, p *prober) (string, error) {
	body := p.body(encryptBody(random(256), exampleAAD))
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
	p.answers = append(p.answers, answers...)
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
	seen := fmt.Sprintf("%d of %d served", served, len(answers))
	if served == 0 {
		return seen, errNotMet
	}
	return seen, nil
}
