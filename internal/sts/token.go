package sts

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/secret"
)

const (
	tokenVersion = 1
	secretSize   = 30 // bytes, 40 characters
	headerSize   = 1 + secretSize
	purpose      = "session token"

	// maxToken is the longest token that is given out, in characters, as AWS has it: every
	// header can hold it.
	maxToken = 4096
	// maxClaims is how large the claims of one may become, in bytes: whoever made it
	// was bounded by the constraints of requests.
	maxClaims = 256 << 10
)

// The kinds of sessions.
const (
	ofRole      = "role"
	ofUser      = "user"      // a user, or root, itself
	ofFederated = "federated" // somebody for whom a user stands surety
)

// claims are what a session is. They are in the token.
type claims struct {
	Kind       string            `json:"kind"`
	Issuer     string            `json:"issuer"`         // ARN of the role or user
	IssuerID   string            `json:"issuerId"`       // its unique id
	Name       string            `json:"name,omitempty"` // the session's
	Issued     int64             `json:"issued"`         // seconds since 1970
	Expires    int64             `json:"expires"`
	Policy     string            `json:"policy,omitempty"`
	PolicyARNs []string          `json:"policyArns,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Transitive []string          `json:"transitive,omitempty"` // keys of Tags
	SourceID   string            `json:"sourceIdentity,omitempty"`
	Provider   string            `json:"provider,omitempty"` // name of the OIDC provider
	Claims     map[string]string `json:"claims,omitempty"`   // by the names of condition keys
}

// credentials are what a session's requests are signed with.
type credentials struct {
	accessKeyID string
	secret      secret.Text
	token       secret.Text
	expires     time.Time
}

// issue makes the credentials of a session. The token has at least so many characters.
func issue(sealer rootkey.Sealer, c *claims, atLeast int) (*credentials, error) {
	var id [10]byte
	_, _ = rand.Read(id[:]) // never fails
	plain := make([]byte, headerSize, 512)
	plain[0] = tokenVersion
	_, _ = rand.Read(plain[1:])
	out := &credentials{
		accessKeyID: temporaryPrefix + base32.StdEncoding.EncodeToString(id[:]),
		secret:      secretOf(plain),
		expires:     time.Unix(c.Expires, 0).UTC(),
	}
	packed, err := pack(c)
	if err != nil {
		return nil, err
	}
	plain = append(plain, packed...)
	defer clear(plain)
	sealed, err := sealer.Seal(purpose, out.accessKeyID, plain)
	if err != nil {
		return nil, err
	}
	if missing := (atLeast+3)/4*3 - len(sealed); missing > 0 {
		plain = append(plain, make([]byte, missing)...)
		if sealed, err = sealer.Seal(purpose, out.accessKeyID, plain); err != nil {
			return nil, err
		}
	}
	out.token = secret.NewText(base64.StdEncoding.EncodeToString(sealed))
	return out, nil
}

// temporaryPrefix is what the ids of temporary access keys begin with.
const temporaryPrefix = "ASIA"

func secretOf(plain []byte) secret.Text {
	return secret.NewText(base64.StdEncoding.EncodeToString(plain[1:headerSize]))
}

// errToken is all that is told of a token that is none of ours.
var errToken = errors.New("sts: the session token was changed, or made for another access key, or elsewhere")

// open undoes issue.
func open(sealer rootkey.Sealer, accessKeyID, token string) (*credentials, *claims, error) {
	if !strings.HasPrefix(accessKeyID, temporaryPrefix) || len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return nil, nil, errToken
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, nil, errToken
	}
	plain, err := sealer.Open(purpose, accessKeyID, sealed)
	if err != nil || len(plain) < headerSize || plain[0] != tokenVersion {
		return nil, nil, errToken
	}
	defer clear(plain)
	c, err := unpack(plain[headerSize:])
	if err != nil {
		return nil, nil, err
	}
	return &credentials{
		accessKeyID: strings.Clone(accessKeyID),
		secret:      secretOf(plain),
		token:       secret.NewText(strings.Clone(token)),
		expires:     time.Unix(c.Expires, 0).UTC(),
	}, c, nil
}

// pack compresses the JSON of v.
func pack(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(packed []byte) (*claims, error) {
	r := flate.NewReader(bytes.NewReader(packed))
	text, err := io.ReadAll(io.LimitReader(r, maxClaims+1))
	if err != nil || len(text) > maxClaims {
		return nil, errToken
	}
	c := new(claims)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, errToken
	}
	return c, nil
}
