package audit_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kastellan.dev/internal/audit"
)

// fickle is a sink that fails when it is told to.
type fickle struct {
	err    error
	taken  int
	asked  int
	closed *[]string
	name   string
}

func (f *fickle) Write(b *audit.Batch) error {
	f.asked++
	if f.err != nil {
		return f.err
	}
	f.taken += b.Len()
	return nil
}

func (f *fickle) Close() error {
	if f.closed != nil {
		*f.closed = append(*f.closed, f.name)
	}
	return f.err
}

func TestARecordThatOneOfSeveralSinksDoesNotTakeIsRefused(t *testing.T) {
	t.Parallel()
	var closed []string
	one, two, three := &fickle{closed: &closed, name: "one"}, &fickle{closed: &closed, name: "two"}, &fickle{closed: &closed, name: "three"}
	log := audit.NewLog(one, two, three)
	if err := log.Write(t.Context(), &audit.Record{}); err != nil {
		t.Fatal(err)
	}
	two.err = errors.New("two is full")
	if err := log.Write(t.Context(), &audit.Record{}); !errors.Is(err, two.err) {
		t.Errorf("%v", err)
	}
	if one.taken != 2 || two.taken != 1 || three.taken != 2 {
		t.Errorf("%d, %d and %d records", one.taken, two.taken, three.taken)
	}
	if err := log.Close(); !errors.Is(err, two.err) || strings.Join(closed, " ") != "three two one" {
		t.Errorf("closed %v: %v", closed, err)
	}
}

func TestAnOptionalSinkRefusesNothingAndRestsAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		sink := &fickle{err: errors.New("nobody is there")}
		log := audit.NewLog(audit.Optional("syslog", sink, slog.New(slog.NewTextHandler(&told, nil))))
		write := func(n int) {
			t.Helper()
			for range n {
				if err := log.Write(t.Context(), &audit.Record{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(100)
		if sink.asked != 1 {
			t.Errorf("it was asked %d times at one moment", sink.asked)
		}
		time.Sleep(2 * time.Second)
		write(1)
		if sink.asked != 2 || !strings.Contains(told.String(), "lost=101") {
			t.Errorf("it was asked %d times; the log: %s", sink.asked, told.String())
		}
		sink.err = nil
		time.Sleep(time.Minute)
		write(2)
		if sink.taken != 2 || !strings.Contains(told.String(), "works again") {
			t.Errorf("it took %d; the log: %s", sink.taken, told.String())
		}
	})
}
