//go:build cgo && unix

package pkcs11

import (
	"context"
	"encoding/json"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// Survey loads the module in a child process of its own, and tells what slots with tokens it
// has. Nobody logs in. Of the configuration's URI only module-path matters.
func Survey(ctx context.Context, cfg Config) (ModuleInfo, error) {
	if err := cfg.check(); err != nil {
		return ModuleInfo{}, err
	}
	answer, err := askOnce(ctx, cfg, true, &message{code: opSurvey})
	if err != nil {
		return ModuleInfo{}, err
	}
	var info ModuleInfo
	if err := json.Unmarshal(answer.blob(0), &info); err != nil {
		return ModuleInfo{}, errFrame
	}
	return info, nil
}

func (w *worker) survey() (message, error) {
	m := w.bare.Load()
	if m == nil {
		return message{}, ErrModule
	}
	info, err := m.survey()
	if err != nil {
		return message{}, err
	}
	text, err := json.Marshal(info)
	return message{blobs: [][]byte{text}}, err
}

func (m *module) survey() (ModuleInfo, error) {
	library, err := m.ctx.GetInfo()
	if err != nil {
		return ModuleInfo{}, rvError("C_GetInfo", err)
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return ModuleInfo{}, rvError("C_GetSlotList", err)
	}
	info := ModuleInfo{
		Manufacturer: unpad(library.ManufacturerID),
		Description:  unpad(library.LibraryDescription),
		Version:      fmt.Sprintf("%d.%d", library.LibraryVersion.Major, library.LibraryVersion.Minor),
		Cryptoki:     fmt.Sprintf("%d.%d", library.CryptokiVersion.Major, library.CryptokiVersion.Minor),
	}
	for _, slot := range slots {
		s, err := m.surveySlot(slot)
		if err != nil {
			s.Failure = err.Error()
		}
		info.Slots = append(info.Slots, s)
	}
	return info, nil
}

// surveySlot gives what it found also when it fails.
func (m *module) surveySlot(slot uint) (SlotInfo, error) {
	s := SlotInfo{Token: TokenInfo{SlotID: slot}}
	about, err := m.ctx.GetSlotInfo(slot)
	if err != nil {
		return s, rvError("C_GetSlotInfo", err)
	}
	s.Description = unpad(about.SlotDescription)
	token, err := m.tokenInfo(slot)
	if err != nil {
		return s, err
	}
	s.Token = token
	raw, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return s, rvError("C_GetTokenInfo", err)
	}
	s.Sessions, s.MaxSessions = raw.SessionCount, raw.MaxSessionCount
	s.RWSessions, s.MaxRWSessions = raw.RwSessionCount, raw.MaxRwSessionCount
	s.MinPIN, s.MaxPIN = raw.MinPinLen, raw.MaxPinLen
	mechanisms, err := m.ctx.GetMechanismList(slot)
	if err != nil {
		return s, rvError("C_GetMechanismList", err)
	}
	var last error
	for _, mechanism := range mechanisms {
		about, err := m.ctx.GetMechanismInfo(slot, []*p11.Mechanism{mechanism})
		if err != nil {
			last = rvError("C_GetMechanismInfo", err)
		}
		s.Mechanisms = append(s.Mechanisms, Mechanism{
			Type: mechanism.Mechanism, MinKey: about.MinKeySize, MaxKey: about.MaxKeySize, Flags: about.Flags,
		})
	}
	return s, last
}
