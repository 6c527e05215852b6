package control

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// The types of HSMs that AWS documents.
const (
	typeHSM1 = "hsm1.medium" // FIPS only
	typeHSM2 = "hsm2m.medium"
)

// How long backups are kept, in days.
const (
	standardRetention = 90
	minRetention      = 7
	maxRetention      = 379
)

func (c *call) createCluster(ctx context.Context, in *cloudhsmapi.CreateClusterRequest) (*cloudhsmapi.CreateClusterResponse, error) {
	if err := c.permit("*", nil); err != nil {
		return nil, err
	}
	rec, err := c.newCluster(in)
	if err != nil {
		return nil, err
	}
	if err := c.permitTags(rec.arn(), in.TagList); err != nil {
		return nil, err
	}
	_, err = c.s.db.Update(ctx, func(tx store.Tx) error {
		existing, err := scan[clusterRecord](tx, path(clusterPrefix, rec.Account, rec.Region, ""))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(existing, func(other *clusterRecord) bool { return other.ID == rec.ID }) {
			rec.ID = newID(cloudhsmapi.ResourceCluster)
		}
		gone := deleted(existing)
		if n := len(existing) - len(gone); n >= c.s.quotas.Clusters {
			return invalid("The account has %d clusters in this Region; the limit is %d.", n, c.s.quotas.Clusters)
		}
		if err := forgetOldest(tx, gone); err != nil {
			return err
		}
		if in.SourceBackupID != "" {
			if err := c.fromBackup(tx, rec, in); err != nil {
				return err
			}
		}
		return save(tx, rec.path(), rec)
	})
	if err != nil {
		return nil, err
	}
	c.about(rec.Account, rec.arn())
	c.s.kick()
	return &cloudhsmapi.CreateClusterResponse{Cluster: rec.shown()}, nil
}

func deleted(all []*clusterRecord) (gone []*clusterRecord) {
	for _, c := range all {
		if c.State == cloudhsmapi.ClusterDeleted {
			gone = append(gone, c)
		}
	}
	return gone
}

// mostDeleted is how many clusters of an account in a Region linger that were deleted: whoever makes and deletes
// them in a loop would fill the store.
const mostDeleted = 100

func forgetOldest(tx store.Tx, gone []*clusterRecord) error {
	slices.SortFunc(gone, func(a, b *clusterRecord) int { return b.Deleted.Compare(a.Deleted) })
	for _, rec := range gone[min(len(gone), mostDeleted):] {
		if err := forgetCluster(tx, rec); err != nil {
			return err
		}
	}
	return nil
}

// forgetCluster takes a cluster that was deleted off record, unless a token of it waits to be saved: a backup of that needs it.
func forgetCluster(tx store.Tx, rec *clusterRecord) error {
	tokens, err := scan[tokenRecord](tx, tokenPrefix)
	if err != nil || slices.ContainsFunc(tokens, func(t *tokenRecord) bool { return t.Cluster == rec.path() && t.Filled }) {
		return err
	}
	if err := tx.Delete(rec.usersPath()); err != nil {
		return err
	}
	return tx.Delete(rec.path())
}

// newCluster is the cluster that a request describes, but for its source.
func (c *call) newCluster(in *cloudhsmapi.CreateClusterRequest) (*clusterRecord, error) {
	rec := &clusterRecord{
		ID: newID(cloudhsmapi.ResourceCluster), Account: c.caller.Account, Region: c.caller.Region, Created: c.s.now().UTC(),
		State: cloudhsmapi.ClusterCreateInProgress, HsmType: in.HsmType, Mode: in.Mode, NetworkType: in.NetworkType,
		SecurityGroup: newHexID("sg"), RetentionDays: standardRetention, Tags: in.TagList,
	}
	if err := checkType(in.HsmType); err != nil {
		return nil, err
	}
	if rec.Mode == "" && in.SourceBackupID == "" {
		rec.Mode = cloudhsmapi.FIPS
	}
	if rec.Mode == cloudhsmapi.NonFIPS && in.HsmType == typeHSM1 {
		return nil, invalid("HSMs of the type %s work in FIPS mode only.", typeHSM1)
	}
	if rec.NetworkType == "" {
		rec.NetworkType = cloudhsmapi.IPv4
	}
	if rec.NetworkType == cloudhsmapi.DualStack {
		return nil, invalid("The subnets have no IPv6 CIDR blocks, which the network type DUALSTACK needs.")
	}
	if err := checkTags(in.TagList); err != nil {
		return nil, err
	}
	if err := c.chooseSubnets(rec, in.SubnetIDs); err != nil {
		return nil, err
	}
	return rec, rec.keepFor(in.BackupRetentionPolicy)
}

