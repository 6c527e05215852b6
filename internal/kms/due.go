package kms

import (
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// nextEvent is when time brings something to the key: its deletion, a rotation,
// the end of imported material or of a transition. It is zero if nothing is to come.
func (k *keyRecord) nextEvent() (next time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(k.DeletionDate)
	if k.Transition == kmsapi.StateCreating || k.Transition == kmsapi.StateUpdating && k.primary() {
		sooner(k.Created) // at once
	}
	if k.Enabled && !k.leaving() {
		sooner(k.Rotation.Started)
		sooner(k.Rotation.Next)
	}
	for i := range k.Materials {
		if m := &k.Materials[i]; len(m.Data) > 0 {
			sooner(m.ValidTo)
		}
	}
	return next
}

// tendDue does to every key what is due. After a downtime, that is all that was missed.
func (s *Service) tendDue() {
	now := s.now().UTC().Truncate(time.Millisecond)
	for _, k := range s.mirror.dueKeys(now) {
		var err error
		if k.deletionDue(now) {
			err = s.deleteKey(k)
		} else {
			err = s.tend(k, now)
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.Error("what is due cannot be done to a key; it is tried again", "key", k.ARN, "error", err)
		}
	}
}

// happening is something that the service did to a key by itself, for the record.
type happening struct {
	event   string
	details audit.Data
}

// tend does what is due but deletion, in one transaction.
func (s *Service) tend(k *keyEntry, now time.Time) error {
	var done []happening
	err := s.update(s.ctx, func(tx store.Tx) error {
		done = nil
		rec, err := load[keyRecord](tx, k.path())
		if err != nil || rec == nil {
			return err
		}
		done = rec.expire(now)
		moved, err := s.endTransition(tx, rec)
		if err != nil {
			return err
		}
		done = append(done, moved...)
		if err := s.settleImport(tx, rec); err != nil { // it may have expired, or be wanted in a new replica
			return err
		}
		if by := rec.rotationDue(now); by != "" {
			rotated, err := s.rotate(tx, rec, by, now)
			if err != nil {
				return err
			}
			done = append(done, rotated...)
		}
		return save(tx, rec.path(), rec)
	})
	if err != nil {
		return err
	}
	for _, h := range done {
		if id, ok := h.details["deletedKeyMaterialId"].(string); ok {
			s.forget(s.ctx, k, id)
		}
		s.recordEvent(serviceEvent{account: k.Account, region: k.Region, name: h.event, keyARN: k.ARN, details: h.details})
	}
	return nil
}

// expire destroys imported material whose time has come.
func (k *keyRecord) expire(now time.Time) (done []happening) {
	for i := range k.Materials {
		m := &k.Materials[i]
		if len(m.Data) > 0 && !m.there(now) {
			m.forget()
			done = append(done, happening{"DeleteExpiredKeyMaterial", audit.Data{"keyId": k.ID, "deletedKeyMaterialId": m.ID}})
		}
	}
	return done
}

// endTransition ends Creating and Updating.
func (s *Service) endTransition(tx store.Tx, k *keyRecord) ([]happening, error) {
	switch {
	case k.Transition == kmsapi.StateCreating:
		return []happening{{"SynchronizeMultiRegionKey", audit.Data{"keyId": k.ID}}}, s.fillReplica(tx, k)
	case k.Transition == kmsapi.StateUpdating && k.primary():
		return []happening{{"SynchronizeMultiRegionKey", audit.Data{"keyId": k.ID}}}, endMove(tx, k)
	default:
		return nil, nil
	}
}

// deleteKey deletes the key's grants, in as many transactions as there are
// batches of them, and with the last one the key.
func (s *Service) deleteKey(k *keyEntry) error {
	for more := true; more; {
		deleted := false
		err := s.update(s.ctx, func(tx store.Tx) (err error) {
			deleted, more, err = s.deleteSome(tx, k)
			return err
		})
		if err != nil {
			return err
		}
		if deleted {
			s.forgetKey(k)
		}
	}
	return nil
}

// deleteSome is one transaction of deleteKey.
func (s *Service) deleteSome(tx store.Tx, k *keyEntry) (deleted, more bool, err error) {
	rec, err := load[keyRecord](tx, k.path())
	if err != nil || rec == nil || !rec.deletionDue(s.now()) {
		return false, false, err // gone already, or cancelled
	}
	all, err := removeGrants(tx, rec.Account, rec.Region, rec.ID)
	if err != nil {
		return false, false, err
	}
	if !all {
		rec.Deleting = true
		return false, true, save(tx, rec.path(), rec)
	}
	return true, false, s.deleteRecord(tx, rec)
}

// deleteRecord deletes the key's record, its aliases and its reservation, and
// leaves material in a custom key store to destroyUnclaimed.
func (s *Service) deleteRecord(tx store.Tx, k *keyRecord) error {
	if err := deleteAliases(tx, k); err != nil {
		return err
	}
	if err := s.leave(tx, k, s.now()); err != nil {
		return err
	}
	if err := tx.Delete(k.usagePath()); err != nil {
		return err
	}
	if k.XksKeyID != "" {
		if err := tx.Delete(reservationPath(k.StoreID, k.XksKeyID)); err != nil {
			return err
		}
	}
	if k.StoreID != "" {
		orphan := &materialRecord{Account: k.Account, Region: k.Region, StoreID: k.StoreID, Key: k.keyOf(k.currentMaterial())}
		if err := save(tx, orphan.path(), orphan); err != nil {
			return err
		}
	}
	return tx.Delete(k.path())
}

// forgetKey clears what is held of a key that is deleted.
func (s *Service) forgetKey(k *keyEntry) {
	s.meters.perKey.forget(k.ARN)
	for i := range k.versions {
		s.forget(s.ctx, k, k.versions[i].materialID)
	}
	s.recordEvent(serviceEvent{
		account: k.Account, region: k.Region, name: "DeleteKey", keyARN: k.ARN, details: audit.Data{"keyId": k.ID}, data: s.backing(&k.keyRecord),
	})
}

func deleteAliases(tx store.Tx, k *keyRecord) error {
	var doomed []string
	for entry, err := range tx.Scan(path(aliasPrefix, k.Account, k.Region, "")) {
		if err != nil {
			return err
		}
		alias, err := decode[aliasRecord](entry.Key, entry.Value)
		if err != nil {
			return err
		}
		if alias.KeyID == k.ID {
			doomed = append(doomed, entry.Key)
		}
	}
	for _, at := range doomed {
		if err := tx.Delete(at); err != nil {
			return err
		}
	}
	return nil
}
