package control

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
	"kastellan.dev/internal/store"
)

// manageBackup finds a backup of the caller's account, for a caller who may do the operation to it.
func (c *call) manageBackup(r store.Reader, id string) (*backupRecord, error) {
	rec, err := load[backupRecord](r, path(backupPrefix, c.caller.Account, c.caller.Region, id))
	if err != nil {
		return nil, err
	}
	if rec == nil {
		if err := c.permit(c.ours(id), nil); err != nil {
			return nil, err
		}
		return nil, backupNotFound(id)
	}
	return rec, c.permitBackup(c.op.Permission, rec)
}

// permitBackup asks the caller's policies and that of the backup. In its own account one of them is enough; a caller
// of another one needs both.
func (c *call) permitBackup(action string, rec *backupRecord) error {
	c.decided = true
	in := c.caller.Inputs()
	in.Owner = rec.Account
	var err error
	if rec.Policy != "" {
		if in.Resource, err = policy.ParseResource([]byte(rec.Policy)); err != nil {
			return fmt.Errorf("reading the resource policy of %s: %w", rec.ID, err)
		}
	}
	request := c.request(action, rec.arn(), rec.Tags)
	decision := policy.ImplicitDeny
	if rec.Policy != "" {
		decision = policy.Decide(&in, request).Decision
	}
	if rec.Account == c.caller.Account && decision == policy.ImplicitDeny {
		decision = policy.IdentityAllows(&in, request)
	}
	if decision == policy.Allow {
		c.about(rec.Account, rec.arn())
		return nil
	}
	return c.denied(action, rec.arn(), decision)
}

// changeBackup changes a backup in one transaction, for a caller who may do the operation to it.
func (c *call) changeBackup(ctx context.Context, id string, fn func(tx store.Tx, rec *backupRecord) error) (*backupRecord, error) {
	return changed(ctx, c, fn, func(r store.Reader) (*backupRecord, error) { return c.manageBackup(r, id) })
}

// must fails unless the backup is in a state.
func (b *backupRecord) must(state cloudhsmapi.BackupState) error {
	if b.State != state {
		return invalid("Backup %s is in the state %s. This operation requires it to be %s.", b.ID, b.State, state)
	}
	return nil
}

