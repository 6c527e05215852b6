package kms_test

import (
	"context"
	"slices"
	"testing"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

func TestAMemberThatIsLostWhileItsPasswordChangesKeepsAPasswordThatIsTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	attempt := func(do func(ctx context.Context, pw keystore.Passwords)) {
		w.hsm.inConnect(func(ctx context.Context, pw keystore.Passwords) error { do(ctx, pw); return nil })
		w.connected(id)
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Disconnected)
	}
	tried := func(pw keystore.Passwords, want secret.Text) {
		t.Helper()
		list := pw.Candidates()
		if len(list) > 4 || !slices.ContainsFunc(list, want.Equal) {
			t.Errorf("%d candidates, of which at most 4 are tried; the wanted one is there: %v", len(list), slices.ContainsFunc(list, want.Equal))
		}
		for i, c := range list {
			if slices.ContainsFunc(list[:i], c.Equal) {
				t.Errorf("candidate %d was tried before", i)
			}
		}
	}
	current := password
	for range 6 { // all members are there, and one of them is lost before it has the new password
		attempt(func(ctx context.Context, pw keystore.Passwords) {
			next, err := pw.Prepare(ctx, true)
			if err != nil {
				t.Errorf("preparing: %v", err)
			}
			tried(pw, password)
			tried(pw, current)
			if err := pw.Commit(ctx, false); err != nil {
				t.Errorf("committing: %v", err)
			}
			tried(pw, password)
			tried(pw, next)
			current = next
		})
	}
	for range 2 { // the member stays
		attempt(func(ctx context.Context, pw keystore.Passwords) {
			if _, err := pw.Prepare(ctx, true); err != nil {
				t.Errorf("preparing: %v", err)
			}
			if err := pw.Commit(ctx, true); err != nil {
				t.Errorf("committing: %v", err)
			}
			if n := len(pw.Candidates()); n != 1 {
				t.Errorf("%d passwords are kept when all members have the new one", n)
			}
		})
	}
	attempt(func(_ context.Context, pw keystore.Passwords) {
		if pw.Candidates()[0].Equal(current) {
			t.Error("the password is not rotated any more")
		}
	})
}
