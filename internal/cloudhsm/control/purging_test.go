package control

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// silent takes records and forgets them.
type silent struct{}

func (silent) Write(context.Context, *audit.Record) error { return nil }

const aDay = 24 * time.Hour

// TestWhatIsKeptAndForHowLong lets each backup be looked at once, at the time 0, and tells which of them are left.
func TestWhatIsKeptAndForHowLong(t *testing.T) {
	t.Parallel()
	at := func(id string, age time.Duration, change ...func(*backupRecord)) *backupRecord {
		b := &backupRecord{ID: id, State: cloudhsmapi.BackupReady, Created: time.Unix(0, 0).Add(-age), Number: uint64((10_000*aDay - age) / aDay), RetentionDays: 10, Cluster: "c", Region: "r", Account: "a"}
		for _, fn := range change {
			fn(b)
		}
		return b
	}
	never := func(b *backupRecord) { b.NeverExpires = true }
	pending := func(in time.Duration) func(*backupRecord) {
		return func(b *backupRecord) { b.State, b.Deletes = cloudhsmapi.BackupPendingDeletion, time.Unix(0, 0).Add(in) }
	}
	making := func(node string) func(*backupRecord) {
		return func(b *backupRecord) { b.State, b.Maker = cloudhsmapi.BackupCreateInProgress, node }
	}
	of := func(cluster string) func(*backupRecord) { return func(b *backupRecord) { b.Cluster = cluster } }
	in := func(region string) func(*backupRecord) {
		return func(b *backupRecord) { b.Region, b.SourceBackup = region, "x" }
	}
	copied := func(age time.Duration) func(*backupRecord) {
		return func(b *backupRecord) { b.Copied, b.Kept = time.Unix(0, 0).Add(-age), time.Unix(0, 0).Add(-age) }
	}
	tests := map[string]struct {
		days    int // of the cluster; 0: there is none any more
		backups []*backupRecord
		want    []string
	}{
		"younger than the policy says":             {7, []*backupRecord{at("1", 0), at("2", 7*aDay-1)}, []string{"1", "2"}},
		"as old as the policy says":                {7, []*backupRecord{at("1", 0), at("2", 7*aDay)}, []string{"1"}},
		"the cluster's policy, not the backup's":   {379, []*backupRecord{at("1", 0), at("2", 378*aDay)}, []string{"1", "2"}},
		"the backup's, once the cluster is gone":   {0, []*backupRecord{at("1", 0), at("2", 10*aDay)}, []string{"1"}},
		"the last one stays":                       {7, []*backupRecord{at("1", 1000*aDay)}, []string{"1"}},
		"of two old ones the younger stays":        {7, []*backupRecord{at("1", 1000*aDay), at("2", 999*aDay)}, []string{"2"}},
		"the last one, without a cluster":          {0, []*backupRecord{at("1", 1000*aDay)}, []string{"1"}},
		"one that never expires":                   {7, []*backupRecord{at("1", 0), at("2", 1000*aDay, never)}, []string{"1", "2"}},
		"one that is being deleted is not a last":  {7, []*backupRecord{at("1", 0, pending(1)), at("2", 1000*aDay)}, []string{"1", "2"}},
		"nor one that is being made":               {7, []*backupRecord{at("1", 0, making("me")), at("2", 1000*aDay)}, []string{"1", "2"}},
		"nor one of another cluster":               {7, []*backupRecord{at("1", 0, of("d")), at("2", 1000*aDay)}, []string{"1", "2"}},
		"nor one in another Region":                {7, []*backupRecord{at("1", 0, in("s")), at("2", 1000*aDay)}, []string{"1", "2"}},
		"deleted a moment too early":               {7, []*backupRecord{at("1", 0, pending(1))}, []string{"1"}},
		"deleted when it is time, the last or not": {7, []*backupRecord{at("1", 0, pending(0))}, nil},
		"deleted although it never expires":        {7, []*backupRecord{at("1", 0, never, pending(0))}, nil},
		"made by a process that is gone":           {7, []*backupRecord{at("1", 0, making("other"))}, nil},
		"made by this process, for too long":       {7, []*backupRecord{at("1", time.Hour, making("me"))}, nil},
		"copied or restored a week ago":            {0, []*backupRecord{at("1", 0), at("2", 1000*aDay, copied(9*aDay))}, []string{"1", "2"}},
		"copied or restored long ago":              {0, []*backupRecord{at("1", 0), at("2", 1000*aDay, copied(10*aDay))}, []string{"1"}},
		"two copies of one":                        {0, []*backupRecord{at("1", 900*aDay, copied(800*aDay)), at("2", 900*aDay, copied(700*aDay))}, []string{"2"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shelf(t)
			s.node, s.ctx, s.log, s.audit, s.wake = "me", t.Context(), slog.New(slog.DiscardHandler), silent{}, make(chan struct{}, 1)
			s.now = func() time.Time { return time.Unix(0, 0) }
			_, err := s.db.Update(t.Context(), func(tx store.Tx) error {
				if test.days > 0 {
					c := &clusterRecord{ID: "c", Account: "a", Region: "r", State: cloudhsmapi.ClusterActive, RetentionDays: test.days}
					if err := save(tx, c.path(), c); err != nil {
						return err
					}
				}
				for _, b := range test.backups {
					if err := firstOf(s.saveContent(tx, b, wrappedKeys(1)), save(tx, b.path(), b)); err != nil {
						return err
					}
				}
				return nil
			})
			must(t, err)
			for _, b := range test.backups {
				must(t, s.tendBackup(b))
			}
			var left []string
			must(t, s.db.View(t.Context(), func(r store.Reader) error {
				all, err := scan[backupRecord](r, backupPrefix)
				for _, b := range all {
					left = append(left, b.ID)
				}
				return err
			}))
			slices.Sort(left)
			if !slices.Equal(left, test.want) {
				t.Errorf("%v are left, want %v", left, test.want)
			}
		})
	}
}
