package control

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

// Extensions is the table of what AWS's API does not have: what clients of an HSM do at the HSM itself.
func Extensions() []*Operation { return slices.Clone(extensions) }

var extensions = []*Operation{
	operation("ActivateCluster", (*call).activateCluster),
	operation("ChangePassword", (*call).changePassword),
	operation("CreateUser", (*call).createUser),
	operation("DeleteUser", (*call).deleteUser),
	reading("ListKeys", (*call).listKeys),
	reading("ListUsers", (*call).listUsers),
	operation("Login", (*call).login),
	operation("Logout", (*call).logout),
	operation("UnlockUser", (*call).unlockUser),
}

// reachable finds a cluster that users can be at: it is initialized, and has an HSM.
func (c *call) reachable(r store.Reader, id string) (*clusterRecord, error) {
	rec, err := c.manage(r, id)
	switch {
	case err != nil:
		return nil, err
	case rec.State != cloudhsmapi.ClusterInitialized && !rec.works():
		return nil, rec.wrongState("INITIALIZED or ACTIVE")
	case len(rec.active()) == 0:
		return nil, onWire(errNoHSM)
	}
	return rec, nil
}

func (c *call) activateCluster(ctx context.Context, in *cloudhsmapi.ActivateClusterRequest) (*cloudhsmapi.ActivateClusterResponse, error) {
	err := c.s.db.View(ctx, func(r store.Reader) error {
		_, err := c.reachable(r, in.ClusterID)
		return err
	})
	if err != nil {
		return nil, err
	}
	admin, err := userTable{Rounds: c.s.rounds}.newUser(firstAdmin, cloudhsmapi.RoleAdmin, in.Password)
	if err != nil {
		return nil, onWire(err)
	}
	_, err = c.s.db.Update(ctx, func(tx store.Tx) error {
		rec, err := c.reachable(tx, in.ClusterID)
		if err != nil {
			return err
		}
		table, err := c.s.readUsers(tx, rec.usersPath())
		if err != nil {
			return err
		}
		if err := table.activate(admin); err != nil {
			return onWire(err)
		}
		if err := c.s.writeUsers(tx, rec.usersPath(), &table); err != nil {
			return err
		}
		rec.State = cloudhsmapi.ClusterActive
		return save(tx, rec.path(), rec)
	})
	if err != nil {
		return nil, err
	}
	c.s.fault("cluster activated")
	c.s.changed(in.ClusterID)
	c.s.kick()
	return &cloudhsmapi.ActivateClusterResponse{State: cloudhsmapi.ClusterActive}, nil
}

func (c *call) login(ctx context.Context, in *cloudhsmapi.LoginRequest) (*cloudhsmapi.LoginResponse, error) {
	var rec *clusterRecord
	var table userTable
	err := c.s.db.View(ctx, func(r store.Reader) (err error) {
		if rec, err = c.reachable(r, in.ClusterID); err != nil {
			return err
		}
		table, err = c.s.readUsers(r, rec.usersPath())
		return err
	})
	if err != nil {
		return nil, err
	}
	role := in.Role
	if role == "" {
		if role, err = table.role(in.UserName); errors.Is(err, errNoUser) {
			role, err = cloudhsmapi.RoleCryptoUser, nil // which then fails as slowly as a wrong password does
		}
	}
	if err != nil {
		return nil, onWire(err)
	}
	var id secret.Text
	var begun session
	begin := func() (func(), error) {
		id, begun, err = c.s.sessions.begin(rec.usersPath(), in.UserName, role)
		return func() { _ = c.s.sessions.end(id) }, err
	}
	if err := c.s.verify(ctx, rec.usersPath(), in.UserName, role, in.Password, begin, idsOf(rec.active())...); err != nil {
		return nil, onWireOfLogin(err)
	}
	return &cloudhsmapi.LoginResponse{SessionID: id, Role: role, Expires: kmsapi.At(begun.Expires)}, nil
}

func idsOf(hsms []*hsmRecord) (ids []string) {
	for _, h := range hsms {
		ids = append(ids, h.ID)
	}
	return ids
}

