package xksproxy

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"kastellan.dev/internal/xksapi"
)

const vendor = "Kastellan"

// unwellCache is how long a health check is believed that found something
// wrong: what was mended shall be seen soon.
const unwellCache = 2 * time.Second

// sharedRing is an open ring with its configuration and its latest health
// check. States that follow each other share it where its configuration stays.
type sharedRing struct {
	Ring
	cfg     RingConfig
	log     *slog.Logger
	uses    int // states that refer to it; guarded by Proxy.mu
	seen    func(ring string, members []Member)
	flight  singleflight.Group
	mu      sync.Mutex
	checked time.Time
	members []Member
}

func openRing(cfg RingConfig, log *slog.Logger, m *metrics) *sharedRing {
	r := &sharedRing{cfg: cfg, seen: m.sawMembers, log: log.With("ring", cfg.Name)}
	switch {
	case cfg.Tokens != nil:
		r.Ring = newTokenRing(*cfg.Tokens, r.log, m.tokens.of(cfg.Name))
	case cfg.Keys != nil:
		r.Ring = &fileRing{name: cfg.Name, keys: cfg.Keys}
	default:
		r.Ring = cfg.Ring
	}
	return r
}

func (r *sharedRing) close() error {
	if r.cfg.Ring != nil {
		return nil
	}
	return r.Close()
}

// reserved tells labels that no store shows.
func (r *sharedRing) reserved(label string) bool {
	return r.cfg.Tokens != nil && label == r.cfg.Tokens.HealthKey
}

func (r *sharedRing) vendor() string {
	if r.cfg.Vendor != "" {
		return r.cfg.Vendor
	}
	return r.Vendor()
}

// health gives the latest check if it is no older than cache, or makes one;
// however many ask, one check runs.
func (r *sharedRing) health(ctx context.Context, cache time.Duration) ([]Member, error) {
	if members, ok := r.remembered(cache); ok {
		return members, nil
	}
	done := r.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeout)
		defer cancel()
		members := r.test(ctx)
		before, _ := r.remembered(0)
		r.logChanges(before, members)
		r.seen(r.cfg.Name, members)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.members, r.checked = members, time.Now()
		return members, nil
	})
	select {
	case result := <-done:
		return result.Val.([]Member), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// logChanges tells of members whose state is not what it was; at first all are taken for active.
func (r *sharedRing) logChanges(before, now []Member) {
	was := map[string]string{}
	for _, m := range before {
		was[m.ID] = m.Status
	}
	for _, m := range now {
		old := orDefault(was[m.ID], xksapi.Active)
		if m.Status == old {
			continue
		}
		level := slog.LevelWarn
		if m.Status == xksapi.Active {
			level = slog.LevelInfo
		}
		r.log.Log(context.Background(), level, "the state of a key manager has changed",
			"member", m.ID, "was", old, "is", m.Status, "why", clean(m.Detail), "tookMs", m.Took.Milliseconds())
	}
}

// test is Health; a panic in it, which nobody else would catch, makes the ring unavailable
// and not the proxy.
func (r *sharedRing) test(ctx context.Context) (members []Member) {
	defer func() {
		if v := recover(); v != nil {
			members = []Member{{ID: r.cfg.Name, Model: "unknown", Status: xksapi.Unavailable, Detail: panicked(v).Error()}}
		}
	}()
	return r.Health(ctx)
}

// warm opens the ring, which may take longer than a request can wait, and tests it.
func (r *sharedRing) warm(ctx context.Context) {
	if t, ok := r.Ring.(*tokenRing); ok {
		t.open(ctx)
	}
	if ctx.Err() == nil {
		_, _ = r.health(ctx, r.cfg.Timeout) // one that was made just now will do
	}
}

func (r *sharedRing) remembered(cache time.Duration) ([]Member, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.Status != xksapi.Active {
			cache = min(cache, unwellCache)
		}
	}
	return r.members, r.members != nil && time.Since(r.checked) < cache
}

// fleet is what GetHealthStatus tells of members. It has room for ten: of more,
// the tenth stands for all the rest.
func fleet(members []Member) []xksapi.EkmFleetDetails {
	var out []xksapi.EkmFleetDetails
	for i, m := range members {
		if i == xksapi.MaxFleet-1 && len(members) > xksapi.MaxFleet {
			return append(out, xksapi.EkmFleetDetails{ID: "others", Model: printable(m.Model, 128), HealthStatus: together(members[i:])})
		}
		out = append(out, xksapi.EkmFleetDetails{ID: printable(m.ID, 128), Model: printable(m.Model, 128), HealthStatus: m.Status})
	}
	return out
}

// together is the state of several members as one.
func together(members []Member) string {
	status := members[0].Status
	for _, m := range members {
		if m.Status != status {
			return xksapi.Degraded
		}
	}
	return status
}
