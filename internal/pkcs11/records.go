package pkcs11

// How templates, attributes and descriptions lie in a message's numbers and
// blobs.

// bits packs flags into a number, the first one lowest.
func bits(flags ...bool) uint64 {
	var n uint64
	for i, set := range flags {
		if set {
			n |= 1 << i
		}
	}
	return n
}

// spread undoes bits.
func spread(n uint64, flags ...*bool) {
	for i, f := range flags {
		*f = n&(1<<i) != 0
	}
}

func (t *Template) flags() uint64 {
	return bits(t.Token, t.Encrypt, t.Wrap, t.Extractable, t.WrapWithTrusted)
}

// templateOf undoes Template.flags; label and id stand beside it.
func templateOf(flags uint64, label, id []byte) Template {
	t := Template{Label: string(label), ID: id}
	spread(flags, &t.Token, &t.Encrypt, &t.Wrap, &t.Extractable, &t.WrapWithTrusted)
	return t
}

func (a *Attributes) message() message {
	return message{
		numbers: []uint64{uint64(a.KeyType), uint64(a.ValueLen), bits(a.Sensitive, a.Extractable, a.NeverExtractable,
			a.Local, a.Encrypt, a.Decrypt, a.Wrap, a.Unwrap, a.Trusted, a.WrapWithTrusted)},
		blobs: [][]byte{[]byte(a.Label), a.ID},
	}
}

func attributesOf(m *message) Attributes {
	a := Attributes{
		Label:    string(m.blob(0)),
		ID:       m.blob(1),
		KeyType:  uint(m.number(0)),
		ValueLen: int(m.number(1)),
	}
	spread(m.number(2), &a.Sensitive, &a.Extractable, &a.NeverExtractable,
		&a.Local, &a.Encrypt, &a.Decrypt, &a.Wrap, &a.Unwrap, &a.Trusted, &a.WrapWithTrusted)
	return a
}

// Flags of CK_TOKEN_INFO, for TokenInfo.Flags.
const (
	CKF_USER_PIN_INITIALIZED uint = 0x8
	CKF_TOKEN_INITIALIZED    uint = 0x400
	CKF_USER_PIN_COUNT_LOW   uint = 0x10000
	CKF_USER_PIN_FINAL_TRY   uint = 0x20000
	CKF_USER_PIN_LOCKED      uint = 0x40000
)

func (i *TokenInfo) message() message {
	return message{
		numbers: []uint64{uint64(i.SlotID), uint64(i.Flags)},
		blobs:   [][]byte{[]byte(i.Label), []byte(i.Manufacturer), []byte(i.Model), []byte(i.Serial), []byte(i.FirmwareVersion)},
	}
}

func infoOf(m *message) TokenInfo {
	flags := uint(m.number(1))
	return TokenInfo{
		Label:              string(m.blob(0)),
		Manufacturer:       string(m.blob(1)),
		Model:              string(m.blob(2)),
		Serial:             string(m.blob(3)),
		FirmwareVersion:    string(m.blob(4)),
		SlotID:             uint(m.number(0)),
		Flags:              flags,
		UserPINInitialized: flags&CKF_USER_PIN_INITIALIZED != 0,
		UserPINLocked:      flags&CKF_USER_PIN_LOCKED != 0,
	}
}
