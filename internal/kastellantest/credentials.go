package kastellantest

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
)

// Credentials gives the access key that a user of that name has in every test.
func Credentials(user string) (id, text string) {
	sum := sha256.Sum256([]byte("kastellantest " + user))
	return "AKIA" + base32.StdEncoding.EncodeToString(sum[:10]), hex.EncodeToString(sum[10:30])
}
