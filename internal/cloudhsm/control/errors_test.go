package control

import (
	"fmt"
	"io/fs"
	"testing"

	"kastellan.dev/internal/pkcs11"
)

// TestCausesThatAreShownTellNothingOfTheServer: who sees a cluster may be another than who runs the server.
func TestCausesThatAreShownTellNothingOfTheServer(t *testing.T) {
	t.Parallel()
	secret := &fs.PathError{Op: "mkdir", Path: "/srv/hsm/of-another-tenant", Err: fs.ErrPermission}
	for want, failure := range map[string]error{
		"This failed and is tried again (other). The server's log tells more.":               fmt.Errorf("preparing a token of the pool gold: %w", secret),
		"This failed and is tried again (CKR_PIN_LOCKED). The server's log tells more.":      fmt.Errorf("at %w: %w", secret, &pkcs11.Error{Function: "C_Login", RV: pkcs11.CKR_PIN_LOCKED}),
		"This failed and is tried again: the HSM cannot be reached.":                         fmt.Errorf("%w: %w", errUnreachable, secret),
		"This failed and is tried again: no backup HSM is configured (hsm.vault).":           fmt.Errorf("backing up: %w: %w", errNoVault, secret),
		"There is no free HSM of the type hsm2m.medium in the Availability Zone us-east-1a.": fmt.Errorf("replacing: %w", invalid("There is no free HSM of the type hsm2m.medium in the Availability Zone us-east-1a.").Because(secret)),
	} {
		if got := shownCause(failure); got != want {
			t.Errorf("%v is shown as %q", failure, got)
		}
	}
}
