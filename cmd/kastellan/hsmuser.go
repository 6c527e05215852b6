package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/secret"
)

type hsmUserCmd struct {
	Create         hsmUserCreateCmd         `cmd:"" help:"Make a user."`
	Delete         hsmUserDeleteCmd         `cmd:"" help:"Delete a user."`
	List           hsmUserListCmd           `cmd:"" help:"List the users, and where they are locked."`
	ChangePassword hsmUserChangePasswordCmd `cmd:"" help:"Give a user another password, which also unlocks the user."`
	Unlock         hsmUserUnlockCmd         `cmd:"" help:"Unlock a user that five wrong passwords in a row have locked."`
}

// hsmAdminFlags say which cluster and which admin.
type hsmAdminFlags struct {
	hsmFlags
	Admin             string `default:"admin" help:"The admin to log in as; without it, admin." placeholder:"NAME"`
	AdminPasswordFile string `help:"The file of its password; without it, the variable KASTELLAN_HSM_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
}

// as runs fn in a session of the admin.
func (f hsmAdminFlags) as(ctx context.Context, term terminal, fn func(*hsmSession) error) error {
	source := passwordSource{file: f.AdminPasswordFile, env: hsmPasswordEnv, flag: "--admin-password-file", of: f.Admin}
	return f.within(ctx, term, f.Admin, cloudhsmapi.RoleAdmin, source, func(s *hsmSession, _ secret.Text) error { return fn(s) })
}

// within runs fn in a session of a user, and logs out. fn is told the user's password.
func (f hsmFlags) within(ctx context.Context, term terminal, user string, role cloudhsmapi.UserRole, source passwordSource, fn func(*hsmSession, secret.Text) error) error {
	client, err := f.hsmClient()
	if err != nil {
		return err
	}
	password, err := source.read(ctx, term)
	if err != nil {
		return err
	}
	session, err := hsmLogin(ctx, client, f.ClusterID, user, role, password)
	if err != nil {
		return err
	}
	defer session.logout(ctx, term)
	return fn(session, password)
}

// hsmUserArgs say which user.
type hsmUserArgs struct {
	Name string               `arg:"" help:"The user's name."`
	Role cloudhsmapi.UserRole `default:"crypto-user" enum:"crypto-user,admin" help:"The user's role: crypto-user or admin."`
}

// newPassword is where the password that the user gets comes from.
func (a hsmUserArgs) newPassword(file string) passwordSource {
	return passwordSource{file: file, env: hsmNewPasswordEnv, flag: "--password-file", of: a.Name, fresh: true}
}

type hsmUserCreateCmd struct {
	hsmAdminFlags
	hsmUserArgs
	PasswordFile string `help:"The file of the new user's password; without it, the variable KASTELLAN_HSM_NEW_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
}

// Run makes the user.
func (c *hsmUserCreateCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession) error {
		password, err := c.newPassword(c.PasswordFile).read(ctx, term)
		if err != nil {
			return err
		}
		return s.createUser(ctx, term.out, c.hsmUserArgs, password)
	})
}

type hsmUserDeleteCmd struct {
	hsmAdminFlags
	hsmUserArgs
}

// Run deletes the user.
func (c *hsmUserDeleteCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession) error { return s.deleteUser(ctx, term.out, c.hsmUserArgs) })
}

type hsmUserListCmd struct {
	hsmAdminFlags
	JSON bool `name:"json" help:"Print the server's answer as JSON."`
}

// Run lists the users.
func (c *hsmUserListCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession) error { return s.listUsers(ctx, term.out, c.JSON) })
}

