package clusters_test

import (
	"strings"
	"testing"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/polltest"
)

// TestAdminDoesNotTakeThePasswordFromAConnectedKeyStore: it would lose its HSMs one by one, whenever it has to log in again.
func TestAdminDoesNotTakeThePasswordFromAConnectedKeyStore(t *testing.T) {
	t.Parallel()
	s := kastellantest.Start(t, kastellantest.WithPools(t, "ab"))
	m := s.Ready("ab")
	store := s.KeyStore(m.CreateInput("owned"))
	session, err := s.LogIn(m.ID, "admin", kastellantest.AdminPassword)
	if err != nil {
		t.Fatal(err)
	}
	change := func() error {
		in := map[string]string{"SessionId": session, "UserName": "kmsuser", "Role": "crypto-user", "NewPassword": "anotherOne1"}
		return s.AtHSM("ChangePassword", in, nil)
	}
	if err := change(); err == nil || !strings.Contains(err.Error(), "logged in elsewhere") {
		t.Errorf("the password was changed while the key store is connected: %v", err)
	}
	s.Disconnect(store)
	polltest.Until(t, "the password to be changed once the key store is disconnected", func() bool { return change() == nil })
}