func checkType(hsmType string) error {
	if hsmType != typeHSM1 && hsmType != typeHSM2 {
		return invalid("The HSM type %s is not supported. Supported types are %s and %s.", hsmType, typeHSM1, typeHSM2)
	}
	return nil
}

// keepFor takes a retention policy in, if there is one.
func (c *clusterRecord) keepFor(p *cloudhsmapi.BackupRetentionPolicy) error {
	if p == nil {
		return nil
	}
	days, err := strconv.Atoi(p.Value)
	if err != nil || p.Type != cloudhsmapi.RetentionDays || days < minRetention || days > maxRetention {
		return invalid("A backup retention policy has the type DAYS and a value from %d to %d.", minRetention, maxRetention)
	}
	c.RetentionDays = days
	return nil
}

// chooseSubnets takes the subnets of a cluster in: of one VPC, and at most one in each availability zone.
func (c *call) chooseSubnets(rec *clusterRecord, ids []string) error {
	rec.Subnets = make(map[string]string, len(ids))
	for i, id := range ids {
		subnet, ok := c.s.declared.Subnet(id)
		if !ok || regionOf(subnet.AvailabilityZone) != rec.Region {
			return invalid("The subnet %s does not exist in this Region.", id)
		}
		if i > 0 && subnet.VPC != rec.VPC {
			return invalid("The subnets are not in one VPC: %s is in another one than %s.", id, ids[0])
		}
		if other := rec.Subnets[subnet.AvailabilityZone]; other != "" {
			return invalid("The subnets %s and %s are both in the Availability Zone %s.", other, id, subnet.AvailabilityZone)
		}
		rec.VPC, rec.Subnets[subnet.AvailabilityZone] = subnet.VPC, id
	}
	return nil
}

// regionOf is the Region of an availability zone: its name without the last letter.
func regionOf(zone string) string {
	if zone == "" {
		return ""
	}
	return zone[:len(zone)-1]
}

// manage finds a cluster, for a caller who may do the operation to it.
func (c *call) manage(r store.Reader, id string) (*clusterRecord, error) {
	rec, err := load[clusterRecord](r, path(clusterPrefix, c.caller.Account, c.caller.Region, id))
	if err != nil {
		return nil, err
	}
	var tags []cloudhsmapi.Tag
	if rec != nil {
		tags = rec.Tags
	}
	if err := c.permit(c.ours(id), tags); err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, clusterNotFound(id)
	}
	c.about(rec.Account, rec.arn())
	return rec, nil
}

// change changes a cluster in one transaction, for a caller who may do the operation to it. A cluster that is
// deleted is there to be described only.
func (c *call) change(ctx context.Context, id string, fn func(tx store.Tx, rec *clusterRecord) error) (*clusterRecord, error) {
	return changed(ctx, c, fn, func(r store.Reader) (*clusterRecord, error) {
		rec, err := c.manage(r, id)
		if err == nil && rec.State == cloudhsmapi.ClusterDeleted {
			err = clusterNotFound(id)
		}
		return rec, err
	})
}

