package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"strconv"
)

// digest is a link of the chain.
type digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (d digest) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, d[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *digest) UnmarshalText(text []byte) error {
	var b [sha256.Size + 1]byte
	if len(text) != hashSize {
		return errEntry
	}
	if n, err := base64.StdEncoding.Strict().Decode(b[:], text); err != nil || n != sha256.Size {
		return errEntry
	}
	*d = digest(b[:sha256.Size])
	return nil
}

const (
	sequenceMember = `,"sequence":`
	hashMember     = `,"hash":"`
	hashSize       = 44 // characters
	tailSize       = len(hashMember) + hashSize + len(`"}`)
	sequenceDigits = 19 // what fits in 63 bits
)

// errEntry says that a line is not an entry.
var errEntry = errors.New("not an entry of an audit trail")

// position is a place in the chain: the entry that was written last.
type position struct {
	Sequence uint64 `json:"sequence"`
	Hash     digest `json:"hash"`
}

// chain makes entries, one after the other.
type chain struct {
	position
	sum hash.Hash
}

// append appends an object, `{…}`, to dst as the next entry.
func (c *chain) append(dst, object []byte) []byte {
	start := len(dst)
	dst = append(dst, object[:len(object)-1]...)
	dst = append(dst, sequenceMember...)
	dst = strconv.AppendUint(dst, c.Sequence+1, 10)
	c.Sequence++
	c.Hash = c.follow(dst[start:])
	dst = append(dst, hashMember...)
	dst = base64.StdEncoding.AppendEncode(dst, c.Hash[:])
	return append(dst, '"', '}', '\n')
}

// follow is the hash of an entry behind the present position.
func (c *chain) follow(hashed []byte) (next digest) {
	if c.sum == nil {
		c.sum = sha256.New()
	}
	c.sum.Reset()
	c.sum.Write(c.Hash[:])
	c.sum.Write(hashed)
	c.sum.Sum(next[:0])
	return next
}

// entry is a line that was taken apart.
type entry struct {
	position
	hashed []byte // the line up to the hash
}

// parseEntry takes a line apart, without its line feed. There is one way only
// to write each entry.
func parseEntry(line []byte) (e entry, err error) {
	at := len(line) - tailSize
	if at <= 0 || line[0] != '{' || !bytes.HasPrefix(line[at:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return e, errEntry
	}
	e.hashed = line[:at]
	if err := e.Hash.UnmarshalText(line[at+len(hashMember) : len(line)-2]); err != nil {
		return e, err
	}
	before, digits, found := cutLast(e.hashed, sequenceMember)
	if !found || len(before) < 2 || len(digits) == 0 || len(digits) > sequenceDigits || digits[0] == '0' {
		return e, errEntry
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return e, errEntry
		}
		e.Sequence = e.Sequence*10 + uint64(c-'0')
	}
	return e, nil
}

func cutLast(b []byte, sep string) (before, after []byte, found bool) {
	i := bytes.LastIndex(b, []byte(sep))
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+len(sep):], true
}

// The entries that the trail makes itself, by their first member.
const (
	segmentMember    = `{"segment":`
	checkpointMember = `{"checkpoint":`
	retentionMember  = `{"retention":`
)

func (e entry) is(member string) bool { return bytes.HasPrefix(e.hashed, []byte(member)) }

// isRecord tells an entry that holds a record from those of the trail's own.
func (e entry) isRecord() bool {
	return !e.is(segmentMember) && !e.is(checkpointMember) && !e.is(retentionMember)
}

// decode reads the object of an entry of the trail's own.
func (e entry) decode(into any) error {
	object := append(e.hashed[:len(e.hashed):len(e.hashed)], '}')
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// checkpoint tells whether an entry is a checkpoint, and gives it.
func (e entry) checkpoint() (c checkpointEntry, ok bool) {
	return c, e.is(checkpointMember) && e.decode(&c) == nil
}
