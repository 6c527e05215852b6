package nitro

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// The parts of a COSE_Sign1 message that never vary.
const (
	tagCOSESign1   = 0xd2               // tag 18
	protectedES384 = "\xa1\x01\x38\x22" // {1: -35}: the algorithm is ECDSA with SHA-384
	emptyMap       = "\xa0"
	signatureSize  = 96 // r and s of P-384, 48 bytes each
)

// Sizes in bytes.
const (
	maxPayloadSize = 16384
	envelopeSize   = 109 // the longest message around a payload of that size

	// MaxDocumentSize is the size of the longest document that can be well formed, in bytes.
	MaxDocumentSize = maxPayloadSize + envelopeSize
)

// message is COSE_Sign1.
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   byteString
	Unprotected cbor.RawMessage
	Payload     byteString
	Signature   byteString
}

var messageMode = decodeMode(cbor.IndefLengthForbidden)

// decodeMode is as strict as CBOR can be had: no key twice, no tags, and no
// simple values but null.
func decodeMode(indefinite cbor.IndefLengthMode) cbor.DecMode {
	const null, reservedFrom, reservedTo = 22, 24, 31
	var rejected []func(*cbor.SimpleValueRegistry) error
	for v := range 256 {
		if v != null && (v < reservedFrom || v > reservedTo) {
			rejected = append(rejected, cbor.WithRejectedSimpleValue(cbor.SimpleValue(v)))
		}
	}
	simple, err := cbor.NewSimpleValueRegistryFromDefaults(rejected...)
	if err != nil {
		panic("nitro: " + err.Error()) // the values are constants
	}
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxBundle,
		MaxMapPairs:       enclaveRegisters,
		IndefLength:       indefinite,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		SimpleValues:      simple,
	}.DecMode()
	if err != nil {
		panic("nitro: " + err.Error()) // the options are constants
	}
	return mode
}

// byteString is a byte string of definite length and nothing that
// could be made into one; null is nil.
type byteString []byte

// UnmarshalCBOR implements cbor.Unmarshaler.
func (b *byteString) UnmarshalCBOR(item []byte) error {
	const null, major, bytesOf = 0xf6, 0xe0, 0x40
	switch {
	case len(item) == 1 && item[0] == null:
		*b = nil
		return nil
	case len(item) == 0 || item[0]&major != bytesOf:
		return errors.New("something else stands where a byte string must be")
	}
	return messageMode.Unmarshal(item, (*[]byte)(b)) // which knows no indefinite length
}

// parseMessage takes the message apart and checks all that can be without a key.
func parseMessage(document []byte) (*message, error) {
	if len(document) == 0 || len(document) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: it has %d bytes, want 1 to %d", ErrMalformed, len(document), MaxDocumentSize)
	}
	if document[0] == tagCOSESign1 {
		document = document[1:]
	}
	var m message
	if err := messageMode.Unmarshal(document, &m); err != nil {
		return nil, fmt.Errorf("%w: it is not a COSE_Sign1 message: %s", ErrMalformed, reason(err))
	}
	switch {
	case string(m.Protected) != protectedES384:
		return nil, fmt.Errorf("%w: its protected header is not that of ES384", ErrMalformed)
	case string(m.Unprotected) != emptyMap:
		return nil, fmt.Errorf("%w: its unprotected header is not an empty map", ErrMalformed)
	case len(m.Payload) == 0 || len(m.Payload) > maxPayloadSize:
		return nil, fmt.Errorf("%w: its payload has %d bytes, want 1 to %d", ErrMalformed, len(m.Payload), maxPayloadSize)
	case len(m.Signature) != signatureSize:
		return nil, fmt.Errorf("%w: its signature has %d bytes, want %d", ErrMalformed, len(m.Signature), signatureSize)
	}
	return &m, nil
}

// verify checks the signature with a key on P-384. What is signed is the
// Sig_structure of RFC 9052, section 4.4, without external data.
func (m *message) verify(signer *ecdsa.PublicKey) error {
	signed, err := cbor.Marshal([]any{"Signature1", []byte(m.Protected), []byte{}, []byte(m.Payload)})
	if err != nil {
		return fmt.Errorf("nitro: encoding what is signed: %w", err)
	}
	digest := sha512.Sum384(signed)
	r := new(big.Int).SetBytes(m.Signature[:signatureSize/2])
	s := new(big.Int).SetBytes(m.Signature[signatureSize/2:])
	if !ecdsa.Verify(signer, digest[:], r, s) {
		return ErrSignature
	}
	return nil
}

// reason tells what the decoder did not like, in words that do not name our types.
func reason(err error) string {
	var mismatch *cbor.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return err.Error()
	}
	name := mismatch.StructFieldName[strings.LastIndexByte(mismatch.StructFieldName, '.')+1:]
	if name == "" {
		return "there is an item of the type " + mismatch.CBORType + " in it"
	}
	return name + " is of the type " + mismatch.CBORType
}
