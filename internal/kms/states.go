package kms

import "kastellan.dev/internal/kmsapi"

// refusals is one row of the key-state matrix: the states in which an
// operation is refused, and the exception it is refused with.
type refusals map[kmsapi.KeyState]kmsapi.Code

// The rows of the matrix. Where the refusal depends on more than the state, the
// operation's conditions come first: see suits.go.
var (
	cryptoStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateUnavailable:            kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
	publicKeyStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
	enableStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
		kmsapi.StateUpdating:               kmsapi.KMSInvalidState,
	}
	scheduleStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StateUpdating:               kmsapi.KMSInvalidState,
	}
	cancelStates = refusals{
		kmsapi.StateEnabled:       kmsapi.KMSInvalidState,
		kmsapi.StateDisabled:      kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport: kmsapi.KMSInvalidState,
		kmsapi.StateUnavailable:   kmsapi.KMSInvalidState,
		kmsapi.StateCreating:      kmsapi.KMSInvalidState,
		kmsapi.StateUpdating:      kmsapi.KMSInvalidState,
	}
	describeStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
	}
	autoRotationStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.UnsupportedOperation,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
	rotationStatusStates = refusals{
		kmsapi.StatePendingImport: kmsapi.UnsupportedOperation,
	}
	rotateStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
	importParameterStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
		kmsapi.StateUpdating:               kmsapi.KMSInvalidState,
	}
	importStates = refusals{
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
	deleteImportedStates = refusals{
		kmsapi.StateCreating: kmsapi.KMSInvalidState,
		kmsapi.StateUpdating: kmsapi.KMSInvalidState,
	}
	replicateStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
		kmsapi.StateUpdating:               kmsapi.KMSInvalidState,
	}
	primaryStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateCreating:               kmsapi.KMSInvalidState,
	}
)

// stateTexts end the message of the exception, behind the key's ARN.
var stateTexts = map[kmsapi.KeyState]string{
	kmsapi.StateDisabled:               "is disabled.",
	kmsapi.StatePendingDeletion:        "is pending deletion.",
	kmsapi.StatePendingReplicaDeletion: "is pending deletion.",
	kmsapi.StatePendingImport:          "is pending import.",
	kmsapi.StateUnavailable:            "is unavailable.",
	kmsapi.StateCreating:               "is creating.",
	kmsapi.StateUpdating:               "is updating.",
}

// stateOf is the state of a key as callers see it. The record keeps what was
// asked for; that the custom key store is not connected, or that material is
// missing, shows on top of that, so that the former state comes back with them.
func (s *Service) stateOf(k *keyRecord) kmsapi.KeyState {
	switch {
	case k.pendingDeletion():
		return kmsapi.StatePendingDeletion
	case k.PendingWindow > 0:
		return kmsapi.StatePendingReplicaDeletion
	case k.Transition != "":
		return k.Transition
	case k.StoreID != "" && !s.connected(k):
		return kmsapi.StateUnavailable
	case k.Origin == kmsapi.OriginExternal && !k.complete(s.now()):
		return kmsapi.StatePendingImport
	case !k.Enabled:
		return kmsapi.StateDisabled
	default:
		return kmsapi.StateEnabled
	}
}

func (s *Service) connected(k *keyRecord) bool {
	rec := s.mirror.keyStore(k.Account, k.Region, k.StoreID)
	return rec != nil && rec.State == kmsapi.Connected
}

// inState refuses the call when the operation is none for such a key at all,
// when its row of the matrix says so, or when the key was not made for it.
func (c *call) inState(k *keyEntry) error {
	if c.op.suits != nil {
		if err := c.op.suits(c, k); err != nil {
			return err
		}
	}
	if err := c.refused(&k.keyRecord); err != nil {
		return err
	}
	if c.op.fits != nil {
		return c.op.fits(c, k)
	}
	return nil
}

// refused is the operation's row of the matrix.
func (c *call) refused(k *keyRecord) error {
	state := c.s.stateOf(k)
	code, refused := c.op.Refused[state]
	if !refused {
		return nil
	}
	text := stateTexts[state]
	if _, cancels := c.op.Refused[kmsapi.StateEnabled]; cancels {
		text = "is not pending deletion."
	}
	return kmsapi.Errorf(code, "%s %s", k.arn(), text)
}