// within gives the session that a request is made in, and its cluster, for a caller who may do the operation at
// that. Sessions that there are not are refused like those of clusters that the caller may not reach.
func (c *call) within(ctx context.Context, id secret.Text) (session, *clusterRecord, error) {
	found, err := c.s.sessions.use(id)
	if err != nil {
		if denied := c.permit("*", nil); denied != nil {
			return session{}, nil, denied
		}
		return session{}, nil, onWire(err)
	}
	owner, clusterID := ownerOf(found.Cluster)
	if owner != path("", c.caller.Account, c.caller.Region, "") {
		if denied := c.permit("*", nil); denied != nil {
			return session{}, nil, denied
		}
		return session{}, nil, onWire(errNoSession)
	}
	var rec *clusterRecord
	err = c.s.db.View(ctx, func(r store.Reader) error {
		rec, err = c.reachable(r, clusterID)
		return err
	})
	return found, rec, err
}

// ownerOf takes the storage key of a cluster's users apart: account and Region with slashes, and the cluster's id.
func ownerOf(users string) (owner, clusterID string) {
	rest := strings.TrimPrefix(users, usersPrefix)
	i := strings.LastIndexByte(rest, '/') + 1
	return rest[:i], rest[i:]
}

// asAdmin is within for what admins do.
func (c *call) asAdmin(ctx context.Context, id secret.Text) (session, *clusterRecord, error) {
	found, rec, err := c.within(ctx, id)
	if err == nil && found.Role != cloudhsmapi.RoleAdmin {
		err = kmsapi.Errorf(cloudhsmapi.AccessDenied, "The user %s is not an admin of the cluster.", found.Name)
	}
	return found, rec, err
}

func (c *call) logout(ctx context.Context, in *cloudhsmapi.LogoutRequest) (*cloudhsmapi.LogoutResponse, error) {
	if _, _, err := c.within(ctx, in.SessionID); err != nil {
		return nil, err
	}
	if err := c.s.sessions.end(in.SessionID); err != nil {
		return nil, onWire(err)
	}
	return &cloudhsmapi.LogoutResponse{}, nil
}

