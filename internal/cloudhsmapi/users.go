package cloudhsmapi

import (
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Extensions stands before the dot in X-Amz-Target for what AWS's API does not
// have: what the clients of an HSM do at the HSM itself, such as activating a
// cluster and managing its users. The actions of policies are cloudhsm:<operation>,
// on the cluster.
const Extensions = "KastellanHSM"

// UserRole is what a user of a cluster is.
type UserRole string

// The values of UserRole. The first two are those of users that people make.
const (
	RoleAdmin            UserRole = "admin"                    // manages users; uses no keys
	RoleCryptoUser       UserRole = "crypto-user"              // makes and uses keys
	RoleUnactivatedAdmin UserRole = "unactivated-admin"        // the admin until the cluster is activated
	RoleApplianceUser    UserRole = "internal(APPLIANCE_USER)" // keeps the HSMs of the cluster alike; nobody logs in as it
)

// Values lists the enumeration.
func (UserRole) Values() []string {
	return []string{string(RoleAdmin), string(RoleCryptoUser), string(RoleUnactivatedAdmin), string(RoleApplianceUser)}
}

// Consistency is something that each HSM of a cluster has of its own.
type Consistency string

// The values of Consistency.
const (
	OnAll        Consistency = "true"
	OnNone       Consistency = "false"
	Inconsistent Consistency = "inconsistent" // on some of the HSMs and not on others
)

// Values lists the enumeration.
func (Consistency) Values() []string {
	return []string{string(OnAll), string(OnNone), string(Inconsistent)}
}

// CoverageCluster is the ClusterCoverage of a user that all HSMs of the cluster know.
const CoverageCluster = "full"

// User describes a user of a cluster.
type User struct {
	UserName        string      `aws:"UserName"`
	Role            UserRole    `aws:"Role"`
	Locked          Consistency `aws:"Locked"`
	MFA             string      `aws:"Mfa,always"` // the kinds of a second factor; always none
	ClusterCoverage string      `aws:"ClusterCoverage"`
}

// Key describes a key on the HSMs of a cluster that the user of a session can see.
type Key struct {
	Label       string   `aws:"Label,always"`
	ID          string   `aws:"Id,always"` // CKA_ID in hexadecimal
	KeyType     string   `aws:"KeyType"`   // such as aes
	KeyLength   *int32   `aws:"KeyLength"` // bytes
	Sensitive   *bool    `aws:"Sensitive"`
	Extractable *bool    `aws:"Extractable"`
	Hsms        []string `aws:"Hsms,always"` // ids of the HSMs that have it
}

// ActivateClusterRequest is the input of ActivateCluster, which gives the first admin
// of an initialized cluster its password.
type ActivateClusterRequest struct {
	ClusterID string      `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	Password  secret.Text `aws:"Password,required,sensitive" len:"7,32"`
}

// ActivateClusterResponse is the output of ActivateCluster.
type ActivateClusterResponse struct {
	State ClusterState `aws:"State"`
}

// LoginRequest is the input of Login. The role is needed where two users have the name.
type LoginRequest struct {
	ClusterID string      `aws:"ClusterId,required" pattern:"cluster-[2-7a-zA-Z]{11,16}"`
	UserName  string      `aws:"UserName,required" len:"1,31" pattern:"[A-Za-z0-9_.@-]*"`
	Role      UserRole    `aws:"Role"`
	Password  secret.Text `aws:"Password,required,sensitive" len:"1,32"`
}

// LoginResponse is the output of Login.
type LoginResponse struct {
	SessionID secret.Text  `aws:"SessionId,sensitive"` // whoever has it acts as the user
	Role      UserRole     `aws:"Role"`
	Expires   *kmsapi.Time `aws:"Expires"` // at the latest; earlier if nothing is asked for in it
}

// LogoutRequest is the input of Logout.
type LogoutRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
}

// LogoutResponse is the output of Logout: {}.
type LogoutResponse struct{}

// CreateUserRequest is the input of CreateUser, in the session of an admin.
type CreateUserRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
	UserName  string      `aws:"UserName,required" len:"1,31" pattern:"[A-Za-z0-9_.@-]*"`
	Role      UserRole    `aws:"Role,required"`
	Password  secret.Text `aws:"Password,required,sensitive" len:"7,32"`
}

// CreateUserResponse is the output of CreateUser: {}.
type CreateUserResponse struct{}

// DeleteUserRequest is the input of DeleteUser, in the session of an admin.
type DeleteUserRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
	UserName  string      `aws:"UserName,required" len:"1,31" pattern:"[A-Za-z0-9_.@-]*"`
	Role      UserRole    `aws:"Role,required"`
}

// DeleteUserResponse is the output of DeleteUser: {}.
type DeleteUserResponse struct{}

// ListUsersRequest is the input of ListUsers.
type ListUsersRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
}

// ListUsersResponse is the output of ListUsers: all of them, at most 1,024.
type ListUsersResponse struct {
	Users []User `aws:"Users,always"`
}

// ChangePasswordRequest is the input of ChangePassword. Users give the old password when
// they change their own; an admin gives none when it resets that of another user.
type ChangePasswordRequest struct {
	SessionID   secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
	UserName    string      `aws:"UserName,required" len:"1,31" pattern:"[A-Za-z0-9_.@-]*"`
	Role        UserRole    `aws:"Role,required"`
	OldPassword secret.Text `aws:"OldPassword,sensitive" len:"1,32"`
	NewPassword secret.Text `aws:"NewPassword,required,sensitive" len:"7,32"`
}

// ChangePasswordResponse is the output of ChangePassword: {}.
type ChangePasswordResponse struct{}

// UnlockUserRequest is the input of UnlockUser, in the session of an admin.
type UnlockUserRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
	UserName  string      `aws:"UserName,required" len:"1,31" pattern:"[A-Za-z0-9_.@-]*"`
	Role      UserRole    `aws:"Role,required"`
}

// UnlockUserResponse is the output of UnlockUser: {}.
type UnlockUserResponse struct{}

// ListKeysRequest is the input of ListKeys, in the session of a crypto user.
type ListKeysRequest struct {
	SessionID secret.Text `aws:"SessionId,required,sensitive" len:"43,43" pattern:"[A-Za-z0-9_-]+"`
}

// ListKeysResponse is the output of ListKeys: all of them.
type ListKeysResponse struct {
	Keys []Key `aws:"Keys,always"`
}