func (c *call) modifyCluster(ctx context.Context, in *cloudhsmapi.ModifyClusterRequest) (*cloudhsmapi.ModifyClusterResponse, error) {
	rec, err := c.change(ctx, in.ClusterID, func(_ store.Tx, rec *clusterRecord) error {
		switch {
		case in.BackupRetentionPolicy == nil && in.HsmType == "":
			return invalid("Nothing is to be modified: give a backup retention policy, an HSM type, or both.")
		case rec.State == cloudhsmapi.ClusterDeleteInProgress:
			return rec.wrongState("one that is not being deleted")
		}
		if err := rec.keepFor(in.BackupRetentionPolicy); err != nil {
			return err
		}
		if in.HsmType == "" {
			return nil
		}
		return rec.becomeType(in.HsmType, c.s.now())
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.ModifyClusterResponse{Cluster: rec.shown()}, nil
}

// rollbackWindow is for how long a cluster can get its former type of HSMs back.
const rollbackWindow = 24 * time.Hour

// becomeType begins to change the type of the cluster's HSMs: to the newer one, or back to that of before.
func (c *clusterRecord) becomeType(hsmType string, now time.Time) error {
	if err := checkType(hsmType); err != nil {
		return err
	}
	switch {
	case c.State != cloudhsmapi.ClusterActive:
		return c.wrongState("ACTIVE")
	case hsmType == c.HsmType:
		return invalid("Cluster %s has HSMs of the type %s already.", c.ID, hsmType)
	case hsmType == c.PreviousType && now.Before(c.RollbackUntil):
		c.State, c.HsmType, c.PreviousType, c.RollbackUntil = cloudhsmapi.ClusterRollbackInProgress, hsmType, "", time.Time{}
		return nil
	case c.HsmType != typeHSM1:
		return invalid("Cluster %s cannot change from %s to %s.", c.ID, c.HsmType, hsmType)
	}
	c.State, c.PreviousType, c.HsmType, c.RollbackUntil = cloudhsmapi.ClusterModifyInProgress, c.HsmType, hsmType, now.Add(rollbackWindow).UTC()
	return nil
}

func (c *call) deleteCluster(ctx context.Context, in *cloudhsmapi.DeleteClusterRequest) (*cloudhsmapi.DeleteClusterResponse, error) {
	rec, err := c.change(ctx, in.ClusterID, func(_ store.Tx, rec *clusterRecord) error {
		switch {
		case len(rec.HSMs) > 0:
			return invalid("Cluster %s has %d HSMs. Delete them first.", rec.ID, len(rec.HSMs))
		case rec.State == cloudhsmapi.ClusterDeleteInProgress:
			return rec.wrongState("one that is not being deleted")
		}
		rec.State, rec.Worked = cloudhsmapi.ClusterDeleteInProgress, rec.works()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.DeleteClusterResponse{Cluster: rec.shown()}, nil
}

func (c *call) describeClusters(ctx context.Context, in *cloudhsmapi.DescribeClustersRequest) (*cloudhsmapi.DescribeClustersResponse, error) {
	if err := c.permit("*", nil); err != nil {
		return nil, err
	}
	if err := checkFilters(in.Filters, "clusterIds", "vpcIds", "states"); err != nil {
		return nil, err
	}
	within := path(clusterPrefix, c.caller.Account, c.caller.Region, "")
	var found []*clusterRecord
	err := c.s.db.View(ctx, func(r store.Reader) (err error) {
		found, err = scan[clusterRecord](r, within)
		return err
	})
	if err != nil {
		return nil, err
	}
	show := func(rec *clusterRecord) bool {
		return passes(in.Filters, "clusterIds", rec.ID) && passes(in.Filters, "vpcIds", rec.VPC) && passes(in.Filters, "states", string(rec.shownState()))
	}
	found, next, err := page(found, show, in.MaxResults, 25, in.NextToken, within)
	if err != nil {
		return nil, err
	}
	out := &cloudhsmapi.DescribeClustersResponse{NextToken: next, Clusters: make([]cloudhsmapi.Cluster, 0, len(found))}
	for _, rec := range found {
		out.Clusters = append(out.Clusters, *rec.shown())
	}
	return out, nil
}

// shown is the cluster as the API describes it.
func (c *clusterRecord) shown() *cloudhsmapi.Cluster {
	out := &cloudhsmapi.Cluster{
		BackupPolicy:          cloudhsmapi.BackupPolicyDefault,
		BackupRetentionPolicy: &cloudhsmapi.BackupRetentionPolicy{Type: cloudhsmapi.RetentionDays, Value: strconv.Itoa(c.RetentionDays)},
		ClusterID:             c.ID,
		CreateTimestamp:       kmsapi.At(c.Created),
		HsmType:               c.HsmType,
		SecurityGroup:         c.SecurityGroup,
		SourceBackupID:        c.SourceBackup,
		State:                 c.shownState(),
		StateMessage:          cut(c.StateMessage, maxStateMessage),
		SubnetMapping:         maps.Clone(c.Subnets),
		VpcID:                 c.VPC,
		NetworkType:           c.NetworkType,
		TagList:               c.Tags,
		Mode:                  c.Mode,
		Hsms:                  make([]cloudhsmapi.Hsm, 0, len(c.HSMs)),
	}
	if !c.RollbackUntil.IsZero() {
		out.HsmTypeRollbackExpiration = kmsapi.At(c.RollbackUntil)
	}
	if c.CSR != "" || c.Certificate != "" {
		out.Certificates = &cloudhsmapi.Certificates{ClusterCSR: c.CSR, ClusterCertificate: c.Certificate}
	}
	for i := range c.HSMs {
		out.Hsms = append(out.Hsms, *c.HSMs[i].shown(c.ID))
	}
	return out
}

// maxStateMessage is the longest StateMessage, in bytes.
const maxStateMessage = 300

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
