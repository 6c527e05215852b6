package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/keystore/hsm"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// latest gives the youngest complete backup of a cluster in its own Region, or nil.
func (s *Service) latest(rec *clusterRecord) (latest *backupRecord, err error) {
	err = s.db.View(s.ctx, func(r store.Reader) error {
		latest, err = latestIn(r, rec)
		return err
	})
	return latest, err
}

func latestIn(r store.Reader, rec *clusterRecord) (latest *backupRecord, err error) {
	all, err := scan[backupRecord](r, path(backupPrefix, rec.Account, rec.Region, ""))
	for _, b := range all {
		if b.isOf(rec) && (latest == nil || b.youngerThan(latest)) {
			latest = b
		}
	}
	return latest, err
}

// backupsSince gives the complete backups of a cluster from a number on, in its own Region; none for zero.
func (s *Service) backupsSince(rec *clusterRecord, since uint64) (out []*backupRecord, err error) {
	if since == 0 {
		return nil, nil
	}
	err = s.db.View(s.ctx, func(r store.Reader) error {
		all, err := scan[backupRecord](r, path(backupPrefix, rec.Account, rec.Region, ""))
		for _, b := range all {
			if b.isOf(rec) && b.Number >= since {
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
		keys, err = s.loadContent(r, b)
		return err
	})
	if err == nil {
		err = hsm.Import(ctx, b.Cluster, rec.ID, vault.Site, keys, made.Site, s.log)
	}
	if err != nil {
		return kmsapi.Errorf(cloudhsmapi.ServiceFailed, "Backup %s cannot be restored to it. This is tried again; if the backup is damaged, delete it.", b.ID).Because(err)
	}
	s.log.Info("an HSM was filled from a backup", "cluster", rec.ID, "hsm", made.ID, "backup", b.ID, "keys", len(keys))
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