type hsmUserChangePasswordCmd struct {
	hsmAdminFlags
	hsmUserArgs
	Own             bool   `help:"The user changes its own password, and logs in with the old one instead of the admin."`
	OldPasswordFile string `help:"With --own, the file of the old password; without it, the variable KASTELLAN_HSM_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
	PasswordFile    string `help:"The file of the new password; without it, the variable KASTELLAN_HSM_NEW_PASSWORD, or it is asked for." placeholder:"FILE" type:"existingfile"`
}

// Run changes the password.
func (c *hsmUserChangePasswordCmd) Run(ctx context.Context, term terminal) error {
	logsIn := hsmUserArgs{Name: c.Admin, Role: cloudhsmapi.RoleAdmin}
	source := passwordSource{file: c.AdminPasswordFile, env: hsmPasswordEnv, flag: "--admin-password-file", of: c.Admin}
	if c.Own {
		logsIn = c.hsmUserArgs
		source = passwordSource{file: c.OldPasswordFile, env: hsmPasswordEnv, flag: "--old-password-file", of: c.Name}
	}
	return c.within(ctx, term, logsIn.Name, logsIn.Role, source, func(s *hsmSession, old secret.Text) error {
		password, err := c.newPassword(c.PasswordFile).read(ctx, term)
		if err != nil {
			return err
		}
		if logsIn != c.hsmUserArgs {
			old = secret.Text{}
		}
		return s.changePassword(ctx, term.out, c.hsmUserArgs, old, password)
	})
}

type hsmUserUnlockCmd struct {
	hsmAdminFlags
	hsmUserArgs
}

// Run unlocks the user.
func (c *hsmUserUnlockCmd) Run(ctx context.Context, term terminal) error {
	return c.as(ctx, term, func(s *hsmSession) error { return s.unlockUser(ctx, term.out, c.hsmUserArgs) })
}

func (s *hsmSession) createUser(ctx context.Context, w io.Writer, a hsmUserArgs, password secret.Text) error {
	in := cloudhsmapi.CreateUserRequest{SessionID: s.id, UserName: a.Name, Role: a.Role, Password: password}
	_, err := hsmCall[cloudhsmapi.CreateUserResponse](ctx, s.client, "CreateUser", in)
	return a.done(w, "making", "is made", err)
}

func (s *hsmSession) deleteUser(ctx context.Context, w io.Writer, a hsmUserArgs) error {
	in := cloudhsmapi.DeleteUserRequest{SessionID: s.id, UserName: a.Name, Role: a.Role}
	_, err := hsmCall[cloudhsmapi.DeleteUserResponse](ctx, s.client, "DeleteUser", in)
	return a.done(w, "deleting", "is deleted", err)
}

// changePassword is told the old password if the user changes its own.
func (s *hsmSession) changePassword(ctx context.Context, w io.Writer, a hsmUserArgs, old, to secret.Text) error {
	in := cloudhsmapi.ChangePasswordRequest{SessionID: s.id, UserName: a.Name, Role: a.Role, OldPassword: old, NewPassword: to}
	_, err := hsmCall[cloudhsmapi.ChangePasswordResponse](ctx, s.client, "ChangePassword", in)
	return a.done(w, "changing the password of", "has another password", err)
}

func (s *hsmSession) unlockUser(ctx context.Context, w io.Writer, a hsmUserArgs) error {
	in := cloudhsmapi.UnlockUserRequest{SessionID: s.id, UserName: a.Name, Role: a.Role}
	_, err := hsmCall[cloudhsmapi.UnlockUserResponse](ctx, s.client, "UnlockUser", in)
	return a.done(w, "unlocking", "is unlocked", err)
}

// done says what came of a change.
func (a hsmUserArgs) done(w io.Writer, doing, done string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", doing, a.Role, a.Name, err)
	}
	_, err = fmt.Fprintf(w, "%s %s %s\n", a.Role, a.Name, done)
	return err
}

func (s *hsmSession) listUsers(ctx context.Context, w io.Writer, asJSON bool) error {
	answer, err := hsmCall[cloudhsmapi.ListUsersResponse](ctx, s.client, "ListUsers", cloudhsmapi.ListUsersRequest{SessionID: s.id})
	if err != nil {
		return fmt.Errorf("listing the users of %s: %w", s.cluster, err)
	}
	if asJSON {
		return writeJSON(w, answer)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tROLE\tLOCKED\tCOVERAGE")
	for _, u := range answer.Users {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(u.UserName), printable(string(u.Role)), printable(string(u.Locked)), printable(u.ClusterCoverage))
	}
	return table.Flush()
}
