package trail

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// checkpoint is what a signed note says.
type checkpoint struct {
	trail string
	position
	time time.Time
}

const origin = "kastellan.dev/audit/"

// sign makes the note.
func (c checkpoint) sign(k *Key) (string, error) {
	hash, _ := c.Hash.MarshalText() // cannot fail
	text := fmt.Sprintf("%s%s\n%d\n%s\n%s\n", origin, c.trail, c.Sequence, hash, c.time.UTC().Format(time.RFC3339Nano))
	signed, err := note.Sign(&note.Note{Text: text}, k)
	return string(signed), err
}

// errNote says that a text is not a checkpoint.
var errNote = errors.New("not a checkpoint of an audit trail")

// parseCheckpoint reads a note's text, whose signature is verified elsewhere.
func parseCheckpoint(text string) (c checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[4] != "" {
		return c, errNote
	}
	var ok bool
	if c.trail, ok = strings.CutPrefix(lines[0], origin); !ok {
		return c, errNote
	}
	if _, err := fmt.Sscanf(lines[1], "%d", &c.Sequence); err != nil || fmt.Sprint(c.Sequence) != lines[1] {
		return c, errNote
	}
	if err := c.Hash.UnmarshalText([]byte(lines[2])); err != nil {
		return c, errNote
	}
	if c.time, err = time.Parse(time.RFC3339Nano, lines[3]); err != nil {
		return c, errNote
	}
	return c, nil
}

// openCheckpoint verifies a note against the keys.
func openCheckpoint(signed string, keys note.Verifiers) (checkpoint, error) {
	n, err := note.Open([]byte(signed), keys)
	if err != nil {
		return checkpoint{}, err
	}
	return parseCheckpoint(n.Text)
}

// verifiers are the keys that notes may be signed with.
func verifiers(keys ...string) (note.Verifiers, error) {
	var list []note.Verifier
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("%q is not a public key of an audit trail", key)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}
