package pkcs11

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A frame on the socket between a token and its child:
//
//	+-----------+--------+------+----------+-------+---------+-------+
//	| size  u32 | id u32 | code | patience | epoch | numbers | blobs |
//	+-----------+--------+------+----------+-------+---------+-------+
//
// size counts what follows it; id ties an answer to its question; patience
// is the milliseconds for which the caller waits still (0: for ever; 0 in
// answers); epoch is that of the handles in a question (0: there are none),
// and in an answer the one in which it was found. numbers is a count and as many
// numbers; blobs is a count and as many lengths with bytes. Integers of fixed
// size are big-endian, all others are uvarints.
const (
	frameHead    = 4
	maxFrame     = 1 << 20
	maxFrameList = 1 << 16 // numbers or blobs
)

// message is a question or an answer: what its numbers and blobs are, stands
// with each code.
type message struct {
	code    code
	epoch   uint32
	numbers []uint64
	blobs   [][]byte
}

// code is an operation in questions and a status in answers.
type code byte

// The operations: numbers | blobs → numbers | blobs of the answer.
const (
	opStart           code = iota + 1 // bare, timeout in ns, sessions, queue, first epoch | uri, iv source →
	opInfo                            // → slot, flags | label, manufacturer, model, serial, firmware
	opLogin                           // | pin →
	opLogout                          // →
	opSetPIN                          // | old, new →
	opRandom                          // n → | bytes
	opGenerateKey                     // template → object
	opGenerateSession                 // the same, for an object that lives as long as its session
	opFind                            // with id | label, id → objects…
	opList                            // → objects… | label, id, label, id, …
	opAttributes                      // object → key type, length, flags | label, id
	opDestroy                         // object →
	opEncrypt                         // object | plaintext, aad → | iv, ciphertext and tag
	opDecrypt                         // object | iv, ciphertext and tag, aad → | plaintext
	opWrap                            // wrapping, object → | wrapped
	opUnwrap                          // wrapping, template | wrapped, label, id → object
	opUnwrapSession                   // the same, for an object that lives as long as its session
	opMakeTransport                   // → private, public, sha-1 only | modulus, exponent
	opWrapTransport                   // object, sha-1 only | modulus, exponent → | wrapped
	opUnwrapTransport                 // private, template | wrapped, label, id → object
	opMarkTrusted                     // | so pin, label → count
	opInitToken                       // any free slot, slot | label, so pin, user pin → as opInfo
	opReinitToken                     // | label, so pin, user pin, uri → as opInfo
	opDestroyAll                      // count only | user pin → count
	opMakeSigning                     // | label → private | modulus, exponent
	opFindSigning                     // | label → private… | modulus, exponent, …
	opSign                            // private | digest → | signature
	opSurvey                          // → | a ModuleInfo in JSON
	opReadValue                       // object → length
	opWrapWith                        // wrapping, object, mechanism →
	opClose                           // →
	opCount
)

// The statuses.
const (
	statusOK      code = iota
	statusRV           // rv | function
	statusBusy         //
	statusTimeout      //
	statusExpired      // the caller's patience ended before the call began
	statusLost         // a handle is of an earlier epoch, or ended during the call
	statusNoToken      // | reason
	statusModule       // | reason
	statusFailed       // | reason
)

var (
	errFrame   = errors.New("pkcs11: malformed frame")
	errExpired = errors.New("pkcs11: the caller's time ended before the call began")
)

// number gives the i-th number, or zero.
func (m *message) number(i int) uint64 {
	if i < len(m.numbers) {
		return m.numbers[i]
	}
	return 0
}

// blob gives the i-th blob, or nil.
func (m *message) blob(i int) []byte {
	if i < len(m.blobs) {
		return m.blobs[i]
	}
	return nil
}

// appendFrame appends a whole frame to dst.
func appendFrame(dst []byte, id uint32, patience uint64, m *message) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, id)
	dst = append(dst, byte(m.code))
	dst = binary.AppendUvarint(dst, patience)
	dst = binary.AppendUvarint(dst, uint64(m.epoch))
	dst = binary.AppendUvarint(dst, uint64(len(m.numbers)))
	for _, n := range m.numbers {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.blobs)))
	for _, b := range m.blobs {
		dst = binary.AppendUvarint(dst, uint64(len(b)))
		dst = append(dst, b...)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-frameHead))
	return dst
}

// wipe overwrites the blobs. It is for questions, once nobody reads them any more.
func (m *message) wipe() {
	for _, b := range m.blobs {
		clear(b)
	}
}

