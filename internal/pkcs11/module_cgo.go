//go:build cgo && unix

package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// module is a PKCS#11 module that is initialised in this process, once for
// all tokens that use it.
type module struct {
	path      string
	ctx       *p11.Ctx
	functions functions
	owned     bool // C_Initialize was ours, so C_Finalize is too
	users     int
}

var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// acquireModule loads and initialises the module unless that has been done;
// every acquisition needs a release.
func acquireModule(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	if m := modules.byPath[path]; m != nil {
		m.users++
		return m, nil
	}
	m, err := loadModule(path)
	if err != nil {
		return nil, err
	}
	modules.byPath[path] = m
	return m, nil
}

func loadModule(path string) (*module, error) {
	f, err := loadFunctions(path)
	if err != nil {
		return nil, err
	}
	ctx := p11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%w: it opens only once", ErrModule)
	}
	// The binding asks for CKF_OS_LOCKING_OK, without which modules may
	// take us for single-threaded.
	err = rvError("C_Initialize", ctx.Initialize())
	alien := errors.Is(err, &Error{RV: CKR_CRYPTOKI_ALREADY_INITIALIZED})
	if err != nil && !alien {
		ctx.Destroy()
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	return &module{path: path, ctx: ctx, functions: f, owned: !alien, users: 1}, nil
}

// release finalizes the module after its last user.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(modules.byPath, m.path)
	if !m.owned {
		return nil
	}
	return rvError("C_Finalize", m.ctx.Finalize())
}

// rvError names the function that a return value came from.
func rvError(function string, err error) error {
	var rv p11.Error
	if errors.As(err, &rv) {
		return &Error{Function: function, RV: uint(rv)}
	}
	return err
}

// findSlot gives the slot of the one token that the URI describes.
func (m *module) findSlot(u URI) (uint, error) {
	if err := m.matchLibrary(u); err != nil {
		return 0, err
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoToken, rvError("C_GetSlotList", err))
	}
	var found []uint
	var last error
	for _, slot := range slots {
		matches, err := m.matchSlot(u, slot)
		if err != nil {
			last = err
		}
		if matches {
			found = append(found, slot)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, fmt.Errorf("%w: %d tokens are such", ErrNoToken, len(found))
	case last != nil:
		return 0, fmt.Errorf("%w: a slot fails: %w", ErrNoToken, last)
	}
	return 0, fmt.Errorf("%w among %d", ErrNoToken, len(slots))
}

func (m *module) matchLibrary(u URI) error {
	if u.LibraryDescription == "" && u.LibraryManufacturer == "" && u.LibraryVersion == "" {
		return nil
	}
	info, err := m.ctx.GetInfo()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModule, rvError("C_GetInfo", err))
	}
	version := fmt.Sprintf("%d.%d", info.LibraryVersion.Major, info.LibraryVersion.Minor)
	if !agree(u.LibraryDescription, info.LibraryDescription) ||
		!agree(u.LibraryManufacturer, info.ManufacturerID) || !agree(u.LibraryVersion, version) {
		return fmt.Errorf("%w: the library is another one", ErrNoToken)
	}
	return nil
}

// matchSlot tells whether the slot holds an initialised token as described.
func (m *module) matchSlot(u URI, slot uint) (bool, error) {
	if u.HasSlotID && u.SlotID != slot {
		return false, nil
	}
	if u.SlotDescription != "" || u.SlotManufacturer != "" {
		info, err := m.ctx.GetSlotInfo(slot)
		if err != nil {
			return false, rvError("C_GetSlotInfo", err)
		}
		if !agree(u.SlotDescription, info.SlotDescription) || !agree(u.SlotManufacturer, info.ManufacturerID) {
			return false, nil
		}
	}
	info, err := m.tokenInfo(slot)
	if err != nil {
		return false, err
	}
	return info.Flags&CKF_TOKEN_INITIALIZED != 0 &&
		agree(u.Token, info.Label) && agree(u.Serial, info.Serial) &&
		agree(u.Manufacturer, info.Manufacturer) && agree(u.Model, info.Model), nil
}

// agree tells whether a URI's attribute fits; the empty one always does.
func agree(wanted, have string) bool { return wanted == "" || wanted == have }

func (m *module) tokenInfo(slot uint) (TokenInfo, error) {
	info, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return TokenInfo{}, rvError("C_GetTokenInfo", err)
	}
	return TokenInfo{
		Label:           unpad(info.Label),
		Manufacturer:    unpad(info.ManufacturerID),
		Model:           unpad(info.Model),
		Serial:          unpad(info.SerialNumber),
		FirmwareVersion: fmt.Sprintf("%d.%d", info.FirmwareVersion.Major, info.FirmwareVersion.Minor),
		SlotID:          slot,
		Flags:           info.Flags,
	}, nil
}

// unpad removes the blanks (and, from careless modules, zeros) that fill fields.
func unpad(s string) string { return strings.TrimRight(s, " \x00") }