func (c *call) createUser(ctx context.Context, in *cloudhsmapi.CreateUserRequest) (*cloudhsmapi.CreateUserResponse, error) {
	_, rec, err := c.asAdmin(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	made, err := userTable{Rounds: c.s.rounds}.newUser(in.UserName, in.Role, in.Password)
	if err != nil {
		return nil, onWire(err)
	}
	err = c.s.changeUsers(ctx, rec.usersPath(), func(_ store.Tx, t *userTable) (bool, error) { return true, t.create(made) })
	if err != nil {
		return nil, onWire(err)
	}
	c.s.fault("user created")
	return &cloudhsmapi.CreateUserResponse{}, nil
}

func (c *call) deleteUser(ctx context.Context, in *cloudhsmapi.DeleteUserRequest) (*cloudhsmapi.DeleteUserResponse, error) {
	_, rec, err := c.asAdmin(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	err = c.s.changeUsers(ctx, rec.usersPath(), func(_ store.Tx, t *userTable) (bool, error) { return true, t.delete(in.UserName, in.Role) })
	if err != nil {
		return nil, onWire(err)
	}
	c.s.fault("user deleted")
	c.s.sessions.endUser(rec.usersPath(), in.UserName, in.Role)
	return &cloudhsmapi.DeleteUserResponse{}, nil
}

func (c *call) listUsers(ctx context.Context, in *cloudhsmapi.ListUsersRequest) (*cloudhsmapi.ListUsersResponse, error) {
	_, rec, err := c.within(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	table, err := c.s.loadUsers(ctx, rec.usersPath())
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.ListUsersResponse{Users: table.list(idsOf(rec.active()))}, nil
}

// changePassword changes the user's own password, by the old one; or that of another user, for an admin. The
// kmsuser's is not changed while a key store uses it: the store would lose its HSMs one by one.
func (c *call) changePassword(ctx context.Context, in *cloudhsmapi.ChangePasswordRequest) (*cloudhsmapi.ChangePasswordResponse, error) {
	by, rec, err := c.within(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	own := by.Name == in.UserName && by.Role == in.Role
	switch {
	case own && in.OldPassword.IsEmpty():
		return nil, invalid("Changing one's own password needs the old one.")
	case own:
		err = c.s.verify(ctx, rec.usersPath(), in.UserName, in.Role, in.OldPassword, nil, idsOf(rec.active())...)
	case by.Role != cloudhsmapi.RoleAdmin:
		err = kmsapi.Errorf(cloudhsmapi.AccessDenied, "The user %s is not an admin, and can change its own password only.", by.Name)
	}
	if err == nil {
		err = c.s.setPassword(ctx, rec.usersPath(), in.UserName, in.Role, in.NewPassword)
	}
	if err != nil {
		return nil, onWire(err)
	}
	return &cloudhsmapi.ChangePasswordResponse{}, nil
}

func (c *call) unlockUser(ctx context.Context, in *cloudhsmapi.UnlockUserRequest) (*cloudhsmapi.UnlockUserResponse, error) {
	_, rec, err := c.asAdmin(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	err = c.s.changeUsers(ctx, rec.usersPath(), func(_ store.Tx, t *userTable) (bool, error) { return true, t.unlock(in.UserName, in.Role) })
	if err != nil {
		return nil, onWire(err)
	}
	return &cloudhsmapi.UnlockUserResponse{}, nil
}

// listKeys lists what the user owns. All keys of a managed cluster are made by key stores, as the kmsuser.
func (c *call) listKeys(ctx context.Context, in *cloudhsmapi.ListKeysRequest) (*cloudhsmapi.ListKeysResponse, error) {
	by, rec, err := c.within(ctx, in.SessionID)
	if err != nil {
		return nil, err
	}
	out := &cloudhsmapi.ListKeysResponse{Keys: []cloudhsmapi.Key{}}
	switch {
	case by.Role != cloudhsmapi.RoleCryptoUser:
		return nil, kmsapi.Errorf(cloudhsmapi.AccessDenied, "The user %s is not a crypto user, and sees no keys.", by.Name)
	case by.Name != kmsuser:
		return out, nil
	}
	active, failure := c.s.openActive(ctx, rec, "")
	defer active.close()
	if len(active) == 0 {
		return nil, kmsapi.Errorf(cloudhsmapi.ServiceFailed, "No HSM of the cluster can be reached.").Because(failure)
	}
	seen := make(map[string]int)
	for _, one := range active {
		if err := c.listOn(ctx, one, seen, out); err != nil {
			return nil, kmsapi.Errorf(cloudhsmapi.ServiceFailed, "The keys of HSM %s could not be listed.", one.ID).Because(err)
		}
	}
	return out, nil
}

// listOn adds the keys of an HSM to the list, which seen is the index of.
func (c *call) listOn(ctx context.Context, one *site, seen map[string]int, out *cloudhsmapi.ListKeysResponse) error {
	objects, err := one.Token.ListKeys(ctx)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if !strings.HasPrefix(o.Label, "arn:") {
			continue // the cluster's own, which the appliance keeps
		}
		name := o.Label + "\x00" + string(o.ID)
		i, known := seen[name]
		if !known {
			key, err := describeKey(ctx, one.Token, o)
			if err != nil {
				return err
			}
			i, seen[name] = len(out.Keys), len(out.Keys)
			out.Keys = append(out.Keys, key)
		}
		if hsms := &out.Keys[i].Hsms; !slices.Contains(*hsms, one.ID) {
			*hsms = append(*hsms, one.ID)
		}
	}
	return nil
}

func describeKey(ctx context.Context, token pkcs11.Token, o pkcs11.Object) (cloudhsmapi.Key, error) {
	a, err := token.Attributes(ctx, o.Handle)
	if err != nil {
		return cloudhsmapi.Key{}, err
	}
	const bytes = 32 // every key of a managed cluster is an AES-256 key; SoftHSM2 does not tell of one that was unwrapped
	length := int32(bytes)
	return cloudhsmapi.Key{
		Label: o.Label, ID: hex.EncodeToString(o.ID), KeyType: "aes", KeyLength: &length,
		Sensitive: &a.Sensitive, Extractable: &a.Extractable,
	}, nil
}
