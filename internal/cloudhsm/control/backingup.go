package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// chunk is how many keys one record of a backup's content has: a wrapped key takes less than 1 KiB as JSON.
const chunk = 500

// backUpIfDue takes the backup that a cluster gets by itself, from any HSM that is active.
func (s *Service) backUpIfDue(rec *clusterRecord) error {
	if s.vaultIn == "" || len(rec.active()) == 0 {
		return nil
	}
	latest, err := s.latest(rec)
	if err != nil || latest != nil && s.now().Sub(latest.Created) < s.timing.Backup {
		return err
	}
	ctx, cancel := s.within()
	defer cancel()
	active, failure := s.openActive(ctx, rec, "")
	defer active.close()
	if len(active) == 0 {
		return fmt.Errorf("backing %s up: %w", rec.ID, failure)
	}
	return s.backUp(ctx, rec, active[0])
}

// backUp takes a backup of a cluster from one of its HSMs.
func (s *Service) backUp(ctx context.Context, rec *clusterRecord, from *site) error {
	b := &backupRecord{
		ID: newID(cloudhsmapi.ResourceBackup), Account: rec.Account, Region: rec.Region, State: cloudhsmapi.BackupCreateInProgress,
		Created: s.now().UTC(), Maker: s.node, Cluster: rec.ID, RetentionDays: rec.RetentionDays, HsmType: rec.HsmType, Mode: rec.Mode,
		ClusterState: cloudhsmapi.ClusterActive, Certificate: rec.Certificate, TrustAnchor: rec.TrustAnchor,
	}
	if _, err := s.db.Update(ctx, func(tx store.Tx) error { return save(tx, b.path(), b) }); err != nil {
		return err
	}
	s.fault("backup begun")
	if err := s.take(ctx, b, rec, from); err != nil {
		s.dropBackup(b)
		return fmt.Errorf("backing %s up: %w", rec.ID, err)
	}
	s.log.Info("a backup was taken", "cluster", rec.ID, "backup", b.ID, "keys", b.Keys)
	s.event("CreateBackup", b.Account, b.Region, b.arn(), audit.Data{"clusterId": rec.ID, "keys": b.Keys}, nil)
	s.fault("backup taken")
	return nil
}

// take reads the content of a backup and completes it.
func (s *Service) take(ctx context.Context, b *backupRecord, rec *clusterRecord, from *site) error {
	vault, err := s.openVault(ctx)
	if err != nil {
		return err
	}
	defer vault.shared.Close()
	keys, err := hsm.Export(ctx, rec.ID, from.Site, vault.Site, s.log)
	if err != nil {
		return err
	}
	b.Keys = len(keys)
	_, err = s.db.Update(ctx, func(tx store.Tx) error {
		now, err := load[backupRecord](tx, b.path())
		if err != nil || now == nil {
			return errors.Join(errGone, err)
		}
		if b.Users, err = s.copyUsers(tx, rec.usersPath(), b.path()); err != nil {
			return err
		}
		if err := saveContent(tx, b, keys); err != nil {
			return err
		}
		b.State, b.Maker, b.Tags = cloudhsmapi.BackupReady, "", now.Tags
		return save(tx, b.path(), b)
	})
	return err
}

// saveContent writes the keys of a backup, a part to a record.
func saveContent(tx store.Tx, b *backupRecord, keys []hsm.WrappedKey) error {
	b.Chunks = 0
	for part := range slices.Chunk(keys, chunk) {
		if err := save(tx, b.contentPath(b.Chunks), part); err != nil {
			return err
		}
		b.Chunks++
	}
	return nil
}

func loadContent(r store.Reader, b *backupRecord) (keys []hsm.WrappedKey, err error) {
	for n := range b.Chunks {
		part, err := load[[]hsm.WrappedKey](r, b.contentPath(n))
		if err != nil {
			return nil, err
		}
		if part == nil {
			return nil, fmt.Errorf("a part of the content of %s is missing", b.ID)
		}
		keys = append(keys, *part...)
	}
	if len(keys) != b.Keys {
		return nil, fmt.Errorf("%s has %d keys on record, and should have %d", b.ID, len(keys), b.Keys)
	}
	return keys, nil
}

func deleteContent(tx store.Tx, b *backupRecord) error {
	for n := range b.Chunks {
		if err := tx.Delete(b.contentPath(n)); err != nil {
			return err
		}
	}
	return tx.Delete(b.path())
}

