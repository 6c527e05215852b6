package control

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

// The prefixes of the storage keys. Those of clusters, users and backups are followed by account, Region and id.
const (
	clusterPrefix = "cloudhsm-cluster/"
	usersPrefix   = "cloudhsm-users/"
	tokenPrefix   = "cloudhsm-token/" // pool, token
	backupPrefix  = "cloudhsm-backup/"
	contentPrefix = "cloudhsm-backup-content/" // account, Region, id, number
	forgetPrefix  = "cloudhsm-forget/"         // cluster id
)

func path(prefix, account, region, id string) string {
	return prefix + account + "/" + region + "/" + id
}

// clusterRecord is a cluster with its HSMs as stored. Times are UTC.
type clusterRecord struct {
	ID      string
	Account string
	Region  string
	Created time.Time
	Deleted time.Time `json:",omitzero"` // when it turned DELETED

	State        cloudhsmapi.ClusterState
	StateMessage string `json:",omitempty"`
	HsmType      string
	Mode         cloudhsmapi.ClusterMode
	NetworkType  cloudhsmapi.NetworkType

	Subnets       map[string]string // by availability zone
	VPC           string            `json:",omitempty"`
	SecurityGroup string
	HSMs          []hsmRecord `json:",omitempty"`
	// Waned is the number of the first backup since no HSM is active, if one was. Those from then on hold what is on no HSM that the
	// next one can be filled from.
	Waned      uint64 `json:",omitempty"`
	LastBackup uint64 `json:",omitempty"` // the highest number that a backup of it was given, whatever has become of that
	Tags       []cloudhsmapi.Tag

	RetentionDays int
	SourceBackup  string `json:",omitempty"` // that it was made from,
	SourcePath    string `json:",omitempty"` // and its storage key
	// Becomes is what a cluster that was made from a backup is once it has an HSM.
	Becomes cloudhsmapi.ClusterState `json:",omitempty"`
	// Worked tells that it was activated when it was deleted: a token of it that was out of reach then may have keys that are nowhere else.
	Worked bool `json:",omitempty"`
	// Keyed tells that its HSMs have, or had, a cluster key: the next one gets that, and never one of its own.
	Keyed bool `json:",omitempty"`

	CSR         string `json:",omitempty"` // PEM; until it is initialized
	Certificate string `json:",omitempty"` // PEM; the signed one
	TrustAnchor string `json:",omitempty"` // PEM

	PreviousType  string    `json:",omitempty"` // that it can be rolled back to
	RollbackUntil time.Time `json:",omitzero"`
}

// hsmRecord is one HSM of a cluster.
type hsmRecord struct {
	ID      string
	Zone    string
	Subnet  string
	ENI     string
	IP      string
	Type    string
	State   cloudhsmapi.HsmState
	Message string `json:",omitempty"`
	Created time.Time
	Lost    time.Time `json:",omitzero"` // since when it does not answer; of DEGRADED ones
	Token   rack.Placement
}

// tokenRecord is a token of a pool that is not free: it is part of an HSM, or waits to be wiped.
type tokenRecord struct {
	Placement rack.Placement
	Cluster   string // the storage key of the cluster it was taken for
	HSM       string
	PINs      []byte // sealed
	Identity  string `json:",omitempty"` // the device, if it is known
	Begun     bool   `json:",omitempty"` // it was blank, and may not be any more
	Filled    bool   `json:",omitempty"` // there have been keys on it
	// Wiping: no HSM has it any more. Before it is wiped, keys that only it has are saved.
	Wiping bool `json:",omitempty"`
}

// backupRecord is a backup as stored. Its keys are in records of their own.
type backupRecord struct {
	ID      string
	Account string
	Region  string
	State   cloudhsmapi.BackupState
	Created time.Time
	Copied  time.Time `json:",omitzero"`
	Deletes time.Time `json:",omitzero"` // when it is due to be deleted; of PENDING_DELETION ones
	Kept    time.Time `json:",omitzero"` // since when its age counts, if that is later: it was copied or restored then

	Maker         string // the process that takes it; of CREATE_IN_PROGRESS ones
	Cluster       string // the id of the cluster whose keys these are
	Number        uint64 // the younger one has the higher one, whatever the clock said; of the cluster's, and of their copies
	RetentionDays int    // of the cluster; counts when that is gone
	SourceCluster string `json:",omitempty"` // of a copy
	SourceBackup  string `json:",omitempty"`
	SourceRegion  string `json:",omitempty"`

	HsmType      string
	Mode         cloudhsmapi.ClusterMode
	NeverExpires bool `json:",omitempty"`
	Tags         []cloudhsmapi.Tag
	Policy       string `json:",omitempty"`

	// ClusterState is what the cluster was when the backup was taken, and is again when it is restored.
	ClusterState cloudhsmapi.ClusterState
	Certificate  string
	TrustAnchor  string
	Users        []byte `json:",omitempty"` // sealed
	Chunks       int    // how many records the keys are in
	Keys         int
	Vault        rack.Placement // the backup HSM that has got the cluster key
}

