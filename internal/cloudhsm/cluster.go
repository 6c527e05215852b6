// Package cloudhsm knows the HSM clusters that may stand behind a custom key
// store: their state, certificates, networks and members.
//
// The key store sees a cluster through [Directory] and its subnets through
// [Network]. [Declared] implements both from the server's configuration; a control
// plane that creates and changes clusters can take its place.
//
// The package describes and counts. It opens no token, makes no connection and
// holds no password.
package cloudhsm

import (
	"context"
	"errors"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/pkcs11"
)

// PINFormat tells how the PIN of C_Login is made of user name and password.
type PINFormat string

// The formats.
const (
	PINIsPassword         PINFormat = "password"      // tokens with one user: SoftHSM2, Luna, nShield
	PINIsUserColonAndPass PINFormat = "user:password" // AWS CloudHSM
)

// Replication tells how a key gets from the member that made it to the others.
type Replication string

// The ways.
const (
	ReplicationWrapped Replication = "wrapped" // we carry it, wrapped under a key that only the HSMs hold
	ReplicationModule  Replication = "module"  // the vendor's module or cluster does it by itself
)

// MaxMembers is how many HSMs a cluster can have.
const MaxMembers = 28

// Cluster is a cluster of HSMs. Values are shared: whoever gets one does not
// change what its maps and slices hold.
type Cluster struct {
	ID      string // "cluster-" and 11 to 16 of 2-7a-zA-Z
	Account string // 12 digits
	Region  string
	State   cloudhsmapi.ClusterState // empty: ACTIVE; a key store can use no other

	// TrustAnchor is the self-signed certificate (PEM) that signed the
	// cluster's certificate: customerCA.crt.
	TrustAnchor string
	// ClusterCertificate (PEM) is what clusters restored from one another's
	// backups share. If empty, the trust anchor stands for it.
	ClusterCertificate string

	HsmType              string
	NetworkType          cloudhsmapi.NetworkType // empty: IPV4, which a key store needs
	MTLS                 bool                    // clients have to show a certificate
	SecurityGroupAltered bool                    // its rules no longer let TCP 2223-2225 through in both directions
	SubnetMapping        map[string]string       // availability zone → subnet id
	Members              []Member
	PINFormat            PINFormat   // empty: password
	KeepPassword         bool        // connecting does not change the password: the module has no C_SetPIN
	Replication          Replication // empty: wrapped
}

// Member is one HSM of a cluster.
type Member struct {
	ID               string // "hsm-" and 11 to 16 of 2-7a-zA-Z
	AvailabilityZone string
	IP               string // shown to people; may be empty
	Token            pkcs11.Config
	Managed          bool // who opens it logs in as one of the cluster's users, not with the token's PIN
}

// ErrNotFound: the account has no such cluster in the Region.
var ErrNotFound = errors.New("cloudhsm: no such cluster")

// Directory finds clusters. It answers from memory or nearly so, since it is
// asked while other things wait.
type Directory interface {
	// Cluster gives the account's cluster in the Region, or ErrNotFound.
	Cluster(ctx context.Context, account, region, id string) (Cluster, error)
}

// Errors of [Network]. They are wrapped in a text that names the subnet.
var (
	ErrSubnetNotFound  = errors.New("cloudhsm: no such subnet")
	ErrNoFreeAddresses = errors.New("cloudhsm: no free address in the subnet")
)

// Network lends addresses in the subnets of clusters.
type Network interface {
	// Reserve takes one address in each subnet of the cluster for a key
	// store, all or none. A store that has them already keeps them until
	// everybody who reserved has released. It fails with ErrSubnetNotFound or
	// ErrNoFreeAddresses. release may be called more than once.
	Reserve(storeID string, c Cluster) (release func(), err error)
}
