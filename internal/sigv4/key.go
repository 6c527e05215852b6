package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"strings"
	"sync"
	"time"

	"kastellan.dev/internal/secret"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateLength = len("20060102")

	// minSecretLength makes, with "AWS4", the 112 bits that FIPS asks of an HMAC
	// key; in FIPS-only mode a shorter one panics.
	minSecretLength = 10
)

// signingKey is the key that a secret access key becomes for one day, Region
// and service, and from which the secret cannot be found.
type signingKey struct {
	from secret.Text // the secret access key
	macs sync.Pool   // of hash.Hash: keyed once, since that is half of the work
}

func deriveKey(from secret.Text, date, region, service string) *signingKey {
	key := []byte("AWS4" + from.Reveal())
	for _, part := range []string{date, region, service, terminator} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	k := &signingKey{from: from}
	k.macs.New = func() any { return hmac.New(sha256.New, key) }
	return k
}

// keyCache remembers signing keys. The zero value is empty.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyName]*signingKey
}

type keyName struct{ accessKeyID, date, region string }

// maxKeys bounds a keyCache. Beyond it the cache starts afresh, which costs
// each user five short HMACs and spares keeping their ages.
const maxKeys = 1024

// get finds a key, unless it was derived from another secret than the one in force.
func (c *keyCache) get(name keyName, from secret.Text) (*signingKey, bool) {
	c.mu.RLock()
	k, ok := c.keys[name]
	c.mu.RUnlock()
	if !ok || !k.from.Equal(from) {
		return nil, false
	}
	return k, true
}

func (c *keyCache) put(name keyName, k *signingKey) {
	// The name is cut out of a header, which would be kept with it.
	name = keyName{strings.Clone(name.accessKeyID), strings.Clone(name.date), strings.Clone(name.region)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = make(map[keyName]*signingKey)
	}
	c.keys[name] = k
}

// terms are what a signature is made of besides the request and the key.
type terms struct {
	params          []param
	signedHeaders   string
	at              time.Time // UTC
	region, service string
}

// worktable is memory for one signature.
type worktable struct {
	text      []byte
	sum       [sha256.Size]byte
	bodyHash  [2 * sha256.Size]byte // hex
	signature [2 * sha256.Size]byte // hex
}

var worktables = sync.Pool{New: func() any { return &worktable{text: make([]byte, 0, 2048)} }}

// release gives the table back; what it held is no longer valid.
func (w *worktable) release() {
	if cap(w.text) <= 64<<10 {
		worktables.Put(w)
	}
}

// sign fills in bodyHash and signature.
func (w *worktable) sign(r *http.Request, body []byte, t *terms, key *signingKey) {
	w.sum = sha256.Sum256(body)
	hex.Encode(w.bodyHash[:], w.sum[:])
	w.text = appendCanonicalRequest(w.text[:0], r, t.params, t.signedHeaders, w.bodyHash[:])
	w.sum = sha256.Sum256(w.text)
	w.text = appendStringToSign(w.text[:0], t, w.sum[:])

	mac := key.macs.Get().(hash.Hash)
	mac.Reset()
	mac.Write(w.text)
	hex.Encode(w.signature[:], mac.Sum(w.sum[:0]))
	key.macs.Put(mac)
}

func appendStringToSign(b []byte, t *terms, requestHash []byte) []byte {
	b = append(b, algorithm+"\n"...)
	b = t.at.AppendFormat(b, timeFormat)
	date := b[len(b)-len(timeFormat):][:dateLength]
	b = append(b, '\n')
	b = appendScope(b, string(date), t.region, t.service)
	b = append(b, '\n')
	return hex.AppendEncode(b, requestHash)
}

func appendScope(b []byte, date, region, service string) []byte {
	for _, part := range []string{date, region, service} {
		b = append(b, part...)
		b = append(b, '/')
	}
	return append(b, terminator...)
}
