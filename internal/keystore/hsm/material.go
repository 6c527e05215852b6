package hsm

import (
	"errors"
	"fmt"

	"kastellan.dev/internal/keystore"
)

const materialVersion = 1

// material is what is kept with a KMS key to find its key objects and to know them.
type material struct {
	label     string // CKA_LABEL
	id        string // CKA_ID
	clusterID string // where the key was made; clusters restored from its backups have it too
	known     []byte // knownText, sealed when the key was made
}

// knownText is what every key encrypts first, with its label as authenticated data.
var knownText = []byte("kastellan known answer")

func (m material) encode() ([]byte, error) {
	out := []byte{materialVersion}
	for _, field := range []string{m.label, m.id, m.clusterID, string(m.known)} {
		if len(field) == 0 || len(field) > 255 {
			return nil, fmt.Errorf("a field of the key's record has %d bytes", len(field))
		}
		out = append(append(out, byte(len(field))), field...)
	}
	return out, nil
}

var errMaterial = errors.New("the key's record of its HSM objects is malformed")

func parseMaterial(data []byte) (material, error) {
	if len(data) == 0 || data[0] != materialVersion {
		return material{}, errMaterial
	}
	rest := data[1:]
	var fields [4]string
	for i := range fields {
		if len(rest) == 0 || rest[0] == 0 || len(rest) < 1+int(rest[0]) {
			return material{}, errMaterial
		}
		n := 1 + int(rest[0])
		fields[i], rest = string(rest[1:n]), rest[n:]
	}
	if len(rest) != 0 {
		return material{}, errMaterial
	}
	return material{label: fields[0], id: fields[1], clusterID: fields[2], known: []byte(fields[3])}, nil
}

// namesOf gives label and id of a key's objects, also for a key whose
// creation was interrupted before there was a record.
func namesOf(key keystore.Key) (label, id string, err error) {
	if key.Data == nil {
		return key.ARN, key.ID, nil
	}
	m, err := parseMaterial(key.Data)
	return m.label, m.id, err
}
