package control

import (
	"fmt"
	"slices"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// waiting is how long a backup that was deleted can be restored.
const waiting = 7 * 24 * time.Hour

// abandoned is how old a backup that is still being taken may get. It takes minutes at most.
const abandoned = time.Hour

// tendBackup deletes a backup that is due, and one whose maker did not complete it.
func (s *Service) tendBackup(b *backupRecord) error {
	switch b.State {
	case cloudhsmapi.BackupCreateInProgress:
		if (b.Maker == s.node || !s.db.Exclusive()) && s.now().Sub(b.Created) < abandoned {
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

// outlived tells whether a backup is older than its cluster's backups are kept, and is not the last one, nor one of those
// that the next HSM is filled from while there is none.
func (s *Service) outlived(b *backupRecord) (old bool, err error) {
	if b.NeverExpires || s.now().Sub(b.keptSince()) < minRetention*24*time.Hour {
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
			if b.isOf(rec) && rec.Waned > 0 && b.Number >= rec.Waned {
				return nil
			}
		}
		if s.now().Sub(b.keptSince()) < time.Duration(days)*24*time.Hour {
			return nil
		}
		all, err := scan[backupRecord](r, path(backupPrefix, b.Account, b.Region, ""))
		old = slices.ContainsFunc(all, func(other *backupRecord) bool {
			return other.Cluster == b.Cluster && other.State == cloudhsmapi.BackupReady && other.youngerThan(b)
		})
		return err
	})
	return old, err
}

// keptSince is when the time began that the backup is kept for.
func (b *backupRecord) keptSince() time.Time {
	if b.Kept.After(b.Created) {
		return b.Kept
	}
	return b.Created
}

// purge deletes a backup for good; with the last thing that is wrapped under a cluster key, the
// backup HSM's copy of that goes too.
func (s *Service) purge(b *backupRecord) error {
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error {
		now, err := existing[backupRecord](tx, b.path())
		if err != nil {
			return err
		}
		needed, err := neededAsSource(tx, b)
		if err != nil {
			return err
		}
		if needed || now.State != b.State || now.NeverExpires != b.NeverExpires || !now.Deletes.Equal(b.Deletes) {
			return errGone
		}
		if err := deleteContent(tx, now); err != nil {
			return err
		}
		return s.forgetLater(tx, b.Cluster)
	})
	if err != nil {
		return unlessGone(err)
	}
	s.log.Info("a backup was deleted", "backup", b.ID, "cluster", b.Cluster)
	if b.State != cloudhsmapi.BackupCreateInProgress {
		s.event("DeleteBackup", b.Account, b.Region, b.arn(), audit.Data{"state": string(cloudhsmapi.BackupDeleted)}, nil)
	}
	s.kick()
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

// forgetLater notes that the backup HSM's copy of a cluster key is to be destroyed, if nothing needs it any more. No
// cluster and no backup can come to need it again.
func (s *Service) forgetLater(tx store.Tx, clusterID string) error {
	gone, err := unused(tx, clusterID)
	if err != nil || !gone || s.vaultIn == "" {
		return err
	}
	return save(tx, forgetPrefix+clusterID, forgetRecord{Cluster: clusterID})
}

// forgetKey destroys the backup HSM's copy of a cluster key.
func (s *Service) forgetKey(of *forgetRecord) error {
	ctx, cancel := s.within()
	defer cancel()
	needed := true
	err := s.db.View(ctx, func(r store.Reader) error {
		gone, err := unused(r, of.Cluster)
		needed = !gone
		return err
	})
	if err != nil || needed {
		return err
	}
	vault, err := s.openVault(ctx)
	if err != nil {
		return err
	}
	defer vault.shared.Close()
	if err := hsm.Forget(ctx, of.Cluster, vault.Site); err != nil {
		return fmt.Errorf("destroying the cluster key of %s on the backup HSM: %w", of.Cluster, err)
	}
	_, err = s.db.Update(ctx, func(tx store.Tx) error { return tx.Delete(forgetPrefix + of.Cluster) })
	if err == nil {
		s.log.Info("a cluster key that nothing needs any more was destroyed on the backup HSM", "cluster", of.Cluster)
	}
	return err
}