func (c *call) deleteBackup(ctx context.Context, in *cloudhsmapi.DeleteBackupRequest) (*cloudhsmapi.DeleteBackupResponse, error) {
	rec, err := c.changeBackup(ctx, in.BackupID, func(_ store.Tx, rec *backupRecord) error {
		if err := rec.must(cloudhsmapi.BackupReady); err != nil {
			return err
		}
		rec.State, rec.Deletes = cloudhsmapi.BackupPendingDeletion, c.s.now().Add(waiting).UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.DeleteBackupResponse{Backup: rec.shown()}, nil
}

func (c *call) restoreBackup(ctx context.Context, in *cloudhsmapi.RestoreBackupRequest) (*cloudhsmapi.RestoreBackupResponse, error) {
	rec, err := c.changeBackup(ctx, in.BackupID, func(_ store.Tx, rec *backupRecord) error {
		if err := rec.must(cloudhsmapi.BackupPendingDeletion); err != nil {
			return err
		}
		rec.State, rec.Deletes, rec.Kept = cloudhsmapi.BackupReady, time.Time{}, c.s.now().UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.RestoreBackupResponse{Backup: rec.shown()}, nil
}

func (c *call) modifyBackupAttributes(ctx context.Context, in *cloudhsmapi.ModifyBackupAttributesRequest) (*cloudhsmapi.ModifyBackupAttributesResponse, error) {
	rec, err := c.changeBackup(ctx, in.BackupID, func(_ store.Tx, rec *backupRecord) error {
		if err := rec.must(cloudhsmapi.BackupReady); err != nil {
			return err
		}
		rec.NeverExpires = *in.NeverExpires
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.ModifyBackupAttributesResponse{Backup: rec.shown()}, nil
}

// copyBackupToRegion copies a backup of the caller's account. One that is shared with it can be restored only.
func (c *call) copyBackupToRegion(ctx context.Context, in *cloudhsmapi.CopyBackupToRegionRequest) (*cloudhsmapi.CopyBackupToRegionResponse, error) {
	var rec, made *backupRecord
	_, err := c.s.db.Update(ctx, func(tx store.Tx) (err error) {
		if rec, err = c.manageBackup(tx, in.BackupID); err != nil {
			return err
		}
		if err := rec.must(cloudhsmapi.BackupReady); err != nil {
			return err
		}
		if err := checkTags(in.TagList); err != nil {
			return err
		}
		if err := c.otherRegion(in.DestinationRegion); err != nil {
			return err
		}
		if err := roomForCopy(tx, c.caller.Account, in.DestinationRegion); err != nil {
			return err
		}
		if made, err = c.s.copyBackup(tx, rec, in); err != nil {
			return err
		}
		return c.permitTags(made.arn(), in.TagList)
	})
	if err != nil {
		return nil, err
	}
	c.about(made.Account, made.arn())
	return &cloudhsmapi.CopyBackupToRegionResponse{DestinationBackup: &cloudhsmapi.DestinationBackup{
		CreateTimestamp: kmsapi.At(made.Created), SourceRegion: made.SourceRegion, SourceBackup: made.SourceBackup, SourceCluster: made.SourceCluster,
	}}, nil
}

// maxBackups is with how many backups an account can fill a Region by copying: AWS tells no limit, and copies cost the store.
const maxBackups = 1000

func roomForCopy(r store.Reader, account, region string) error {
	n := 0
	for _, err := range r.Scan(path(backupPrefix, account, region, "")) {
		if err != nil {
			return err
		}
		n++
	}
	if n >= maxBackups {
		return invalid("The account has %d backups in the Region %s; the limit of copying is %d.", n, region, maxBackups)
	}
	return nil
}

func (c *call) otherRegion(name string) error {
	switch {
	case name == c.caller.Region:
		return invalid("The backup is in the Region %s already.", name)
	case len(c.s.regions) > 0 && !slices.Contains(c.s.regions, name):
		return invalid("The Region %s does not exist.", name)
	default:
		return nil
	}
}

// copyBackup writes a copy of a backup into another Region. Its keys are wrapped as they were.
func (s *Service) copyBackup(tx store.Tx, rec *backupRecord, in *cloudhsmapi.CopyBackupToRegionRequest) (*backupRecord, error) {
	made := *rec
	made.ID, made.Region, made.Copied = newID(cloudhsmapi.ResourceBackup), in.DestinationRegion, s.now().UTC()
	made.SourceBackup, made.SourceCluster, made.SourceRegion = rec.ID, rec.Cluster, rec.Region
	made.NeverExpires, made.Policy, made.Kept = false, "", made.Copied
	if len(in.TagList) > 0 {
		made.Tags = in.TagList
	}
	keys, err := s.loadContent(tx, rec)
	if err != nil {
		return nil, err
	}
	if len(rec.Users) > 0 {
		if made.Users, err = s.resealUsers(rec.path(), made.path(), rec.Users); err != nil {
			return nil, err
		}
	}
	if err := s.saveContent(tx, &made, keys); err != nil {
		return nil, err
	}
	return &made, save(tx, made.path(), &made)
}

func (c *call) describeBackups(ctx context.Context, in *cloudhsmapi.DescribeBackupsRequest) (*cloudhsmapi.DescribeBackupsResponse, error) {
	if err := c.permit("*", nil); err != nil {
		return nil, err
	}
	if err := checkFilters(in.Filters, "backupIds", "sourceBackupIds", "clusterIds", "states", "neverExpires"); err != nil {
		return nil, err
	}
	shared := in.Shared != nil && *in.Shared
	within := path(backupPrefix, c.caller.Account, c.caller.Region, "")
	if shared {
		within = backupPrefix
	}
	var found []*backupRecord
	err := c.s.db.View(ctx, func(r store.Reader) (err error) {
		found, err = scan[backupRecord](r, within)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b *backupRecord) int {
		if in.SortAscending != nil && *in.SortAscending {
			a, b = b, a
		}
		return b.Created.Compare(a.Created)
	})
	show := func(b *backupRecord) bool { return (!shared || c.shared(b)) && b.passes(in.Filters) }
	found, next, err := page(found, show, in.MaxResults, 50, in.NextToken, within)
	if err != nil {
		return nil, err
	}
	out := &cloudhsmapi.DescribeBackupsResponse{NextToken: next, Backups: make([]cloudhsmapi.Backup, 0, len(found))}
	for _, b := range found {
		out.Backups = append(out.Backups, *b.shown())
	}
	return out, nil
}

func (b *backupRecord) passes(filters map[string][]string) bool {
	return passes(filters, "backupIds", b.ID) && passes(filters, "sourceBackupIds", b.SourceBackup) && passes(filters, "clusterIds", b.Cluster) &&
		passes(filters, "states", string(b.State)) && passes(filters, "neverExpires", strconv.FormatBool(b.NeverExpires))
}

// shared tells whether a backup is another account's whose policy lets the caller describe it.
func (c *call) shared(b *backupRecord) bool {
	return b.Account != c.caller.Account && b.Region == c.caller.Region && b.State == cloudhsmapi.BackupReady && b.Policy != "" &&
		c.permitBackup(c.op.Permission, b) == nil
}

// shown is the backup as the API describes it.
func (b *backupRecord) shown() *cloudhsmapi.Backup {
	out := &cloudhsmapi.Backup{
		BackupID: b.ID, BackupARN: b.arn(), BackupState: b.State, ClusterID: b.Cluster, CreateTimestamp: kmsapi.At(b.Created),
		NeverExpires: &b.NeverExpires, SourceRegion: b.SourceRegion, SourceBackup: b.SourceBackup, SourceCluster: b.SourceCluster,
		TagList: b.Tags, HsmType: b.HsmType, Mode: b.Mode,
	}
	if !b.Copied.IsZero() {
		out.CopyTimestamp = kmsapi.At(b.Copied)
	}
	if !b.Deletes.IsZero() {
		out.DeleteTimestamp = kmsapi.At(b.Deletes)
	}
	return out
}

var backupARN = regexp.MustCompile(`^arn:aws[a-z-]*:cloudhsm:([a-z0-9-]+):([0-9]{12}):backup/(backup-[2-7a-zA-Z]{11,16})$`)

// fromBackup makes a new cluster that of a backup: its keys come with the first HSM, users and certificates at once.
func (c *call) fromBackup(tx store.Tx, rec *clusterRecord, in *cloudhsmapi.CreateClusterRequest) error {
	b, err := c.sourceBackup(tx, in.SourceBackupID)
	if err != nil {
		return err
	}
	switch {
	case rec.Mode != "" && rec.Mode != b.Mode:
		return invalid("Backup %s is of a cluster in %s mode; the mode cannot change.", b.ID, b.Mode)
	case b.Mode == cloudhsmapi.NonFIPS && in.HsmType == typeHSM1:
		return invalid("HSMs of the type %s work in FIPS mode only.", typeHSM1)
	case b.HsmType == typeHSM2 && in.HsmType == typeHSM1:
		return invalid("Backup %s is of a cluster with HSMs of the type %s, and cannot be restored to %s.", b.ID, b.HsmType, in.HsmType)
	}
	rec.Mode, rec.SourceBackup, rec.SourcePath, rec.Becomes = b.Mode, b.ID, b.path(), b.ClusterState
	rec.Certificate, rec.TrustAnchor = b.Certificate, b.TrustAnchor
	if len(b.Users) == 0 {
		return nil
	}
	users, err := c.s.resealUsers(b.path(), rec.usersPath(), b.Users)
	if err != nil {
		return err
	}
	return tx.Put(rec.usersPath(), users)
}

// sourceBackup finds the backup that a cluster is to be made from, by its id, or by its ARN if it is another account's.
func (c *call) sourceBackup(r store.Reader, name string) (*backupRecord, error) {
	account, id := c.caller.Account, name
	if strings.HasPrefix(name, "arn:") {
		parts := backupARN.FindStringSubmatch(name)
		if parts == nil || parts[1] != c.caller.Region {
			return nil, invalid("%s is not the ARN of a backup in this Region.", name)
		}
		account, id = parts[2], parts[3]
	}
	b, err := load[backupRecord](r, path(backupPrefix, account, c.caller.Region, id))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, backupNotFound(id)
	}
	if err := c.permitBackup(c.op.Permission, b); err != nil {
		if account != c.caller.Account {
			return nil, backupNotFound(id) // who may not use it is not told that it is there
		}
		return nil, err
	}
	return b, b.must(cloudhsmapi.BackupReady)
}
