package kms

import "kastellan.dev/internal/kmsapi"

// refusals is one row of the key-state matrix: the states in which an
// operation is refused, and the exception it is refused with.
type refusals map[kmsapi.KeyState]kmsapi.Code

// The rows of the matrix, as far as the operations of the table need them.
var (
	anyState refusals

	cryptoStates = refusals{
		kmsapi.StateDisabled:               kmsapi.Disabled,
		kmsapi.StatePendingDeletion:        kmsapi.KMSInvalidState,
		kmsapi.StatePendingReplicaDeletion: kmsapi.KMSInvalidState,
		kmsapi.StatePendingImport:          kmsapi.KMSInvalidState,
		kmsapi.StateUnavailable:            kmsapi.KMSInvalidState,
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
// asked for; that the custom key store is not connected shows on top of that,
// so that connecting again brings the former state back.
func (s *Service) stateOf(k *keyEntry) kmsapi.KeyState {
	switch {
	case k.pendingDeletion():
		return kmsapi.StatePendingDeletion
	case k.StoreID != "" && !s.connected(k):
		return kmsapi.StateUnavailable
	case !k.Enabled:
		return kmsapi.StateDisabled
	default:
		return kmsapi.StateEnabled
	}
}

func (s *Service) connected(k *keyEntry) bool {
	rec := s.mirror.keyStore(k.Account, k.Region, k.StoreID)
	return rec != nil && rec.State == kmsapi.Connected
}

// inState refuses the call when the operation's row of the matrix says so.
func (c *call) inState(k *keyEntry) error {
	state := c.s.stateOf(k)
	code, refused := c.op.Refused[state]
	if !refused {
		return nil
	}
	text := stateTexts[state]
	if _, cancels := c.op.Refused[kmsapi.StateEnabled]; cancels {
		text = "is not pending deletion."
	}
	return kmsapi.Errorf(code, "%s %s", k.ARN, text)
}
