package trail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/trail"
	"kastellan.dev/internal/polltest"
)

// told gathers the ids of the events that Tail gives.
type told struct {
	mu  sync.Mutex
	ids []string
}

func (o *told) show(_ []byte, r *audit.Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = append(o.ids, r.EventID)
	return nil
}

func (o *told) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ids)
}

func tailOf(t *testing.T, path string, o trail.TailOptions) []string {
	t.Helper()
	var out told
	if err := trail.Tail(t.Context(), path, o, out.show); err != nil {
		t.Fatal(err)
	}
	return out.ids
}

func events(from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprint("event-", i))
	}
	return ids
}

func TestTailGivesTheNewestRecordsAcrossSegments(t *testing.T) {
	t.Parallel()
	d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 4000 })
	d.write(40)
	for newest, want := range map[int][]string{0: nil, 1: events(40, 40), 15: events(26, 40), 40: events(1, 40), 1000: events(1, 40), -1: events(1, 40)} {
		if diff := cmp.Diff(want, tailOf(t, d.dir, trail.TailOptions{Newest: newest})); diff != "" {
			t.Errorf("the newest %d: %s", newest, diff)
		}
	}
	since := time.Unix(31, 0)
	if diff := cmp.Diff(events(31, 35), tailOf(t, d.dir, trail.TailOptions{Newest: -1, Filter: trail.Filter{Since: since, Until: since.Add(5 * time.Second)}})); diff != "" {
		t.Errorf("by time: %s", diff)
	}
}

func TestTailFollowsAcrossSegmentsAndProcesses(t *testing.T) {
	t.Parallel()
	d := newDiary(t, func(c *trail.Config) { c.SegmentBytes = 4000 })
	d.write(3)
	ctx, cancel := context.WithCancel(t.Context())
	var out told
	done := make(chan error, 1)
	go func() {
		done <- trail.Tail(ctx, d.dir, trail.TailOptions{Newest: 2, Follow: true, Poll: time.Millisecond}, out.show)
	}()
	polltest.Until(t, "the newest records", func() bool { return out.count() == 2 })
	d.write(30)
	d.close()
	d.open()
	d.write(5)
	polltest.Until(t, "the records that come", func() bool { return out.count() == 37 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(events(2, 38), out.ids); diff != "" {
		t.Error(diff)
	}
}

func TestTailFollowsAPlainFileThatIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write := func(from, to int) {
		t.Helper()
		lines, err := audit.OpenLines(path, false)
		if err != nil {
			t.Fatal(err)
		}
		f := audit.NewLog(lines)
		for i := from; i <= to; i++ {
			if err := f.Write(t.Context(), &audit.Record{EventName: "Encrypt", EventID: fmt.Sprint("event-", i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(1, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var out told
	done := make(chan error, 1)
	go func() {
		done <- trail.Tail(ctx, path, trail.TailOptions{Newest: -1, Follow: true, Poll: time.Millisecond}, out.show)
	}()
	polltest.Until(t, "what is there", func() bool { return out.count() == 3 })
	write(4, 5)
	polltest.Until(t, "what is appended", func() bool { return out.count() == 5 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(6, 7)
	polltest.Until(t, "what another file has", func() bool { return out.count() == 7 })
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(8, 8)
	polltest.Until(t, "what is written after the file was cut", func() bool { return out.count() == 8 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(events(1, 8), out.ids); diff != "" {
		t.Error(diff)
	}
}

func TestTailWaitsForTheEndOfALine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	line, err := json.Marshal(audit.Record{EventName: "Encrypt", EventID: "event-1"})
	if err != nil {
		t.Fatal(err)
	}
	line = append(line, '\n')
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out told
	started := make(chan error, 1)
	go func() {
		started <- trail.Tail(ctx, path, trail.TailOptions{Newest: -1, Follow: true, Poll: time.Millisecond}, out.show)
	}()
	for _, b := range slices.Concat(line, line) {
		if _, err := f.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	polltest.Until(t, "two records", func() bool { return out.count() == 2 })
}

func TestTailEndsWithTheErrorOfItsReader(t *testing.T) {
	t.Parallel()
	d := newDiary(t)
	d.write(2)
	broken := errors.New("broken pipe")
	err := trail.Tail(t.Context(), d.dir, trail.TailOptions{Newest: -1, Follow: true}, func([]byte, *audit.Record) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := trail.Tail(t.Context(), t.TempDir(), trail.TailOptions{}, nil); err == nil {
		t.Error("an empty directory is a trail")
	}
}

func TestFiltersAdmitWhatTheyName(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	r := &audit.Record{
		EventName: "Decrypt", EventTime: at, SourceIPAddress: "10.0.0.1", RequestID: "r-1", ErrorCode: "AccessDeniedException",
		UserIdentity: audit.UserIdentity{
			ARN: "arn:aws:sts::111122223333:assumed-role/ops/s", PrincipalID: "AROA:s", AccessKeyID: "ASIA",
			SessionContext: &audit.SessionContext{SessionIssuer: &audit.SessionIssuer{ARN: "arn:aws:iam::111122223333:role/ops", UserName: "ops"}},
		},
		RequestParameters: json.RawMessage(`{"keyId":"alias/given","encryptionContext":{"keyId":"no"}}`),
		Resources:         []audit.Resource{{ARN: "arn:aws:kms:eu-central-1:111122223333:key/1234"}, {ARN: "arn:aws:kms:eu-central-1:111122223333:alias/a/b"}},
	}
	for name, tc := range map[string]struct {
		yes, no []trail.Filter
	}{
		"nothing":   {yes: []trail.Filter{{}}},
		"event":     {[]trail.Filter{{Events: []string{"Encrypt", "Decrypt"}}}, []trail.Filter{{Events: []string{"Encrypt"}}}},
		"principal": {[]trail.Filter{{Principal: "ops"}, {Principal: "ASIA"}, {Principal: "AROA:s"}, {Principal: r.UserIdentity.ARN}, {Principal: "arn:aws:iam::111122223333:role/ops"}}, []trail.Filter{{Principal: "op"}}},
		"key": {
			[]trail.Filter{{Key: "1234"}, {Key: "key/1234"}, {Key: r.Resources[0].ARN}, {Key: "alias/given"}, {Key: "alias/a/b"}},
			[]trail.Filter{{Key: "234"}, {Key: "no"}, {Key: "alias/giv"}},
		},
		"outcome": {[]trail.Filter{{ErrorCode: "AccessDeniedException"}, {ErrorCode: "any"}}, []trail.Filter{{ErrorCode: "none"}, {ErrorCode: "NotFoundException"}}},
		"source":  {[]trail.Filter{{Source: "10.0.0.1"}}, []trail.Filter{{Source: "10.0.0.2"}}},
		"request": {[]trail.Filter{{RequestID: "r-1"}}, []trail.Filter{{RequestID: "r"}}},
		"time":    {[]trail.Filter{{Since: at}, {Until: at.Add(1)}, {Since: at, Until: at.Add(1)}}, []trail.Filter{{Since: at.Add(1)}, {Until: at}}},
	} {
		for _, f := range tc.yes {
			if !f.Admits(r) {
				t.Errorf("%s: %+v does not admit it", name, f)
			}
		}
		for _, f := range tc.no {
			if f.Admits(r) {
				t.Errorf("%s: %+v admits it", name, f)
			}
		}
	}
}
