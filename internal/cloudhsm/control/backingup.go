package control

import (
	"context"
	"errors"
	"fmt"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/store"
)

// backUpIfDue takes the backup that a cluster gets by itself, from any HSM that is active: when the last one is old enough,
// or lies with another backup HSM than there is now.
func (s *Service) backUpIfDue(rec *clusterRecord) error {
	if s.vaultIn == "" || rec.State != cloudhsmapi.ClusterActive || len(rec.active()) == 0 {
		return nil
	}
	due, err := s.backupDue(rec)
	if err != nil || !due {
		return err
	}
	if err := s.compare(rec); err != nil { // one HSM is backed up, which has to have the keys of all
		s.tookBackup(rec, nil, err)
		return fmt.Errorf("backing %s up: %w", rec.ID, err)
	}
	ctx, cancel := s.carrying()
	defer cancel()
	active, failure := s.openActive(ctx, rec, "")
	defer active.close()
	if len(active) == 0 {
		return fmt.Errorf("backing %s up: %w", rec.ID, failure)
	}
	return s.backUp(ctx, rec, active[0], rec.keeps(active[0]))
}

func (s *Service) backupDue(rec *clusterRecord) (due bool, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		latest, err := latestIn(r, rec)
		if err != nil || latest == nil {
			due = err == nil
			return err
		}
		vault, err := s.vaultOnRecord(r)
		due = s.now().Sub(latest.Created).Abs() >= s.timing.Backup || vault == nil || latest.Vault != vault.Placement
		return err
	})
	return due, err
}

// keeps tells whether an HSM is still part of the cluster, with the token that it has. Then nobody has begun to wipe that.
func (c *clusterRecord) keeps(one *site) func(now *clusterRecord) bool {
	token := c.hsm(one.ID).Token
	return func(now *clusterRecord) bool {
		h := now.hsm(one.ID)
		return h != nil && h.Token == token
	}
}

// backUp takes a backup of a cluster from one of its HSMs. It is none unless the HSM is fit for it in the end, if that is asked.
func (s *Service) backUp(ctx context.Context, rec *clusterRecord, from *site, fit func(now *clusterRecord) bool) error {
	b := &backupRecord{
		ID: newID(cloudhsmapi.ResourceBackup), Account: rec.Account, Region: rec.Region, State: cloudhsmapi.BackupCreateInProgress,
		Created: s.now().UTC(), Maker: s.node, Cluster: rec.ID, RetentionDays: rec.RetentionDays, HsmType: rec.HsmType, Mode: rec.Mode,
		ClusterState: cloudhsmapi.ClusterActive, Certificate: rec.Certificate, TrustAnchor: rec.TrustAnchor,
	}
	err := s.take(ctx, b, rec, from, fit)
	s.tookBackup(rec, b, err)
	if err != nil {
		return fmt.Errorf("backing %s up: %w", rec.ID, err)
	}
	s.fault("backup taken")
	return nil
}

// take has the backup on record while it is being taken, unless there is no backup HSM to take it with.
func (s *Service) take(ctx context.Context, b *backupRecord, rec *clusterRecord, from *site, fit func(now *clusterRecord) bool) error {
	vault, err := s.openVault(ctx)
	if err != nil {
		return err
	}
	defer vault.shared.Close()
	b.Vault = vault.at
	_, err = s.db.Update(ctx, func(tx store.Tx) error {
		now, err := existing[clusterRecord](tx, rec.path())
		if err != nil {
			return err
		}
		now.LastBackup++
		b.Number = now.LastBackup
		if err := save(tx, now.path(), now); err != nil {
			return err
		}
		return save(tx, b.path(), b)
	})
	if err != nil {
		return err
	}
	s.fault("backup begun")
	keys, err := hsm.Export(ctx, rec.ID, from.Site, vault.Site, s.log)
	if err == nil {
		err = s.completeBackup(ctx, b, rec, keys, fit)
	}
	if err != nil {
		s.dropBackup(b)
	}
	return err
}

// completeBackup puts what a backup has on record, all of it at once.
func (s *Service) completeBackup(ctx context.Context, b *backupRecord, rec *clusterRecord, keys []hsm.WrappedKey, fit func(now *clusterRecord) bool) error {
	_, err := s.db.Update(ctx, func(tx store.Tx) error {
		now, err := load[backupRecord](tx, b.path())
		if err != nil {
			return err
		}
		if now == nil {
			return errBackupGone
		}
		cluster, err := load[clusterRecord](tx, rec.path())
		if err != nil {
			return err
		}
		if fit != nil && (cluster == nil || !fit(cluster)) {
			return errGone
		}
		if b.Users, err = s.copyUsers(tx, rec.usersPath(), b.path()); err != nil {
			return err
		}
		if err := s.saveContent(tx, b, keys); err != nil {
			return err
		}
		b.State, b.Maker, b.Tags = cloudhsmapi.BackupReady, "", now.Tags
		return save(tx, b.path(), b)
	})
	return err
}

// errBackupGone: somebody took the backup for abandoned.
var errBackupGone = errors.New("the backup is not on record any more")

// tookBackup tells what came of a backup: failures of one cluster in a row are put on record once.
func (s *Service) tookBackup(rec *clusterRecord, b *backupRecord, err error) {
	if err == nil {
		s.metrics.backedUp(rec.ID)
		s.log.Info("a backup was taken", "cluster", rec.ID, "backup", b.ID, "keys", b.Keys)
		s.event("CreateBackup", b.Account, b.Region, b.arn(), audit.Data{"clusterId": rec.ID, "keys": b.Keys}, nil)
		return
	}
	if s.ctx.Err() != nil || errors.Is(err, errGone) {
		return
	}
	if first := s.metrics.backupFailed(rec.ID); !first {
		return // the reconciler logs each
	}
	s.log.Error("a cluster cannot be backed up", "cluster", rec.ID, "error", err)
	s.event("CreateBackup", rec.Account, rec.Region, rec.arn(), audit.Data{"clusterId": rec.ID}, err)
}

// dropBackup removes a backup that could not be completed.
func (s *Service) dropBackup(b *backupRecord) {
	_, err := s.db.Update(s.ctx, func(tx store.Tx) error { return tx.Delete(b.path()) })
	if err != nil && s.ctx.Err() == nil {
		s.log.Error("a backup that is incomplete could not be removed", "backup", b.ID, "error", err)
	}
}
