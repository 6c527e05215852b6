package pkcs11

// ModuleInfo is what a module says of itself and of its slots.
type ModuleInfo struct {
	Manufacturer, Description, Version string
	Cryptoki                           string // the version of PKCS#11, "2.40"
	Slots                              []SlotInfo
}

// SlotInfo is a slot with a token in it.
type SlotInfo struct {
	Description string
	Token       TokenInfo

	// Sessions with the token, of all applications; 0 means no limit, and
	// Unavailable that the token does not say.
	Sessions, MaxSessions, RWSessions, MaxRWSessions uint
	MinPIN, MaxPIN                                   uint // bytes

	Mechanisms []Mechanism
	Failure    string // why the slot could not be looked at in full; empty if it could
}

// Unavailable is CK_UNAVAILABLE_INFORMATION: a number that the token keeps for itself.
const Unavailable = ^uint(0)

// Mechanism is a mechanism of a token.
type Mechanism struct {
	Type   uint // CKM_
	MinKey uint // in bits or bytes, depending on Type
	MaxKey uint
	Flags  uint // CKF_ bits of CK_MECHANISM_INFO
}

// What mechanisms are for, in Mechanism.Flags.
const (
	CKF_ENCRYPT           uint = 0x100
	CKF_DECRYPT           uint = 0x200
	CKF_GENERATE          uint = 0x8000
	CKF_GENERATE_KEY_PAIR uint = 0x10000
	CKF_WRAP              uint = 0x20000
	CKF_UNWRAP            uint = 0x40000
)