// dropBackup removes a backup that could not be completed.
func (s *Service) dropBackup(b *backupRecord) {
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error { return tx.Delete(b.path()) })
	if err != nil && s.ctx.Err() == nil {
		s.log.Error("a backup that is incomplete could not be removed", "backup", b.ID, "error", err)
	}
}

// latest gives the youngest complete backup of a cluster in its own Region, or nil.
func (s *Service) latest(rec *clusterRecord) (latest *backupRecord, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		all, err := scan[backupRecord](r, path(backupPrefix, rec.Account, rec.Region, ""))
		for _, b := range all {
			if b.isOf(rec) && (latest == nil || b.Created.After(latest.Created)) {
				latest = b
			}
		}
		return err
	})
	return latest, err
}

// backupsSince gives the complete backups of a cluster from a time on, in its own Region; none for the zero Time.
func (s *Service) backupsSince(rec *clusterRecord, since time.Time) (out []*backupRecord, err error) {
	if since.IsZero() {
		return nil, nil
	}
	err = s.db.View(s.ctx, func(r store.Reader) error {
		all, err := scan[backupRecord](r, path(backupPrefix, rec.Account, rec.Region, ""))
		for _, b := range all {
			if b.isOf(rec) && !b.Created.Before(since) {
				out = append(out, b)
			}
		}
		return err
	})
	return out, err
}

// isOf tells whether it is a complete backup of a cluster, in its own Region.
func (b *backupRecord) isOf(rec *clusterRecord) bool {
	return b.Cluster == rec.ID && b.State == cloudhsmapi.BackupReady && b.SourceBackup == ""
}

// sourcesOf are the backups that the next HSM of a cluster without HSMs is filled from: the latest of its own, with those that
// its HSMs have left since none is active; or the one that it was made from. None means that there is none.
func (s *Service) sourcesOf(rec *clusterRecord) ([]*backupRecord, error) {
	own, err := s.latest(rec)
	if err != nil {
		return nil, err
	}
	if own != nil {
		left, err := s.backupsSince(rec, rec.Waned)
		left = slices.DeleteFunc(left, func(b *backupRecord) bool { return b.ID == own.ID })
		return append(left, own), err
	}
	if rec.SourceBackup == "" {
		return nil, nil
	}
	var source *backupRecord
	err = s.db.View(s.ctx, func(r store.Reader) error {
		source, err = load[backupRecord](r, rec.SourcePath)
		return err
	})
	if err == nil && source == nil {
		err = fmt.Errorf("the backup %s, which the cluster was made from, was deleted", rec.SourceBackup)
	}
	return []*backupRecord{source}, err
}

// restoreAll gives an HSM the keys of all of the backups.
func (s *Service) restoreAll(ctx context.Context, all []*backupRecord, rec *clusterRecord, to *site) error {
	for _, b := range all {
		if err := s.restoreInto(ctx, b, rec, to); err != nil {
			return err
		}
	}
	return nil
}

// restoreInto gives an HSM the keys of a backup.
func (s *Service) restoreInto(ctx context.Context, b *backupRecord, rec *clusterRecord, made *site) error {
	vault, err := s.openVault(ctx)
	if err != nil {
		return err
	}
	defer vault.shared.Close()
	var keys []hsm.WrappedKey
	err = s.db.View(ctx, func(r store.Reader) error {
		keys, err = loadContent(r, b)
		return err
	})
	if err != nil {
		return err
	}
	if err := hsm.Import(ctx, b.Cluster, rec.ID, vault.Site, keys, made.Site, s.log); err != nil {
		return fmt.Errorf("restoring %s: %w", b.ID, err)
	}
	s.log.Info("an HSM was filled from a backup", "cluster", rec.ID, "hsm", made.ID, "backup", b.ID, "keys", len(keys))
	return nil
}

// waiting is how long a backup that was deleted can be restored.
const waiting = 7 * 24 * time.Hour

// tendBackup deletes a backup that is due, and one whose maker did not complete it.
func (s *Service) tendBackup(b *backupRecord) error {
	switch b.State {
	case cloudhsmapi.BackupCreateInProgress:
		if b.Maker == s.node {
			return nil
		}
		return s.purge(b)
	case cloudhsmapi.BackupPendingDeletion:
		if s.now().Before(b.Deletes) {
			return nil
		}
		return s.purge(b)
	case cloudhsmapi.BackupReady:
		old, err := s.outlived(b)
		if err != nil || !old {
			return err
		}
		return s.purge(b)
	}
	return nil
}

