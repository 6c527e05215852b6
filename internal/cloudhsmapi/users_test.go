package cloudhsmapi_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
)

// extensions are the messages of the operations that AWS does not have.
var extensions = []any{
	cloudhsmapi.ActivateClusterRequest{}, cloudhsmapi.ActivateClusterResponse{},
	cloudhsmapi.LoginRequest{}, cloudhsmapi.LoginResponse{},
	cloudhsmapi.LogoutRequest{}, cloudhsmapi.LogoutResponse{},
	cloudhsmapi.CreateUserRequest{}, cloudhsmapi.CreateUserResponse{},
	cloudhsmapi.DeleteUserRequest{}, cloudhsmapi.DeleteUserResponse{},
	cloudhsmapi.ListUsersRequest{}, cloudhsmapi.ListUsersResponse{},
	cloudhsmapi.ChangePasswordRequest{}, cloudhsmapi.ChangePasswordResponse{},
	cloudhsmapi.UnlockUserRequest{}, cloudhsmapi.UnlockUserResponse{},
	cloudhsmapi.ListKeysRequest{}, cloudhsmapi.ListKeysResponse{},
}

func TestEveryMessageOfAnExtensionCanBePrepared(t *testing.T) {
	t.Parallel()
	for _, message := range extensions {
		if err := awsjson.Prepare(message); err != nil {
			t.Errorf("%T: %v", message, err)
		}
	}
}

const session = `"SessionId":"0123456789abcdefghijklmnopqrstuvwxyzABCDE-_"`

func TestConstraintsOfExtensions(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	login := func(user, password string) string {
		return `{` + clusterID + `,"UserName":"` + user + `","Password":"` + password + `"}`
	}
	create := func(role, password string) string {
		return `{` + session + `,"UserName":"u","Role":"` + role + `","Password":"` + password + `"}`
	}
	tests := map[string]struct {
		into any
		body string
		path string // of what is refused; empty: nothing is
	}{
		"a user's name of all signs":          {new(cloudhsmapi.LoginRequest), login("a.B_9-c@d", "secret"), ""},
		"a user's name of 31":                 {new(cloudhsmapi.LoginRequest), login(long(31), "secret"), ""},
		"a user's name of 32":                 {new(cloudhsmapi.LoginRequest), login(long(32), "secret"), "userName"},
		"a user's name of nothing":            {new(cloudhsmapi.LoginRequest), login("", "secret"), "userName"},
		"a colon in a user's name":            {new(cloudhsmapi.LoginRequest), login("a:b", "secret"), "userName"},
		"a short password to log in with":     {new(cloudhsmapi.LoginRequest), login("u", "x"), ""},
		"a password of 6 for a user":          {new(cloudhsmapi.CreateUserRequest), create("admin", long(6)), "password"},
		"a password of 7 for a user":          {new(cloudhsmapi.CreateUserRequest), create("admin", long(7)), ""},
		"a password of 32 for a user":         {new(cloudhsmapi.CreateUserRequest), create("crypto-user", long(32)), ""},
		"a password of 33 for a user":         {new(cloudhsmapi.CreateUserRequest), create("crypto-user", long(33)), "password"},
		"a role that is none":                 {new(cloudhsmapi.CreateUserRequest), create("operator", long(7)), "role"},
		"a password of 6 for the first admin": {new(cloudhsmapi.ActivateClusterRequest), `{` + clusterID + `,"Password":"` + long(6) + `"}`, "password"},
		"a cluster that is none":              {new(cloudhsmapi.ActivateClusterRequest), `{"ClusterId":"cluster-1","Password":"` + long(7) + `"}`, "clusterId"},
		"a new password of 6":                 {new(cloudhsmapi.ChangePasswordRequest), `{` + session + `,"UserName":"u","Role":"admin","NewPassword":"` + long(6) + `"}`, "newPassword"},
		"a new password without an old one":   {new(cloudhsmapi.ChangePasswordRequest), `{` + session + `,"UserName":"u","Role":"admin","NewPassword":"` + long(7) + `"}`, ""},
		"an old password that is empty":       {new(cloudhsmapi.ChangePasswordRequest), `{` + session + `,"UserName":"u","Role":"admin","OldPassword":"","NewPassword":"` + long(7) + `"}`, "oldPassword"},
		"a session":                           {new(cloudhsmapi.ListKeysRequest), `{` + session + `}`, ""},
		"no session":                          {new(cloudhsmapi.ListKeysRequest), `{}`, "sessionId"},
		"a session too short":                 {new(cloudhsmapi.LogoutRequest), `{"SessionId":"` + long(42) + `"}`, "sessionId"},
		"a session with a sign":               {new(cloudhsmapi.LogoutRequest), `{"SessionId":"` + long(42) + `+"}`, "sessionId"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := awsjson.Decode([]byte(test.body), test.into)
			if test.path == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if kmsapi.CodeOf(err) != kmsapi.Validation || !strings.Contains(err.Error(), "1 validation error detected") || !strings.Contains(err.Error(), "at '"+test.path+"'") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestErrorsOfExtensionsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for body, into := range map[string]any{
		`{` + clusterID + `,"UserName":"u","Password":"CANARY CANARY CANARY CANARY CANARY"}`: new(cloudhsmapi.LoginRequest),
		`{"SessionId":"CANARY"}`: new(cloudhsmapi.LogoutRequest),
		`{` + session + `,"UserName":"u","Role":"admin","OldPassword":"CANARY","NewPassword":"CANARY","Password":1}`: new(cloudhsmapi.ChangePasswordRequest),
	} {
		if err := awsjson.Decode([]byte(body), into); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%T: %v", into, err)
		}
	}
}
