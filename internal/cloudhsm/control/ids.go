package control

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

	"kastellan.dev/internal/cloudhsmapi"
)

// idAlphabet is what ids of the CloudHSM API are made of after the kind; it
// takes capital letters too, which we do not use.
const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// idLength gives 55 bits: what is drawn is checked against what exists all the same.
const idLength = 11

// newID makes the id of a resource: "cluster-2345abcdefg".
func newID(kind cloudhsmapi.Resource) string { return string(kind) + "-" + randomText(idLength) }

// randomText gives n characters of the alphabet, of 5 bits each.
func randomText(n int) string {
	random := make([]byte, n)
	_, _ = rand.Read(random) // never fails
	for i, b := range random {
		random[i] = idAlphabet[b%byte(len(idAlphabet))]
	}
	return string(random)
}

// newHexID makes the id of a network interface ("eni") or a security group ("sg").
func newHexID(kind string) string {
	var random [9]byte
	_, _ = rand.Read(random[:]) // never fails
	return kind + "-" + hex.EncodeToString(random[:])[:17]
}

// digest stands for a text of any length and any characters in a storage key.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