// outlived tells whether a backup is older than its cluster's backups are kept, and is not the last one.
func (s *Service) outlived(b *backupRecord) (old bool, err error) {
	if b.NeverExpires || s.now().Sub(b.Created) < minRetention*24*time.Hour {
		return false, nil
	}
	err = s.db.View(s.ctx, func(r store.Reader) error {
		days := b.RetentionDays
		rec, err := load[clusterRecord](r, path(clusterPrefix, b.Account, b.Region, b.Cluster))
		if err != nil {
			return err
		}
		if rec != nil {
			days = rec.RetentionDays
		}
		if s.now().Sub(b.Created) < time.Duration(days)*24*time.Hour {
			return nil
		}
		all, err := scan[backupRecord](r, path(backupPrefix, b.Account, b.Region, ""))
		old = slices.ContainsFunc(all, func(other *backupRecord) bool {
			return other.Cluster == b.Cluster && other.State == cloudhsmapi.BackupReady && other.Created.After(b.Created)
		})
		return err
	})
	return old, err
}

// purge deletes a backup for good; with the last thing that is wrapped under a cluster key, the
// backup HSM's copy of that goes too.
func (s *Service) purge(b *backupRecord) error {
	last := false
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error {
		now, err := load[backupRecord](tx, b.path())
		if err != nil || now == nil || now.State != b.State {
			return errors.Join(errGone, err)
		}
		if needed, err := neededAsSource(tx, b); err != nil || needed {
			return errors.Join(errGone, err)
		}
		if err := deleteContent(tx, now); err != nil {
			return err
		}
		last, err = unused(tx, b.Cluster)
		return err
	})
	if err != nil {
		if errors.Is(err, errGone) {
			return nil
		}
		return err
	}
	s.log.Info("a backup was deleted", "backup", b.ID, "cluster", b.Cluster)
	if b.State != cloudhsmapi.BackupCreateInProgress {
		s.event("DeleteBackup", b.Account, b.Region, b.arn(), audit.Data{"state": string(cloudhsmapi.BackupDeleted)}, nil)
	}
	if last {
		return s.forgetKey(b.Cluster)
	}
	return nil
}

// neededAsSource tells whether a cluster that was made from the backup waits for its first HSM.
func neededAsSource(r store.Reader, b *backupRecord) (bool, error) {
	all, err := scan[clusterRecord](r, clusterPrefix)
	return slices.ContainsFunc(all, func(rec *clusterRecord) bool {
		return rec.SourcePath == b.path() && !rec.Keyed && rec.State != cloudhsmapi.ClusterDeleted
	}), err
}

// unused tells whether no backup and no cluster has the cluster key of a cluster.
func unused(r store.Reader, clusterID string) (bool, error) {
	backups, err := scan[backupRecord](r, backupPrefix)
	if err != nil || slices.ContainsFunc(backups, func(b *backupRecord) bool { return b.Cluster == clusterID }) {
		return false, err
	}
	clusters, err := scan[clusterRecord](r, clusterPrefix)
	return !slices.ContainsFunc(clusters, func(rec *clusterRecord) bool {
		return rec.ID == clusterID && rec.State != cloudhsmapi.ClusterDeleted
	}), err
}

func (s *Service) forgetKey(clusterID string) error {
	ctx, cancel := s.within()
	defer cancel()
	vault, err := s.openVault(ctx)
	if err != nil {
		return err
	}
	defer vault.shared.Close()
	if err := hsm.Forget(ctx, clusterID, vault.Site); err != nil {
		return fmt.Errorf("destroying the cluster key of %s on the backup HSM: %w", clusterID, err)
	}
	return nil
}

// copyUsers gives the users of a cluster or a backup, sealed for another one.
func (s *Service) copyUsers(r store.Reader, from, to string) ([]byte, error) {
	sealed, ok, err := r.Get(from)
	if err != nil || !ok {
		return nil, err
	}
	return s.resealUsers(from, to, sealed)
}

const userPurpose = "cloudhsm users"

func (s *Service) resealUsers(from, to string, sealed []byte) ([]byte, error) {
	text, err := s.sealer.Open(userPurpose, from, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening the users of %s: %w", strings.TrimPrefix(from, usersPrefix), err)
	}
	return s.sealer.Seal(userPurpose, to, text)
}