// clone copies m with its blobs.
func (m *message) clone() message {
	c := message{code: m.code, epoch: m.epoch, numbers: slices.Clone(m.numbers), blobs: make([][]byte, len(m.blobs))}
	for i, b := range m.blobs {
		c.blobs[i] = bytes.Clone(b)
	}
	return c
}

// fits reports whether m is small enough for a frame.
func (m *message) fits() bool {
	size := 32 + 10*len(m.numbers)
	for _, b := range m.blobs {
		size += 10 + len(b)
	}
	return size <= maxFrame && len(m.numbers) <= maxFrameList && len(m.blobs) <= maxFrameList
}

// parseFrame reads what follows a frame's size. The blobs of m are parts of
// body.
func parseFrame(body []byte, m *message) (id uint32, patience uint64, err error) {
	if len(body) < 5 {
		return 0, 0, errFrame
	}
	id = binary.BigEndian.Uint32(body)
	m.code = code(body[4])
	rest := body[5:]
	if patience, rest, err = takeUvarint(rest); err != nil {
		return 0, 0, err
	}
	epoch, rest, err := takeUvarint(rest)
	if err != nil || epoch > math.MaxUint32 {
		return 0, 0, errFrame
	}
	m.epoch = uint32(epoch)
	if rest, err = takeNumbers(rest, m); err != nil {
		return 0, 0, err
	}
	if rest, err = takeBlobs(rest, m); err != nil {
		return 0, 0, err
	}
	if len(rest) != 0 {
		return 0, 0, errFrame
	}
	return id, patience, nil
}

func takeUvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, errFrame
	}
	return n, b[size:], nil
}

// takeCount reads the length of a list whose elements take a byte at least.
func takeCount(b []byte) (n int, rest []byte, err error) {
	count, rest, err := takeUvarint(b)
	if err != nil {
		return 0, nil, err
	}
	if count > maxFrameList || count > uint64(len(rest)) {
		return 0, nil, errFrame
	}
	return int(count), rest, nil
}

func takeNumbers(b []byte, m *message) (rest []byte, err error) {
	count, rest, err := takeCount(b)
	if err != nil || count == 0 {
		return rest, err
	}
	m.numbers = make([]uint64, count)
	for i := range m.numbers {
		if m.numbers[i], rest, err = takeUvarint(rest); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func takeBlobs(b []byte, m *message) (rest []byte, err error) {
	count, rest, err := takeCount(b)
	if err != nil || count == 0 {
		return rest, err
	}
	m.blobs = make([][]byte, count)
	for i := range m.blobs {
		var size uint64
		if size, rest, err = takeUvarint(rest); err != nil {
			return nil, err
		}
		if size > uint64(len(rest)) {
			return nil, errFrame
		}
		m.blobs[i], rest = rest[:size:size], rest[size:]
	}
	return rest, nil
}

// errorMessage is the answer that carries err.
func errorMessage(err error) message {
	var e *Error
	text := func() [][]byte { return [][]byte{[]byte(err.Error())} }
	switch {
	case errors.As(err, &e):
		return message{code: statusRV, numbers: []uint64{uint64(e.RV)}, blobs: [][]byte{[]byte(e.Function)}}
	case errors.Is(err, ErrBusy):
		return message{code: statusBusy}
	case errors.Is(err, ErrTimeout):
		return message{code: statusTimeout}
	case errors.Is(err, errExpired):
		return message{code: statusExpired}
	case errors.Is(err, ErrLost):
		return message{code: statusLost}
	case errors.Is(err, ErrNoToken):
		return message{code: statusNoToken, blobs: text()}
	case errors.Is(err, ErrModule):
		return message{code: statusModule, blobs: text()}
	}
	return message{code: statusFailed, blobs: text()}
}

// err undoes errorMessage; nil for statusOK.
func (m *message) err() error {
	switch m.code {
	case statusOK:
		return nil
	case statusRV:
		return &Error{Function: string(m.blob(0)), RV: uint(m.number(0))}
	case statusBusy:
		return ErrBusy
	case statusTimeout:
		return ErrTimeout
	case statusExpired:
		return errExpired
	case statusLost:
		return ErrLost
	case statusNoToken:
		return &reasonError{ErrNoToken, string(m.blob(0))}
	case statusModule:
		return &reasonError{ErrModule, string(m.blob(0))}
	case statusFailed:
		return errors.New(string(m.blob(0)))
	}
	return fmt.Errorf("%w: unknown status %d", errFrame, m.code)
}

// reasonError is a sentinel whose whole text came from the child.
type reasonError struct {
	sentinel error
	text     string
}

func (e *reasonError) Error() string { return e.text }
func (e *reasonError) Unwrap() error { return e.sentinel }
