package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
)

// logoutLimit is how long the end of a session may take when the program is told to stop.
const logoutLimit = 5 * time.Second

// hsmSession is a user's session at a cluster.
type hsmSession struct {
	client  *kmsclient.Client
	cluster string
	user    string
	role    cloudhsmapi.UserRole
	expires time.Time
	id      secret.Text
}

// hsmLogin begins a session. The role may be empty where one user has the name.
func hsmLogin(ctx context.Context, client *kmsclient.Client, cluster, user string, role cloudhsmapi.UserRole, password secret.Text) (*hsmSession, error) {
	in := cloudhsmapi.LoginRequest{ClusterID: cluster, UserName: user, Role: role, Password: password}
	answer, err := hsmCall[cloudhsmapi.LoginResponse](ctx, client, "Login", in)
	if err != nil {
		return nil, fmt.Errorf("logging in to %s as %s: %w", cluster, user, err)
	}
	s := &hsmSession{client: client, cluster: cluster, user: user, role: answer.Role, id: answer.SessionID}
	if answer.Expires != nil {
		s.expires = answer.Expires.Time
	}
	return s, nil
}

// logout ends the session, also when the program is told to stop. A session that has ended by
// itself is fine; of another that stays somebody may have to know.
func (s *hsmSession) logout(ctx context.Context, term terminal) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutLimit)
	defer cancel()
	_, err := hsmCall[cloudhsmapi.LogoutResponse](ctx, s.client, "Logout", cloudhsmapi.LogoutRequest{SessionID: s.id})
	if err != nil && kmsapi.CodeOf(err) != cloudhsmapi.AccessDenied {
		complain(term.err, withHint(fmt.Errorf("logging out: %w", err), "the session ends by itself after ten minutes without use"))
	}
}

// hsmCall runs an operation that AWS's API does not have. What the server refuses comes with a hint.
func hsmCall[Out any](ctx context.Context, client *kmsclient.Client, operation string, in any) (*Out, error) {
	var body json.RawMessage
	target := cloudhsmapi.Extensions + "." + operation
	if err := client.Call(ctx, target, json.RawMessage(awsjson.Append(nil, in)), &body); err != nil {
		if hint := hsmHint(operation, kmsapi.CodeOf(err)); hint != "" {
			return nil, withHint(err, "%s", hint)
		}
		return nil, err
	}
	out := new(Out)
	if err := awsjson.Decode(body, out); err != nil {
		return nil, fmt.Errorf("decoding the answer to %s: %w", operation, err)
	}
	return out, nil
}

// hsmHint says what to do about a refusal.
func hsmHint(operation string, code kmsapi.Code) string {
	switch code {
	case cloudhsmapi.AccessDenied:
		switch operation {
		case "Login":
			return "the caller needs cloudhsm:Login on the cluster, and the user the right password; " +
				"five wrong ones in a row lock a user, whom `kastellan hsm user unlock` unlocks"
		case "ActivateCluster":
			return "the caller needs cloudhsm:ActivateCluster on the cluster"
		default:
			return "the caller needs cloudhsm:" + operation + " on the cluster, and the session must be one of a user who may do so; " +
				"sessions end after ten minutes without use"
		}
	case cloudhsmapi.ResourceNotFound:
		switch operation {
		case "ActivateCluster", "Login":
			return "DescribeClusters lists the clusters of the account in the Region"
		default:
			return "`kastellan hsm user list` shows users and their roles; --role says which is meant"
		}
	case cloudhsmapi.InvalidRequest:
		switch operation {
		case "ActivateCluster":
			return "a cluster is activated once, when it is INITIALIZED and has an HSM: DescribeClusters tells; a password has 7 to 32 characters"
		case "Login":
			return "the cluster must be activated and have an HSM; the kmsuser has one session at a time: disconnect the key store first"
		case "CreateUser":
			return "a password has 7 to 32 characters, the kmsuser's letters and digits only; `kastellan hsm user list` shows who there is"
		case "ChangePassword":
			return "a password has 7 to 32 characters, the kmsuser's letters and digits only; while its key store is connected " +
				"the kmsuser's is not changed: disconnect the key store first"
		}
	case kmsapi.UnknownOperation:
		return "this server has no HSM clusters of its own: look at --endpoint-url"
	}
	return ""
}

// writeJSON prints an answer as the server gave it, over several lines.
func writeJSON(w io.Writer, answer any) error {
	var b bytes.Buffer
	if err := json.Indent(&b, awsjson.Append(nil, answer), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}
