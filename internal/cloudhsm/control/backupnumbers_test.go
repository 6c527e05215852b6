package control

import (
	"errors"
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/pkcs11/pkcs11test"
	"kastellan.dev/internal/store"
)

// TestYoungestBackupIsTheOneTakenLast: the clock was wrong for a while.
func TestYoungestBackupIsTheOneTakenLast(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBench(t, func() time.Time { return now })
	at := b.newCluster(cloudhsmapi.ClusterActive)
	id := b.active(at)
	now = now.AddDate(20, 0, 0)
	must(t, b.backUpIfDue(b.read(at)))
	now = now.AddDate(-20, 0, 0)
	b.makeKey(at, id, "arn:made with the right clock")
	must(t, b.backUpIfDue(b.read(at)))
	latest, err := b.latest(b.read(at))
	must(t, err)
	if !latest.Created.Equal(now) || latest.Keys != 1 {
		t.Errorf("the latest backup is of %s and has %d keys", latest.Created, latest.Keys)
	}
}

// TestBackupOfOneHSMHasTheKeysOfAll: a key can be on an HSM alone until they are compared.
func TestBackupOfOneHSMHasTheKeysOfAll(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBench(t, func() time.Time { return now })
	at := b.newCluster(cloudhsmapi.ClusterActive)
	b.active(at)
	second := b.active(at)
	b.makeKey(at, second, "arn:on the second only")
	now = now.Add(25 * time.Hour)
	must(t, b.backUpIfDue(b.read(at)))
	latest, err := b.latest(b.read(at))
	must(t, err)
	if latest.Keys != 1 {
		t.Errorf("the backup has %d keys of 1", latest.Keys)
	}
}

// TestBackupThatIsNeededDoesNotExpire: a cluster is without HSMs for longer than its backups are kept, and what it had is in two of them.
func TestBackupThatIsNeededDoesNotExpire(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBench(t, func() time.Time { return now })
	rec := b.read(b.newCluster(cloudhsmapi.ClusterActive))
	taken := func(number uint64, at time.Time) *backupRecord {
		one := &backupRecord{
			ID: newID(cloudhsmapi.ResourceBackup), Account: rec.Account, Region: rec.Region, Cluster: rec.ID,
			State: cloudhsmapi.BackupReady, Created: at.UTC(), Number: number, RetentionDays: rec.RetentionDays,
		}
		b.put(one.path(), one)
		return one
	}
	before := taken(1, now.Add(-time.Hour))
	rec.Waned = 2
	b.put(rec.path(), rec)
	first, second := taken(2, now), taken(3, now.Add(time.Minute))
	now = now.AddDate(1, 0, 0)
	for _, c := range []struct {
		backup *backupRecord
		want   bool
	}{{before, true}, {first, false}, {second, false}} {
		old, err := b.outlived(c.backup)
		if err != nil || old != c.want {
			t.Errorf("backup %d expires: %t, %v", c.backup.Number, old, err)
		}
	}
}

// TestBackupThatIsToBeKeptIsNotPurged: its owner has said so after it was looked at.
func TestBackupThatIsToBeKeptIsNotPurged(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	seen := &backupRecord{ID: newID(cloudhsmapi.ResourceBackup), Account: testAccount, Region: testRegion, State: cloudhsmapi.BackupReady}
	kept := *seen
	kept.NeverExpires = true
	b.put(kept.path(), &kept)
	must(t, b.purge(seen))
	must(t, b.db.View(t.Context(), func(r store.Reader) error {
		now, err := load[backupRecord](r, seen.path())
		if now == nil {
			t.Error("the backup is gone")
		}
		return err
	}))
}

// TestBackupHSMTakesNoTokenThatIsTaken: it was renamed, or the token was an HSM's pool's before. Its keys would be destroyed.
func TestBackupHSMTakesNoTokenThatIsTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	token := rack.DeclaredToken{Config: pkcs11.Config{URI: pkcs11.URI{Token: "t", ModulePath: pkcs11test.Module}}, PIN: textOf("1234")}
	var err error
	b.pools, err = rack.NewPools([]rack.Pool{{Name: "vault", AvailabilityZone: "(none)", Tokens: []rack.DeclaredToken{token}}})
	must(t, err)
	taken := &tokenRecord{Placement: rack.Placement{Pool: "vault-before", Token: token.Config.URI.String()}, HSM: vaultHSM, Filled: true}
	b.put(taken.path(), taken)
	if at, err := b.vaultToken(t.Context()); !errors.Is(err, rack.ErrNoToken) {
		t.Errorf("it took %v, %v", at, err)
	}
}

// TestBackupHSMIsOpenedByManyAtATime: while it does not answer, one cluster's work must not wait for another's.
func TestBackupHSMIsOpenedByManyAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	first, err := b.openVault(t.Context())
	must(t, err)
	must(t, first.shared.Close())
	b.vaultTurn.Lock()
	defer b.vaultTurn.Unlock()
	opened := make(chan error, 1)
	go func() {
		again, err := b.openVault(t.Context())
		if err == nil {
			err = again.shared.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it waits")
	}
}