// youngerThan orders the backups of a cluster in a Region, copies of the same one among them.
func (b *backupRecord) youngerThan(other *backupRecord) bool {
	return cmp.Or(cmp.Compare(b.Number, other.Number), b.Copied.Compare(other.Copied), strings.Compare(b.ID, other.ID)) > 0
}

// forgetRecord says that the backup HSM's copy of a cluster key is to be destroyed.
type forgetRecord struct{ Cluster string }

func (c *clusterRecord) path() string      { return path(clusterPrefix, c.Account, c.Region, c.ID) }
func (c *clusterRecord) usersPath() string { return path(usersPrefix, c.Account, c.Region, c.ID) }
func (c *clusterRecord) arn() string {
	return cloudhsmapi.ResourceCluster.ARN(c.Region, c.Account, c.ID)
}
func (t *tokenRecord) path() string  { return tokenPath(t.Placement) }
func (b *backupRecord) path() string { return path(backupPrefix, b.Account, b.Region, b.ID) }
func (b *backupRecord) arn() string  { return cloudhsmapi.ResourceBackup.ARN(b.Region, b.Account, b.ID) }

// contentPath is the storage key of a part of the keys.
func (b *backupRecord) contentPath(n int) string {
	return path(contentPrefix, b.Account, b.Region, b.ID) + fmt.Sprintf("/%05d", n)
}

func tokenPath(p rack.Placement) string { return tokenPrefix + p.Pool + "/" + digest(p.Token) }

// hsm finds an HSM by its id, or gives nil.
func (c *clusterRecord) hsm(id string) *hsmRecord {
	i := slices.IndexFunc(c.HSMs, func(h hsmRecord) bool { return h.ID == id })
	if i < 0 {
		return nil
	}
	return &c.HSMs[i]
}

// active are the HSMs that have all keys.
func (c *clusterRecord) active() (out []*hsmRecord) {
	for i := range c.HSMs {
		if c.HSMs[i].State == cloudhsmapi.HsmActive {
			out = append(out, &c.HSMs[i])
		}
	}
	return out
}

// wane notes that an HSM is not active any more.
func (c *clusterRecord) wane() {
	if len(c.active()) == 0 && c.Waned == 0 {
		c.Waned = c.LastBackup + 1
	}
}

// degraded tells whether an HSM is lost: it has a cluster key, and may be back.
func (c *clusterRecord) degraded() bool {
	return slices.ContainsFunc(c.HSMs, func(h hsmRecord) bool { return h.State == cloudhsmapi.HsmDegraded })
}

// works tells whether the cluster has been activated, whatever happens to its HSMs.
func (c *clusterRecord) works() bool {
	switch c.State {
	case cloudhsmapi.ClusterActive, cloudhsmapi.ClusterModifyInProgress, cloudhsmapi.ClusterRollbackInProgress:
		return true
	default:
		return false
	}
}

// shownState is the state that callers see: that HSMs are lost is not on record for the cluster.
func (c *clusterRecord) shownState() cloudhsmapi.ClusterState {
	if c.State == cloudhsmapi.ClusterActive && c.degraded() {
		return cloudhsmapi.ClusterDegraded
	}
	return c.State
}

// anchored is the cluster as [cloudhsm] compares certificates.
func (c *clusterRecord) anchored() cloudhsm.Cluster {
	return cloudhsm.Cluster{ID: c.ID, TrustAnchor: c.TrustAnchor, ClusterCertificate: c.Certificate}
}

// load gives the record at a storage key, or nil if there is none.
func load[T any](r store.Reader, at string) (*T, error) {
	value, ok, err := r.Get(at)
	if err != nil || !ok {
		return nil, err
	}
	return decode[T](at, value)
}

// existing is load for a record without which there is nothing to do: it fails with errGone if there is none.
func existing[T any](r store.Reader, at string) (*T, error) {
	rec, err := load[T](r, at)
	if err == nil && rec == nil {
		err = errGone
	}
	return rec, err
}

// changeToken changes the record of a token. It fails with errGone if there is none.
func changeToken(tx store.Tx, at rack.Placement, fn func(t *tokenRecord)) error {
	token, err := existing[tokenRecord](tx, tokenPath(at))
	if err != nil {
		return err
	}
	fn(token)
	return save(tx, token.path(), token)
}

// unlessGone makes nothing of a record that is not there.
func unlessGone(err error) error {
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

func decode[T any](at string, value []byte) (*T, error) {
	rec := new(T)
	if err := json.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("reading the record %s: %w", at, err)
	}
	return rec, nil
}

// scan gives all records whose storage keys begin with prefix, in their order.
func scan[T any](r store.Reader, prefix string) (out []*T, err error) {
	for entry, err := range r.Scan(prefix) {
		if err != nil {
			return nil, err
		}
		rec, err := decode[T](entry.Key, entry.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	return out, nil
}

func save(tx store.Tx, at string, rec any) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("writing the record %s: %w", at, err)
	}
	return tx.Put(at, value)
}
