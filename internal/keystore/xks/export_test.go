package xks

import (
	"context"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/xksapi"
)

// Parts are a sealed body taken apart.
type Parts struct{ IV, Metadata, Tag, Ciphertext []byte }

// ParseBody takes sealed bytes apart.
func ParseBody(sealed []byte) (Parts, error) {
	p, err := parseBody(sealed)
	return Parts{p.iv, p.metadata, p.tag, p.ciphertext}, err
}

// Body puts sealed bytes together.
func (p Parts) Body() []byte { return parts{p.IV, p.Metadata, p.Tag, p.Ciphertext}.appendTo(nil) }

// Outcomes lists the outcomes that have a meaning.
func Outcomes() []string {
	var out []string
	for o := range meanings {
		out = append(out, string(o))
	}
	return out
}

// CheckAnswers decodes a body as each of the answers, and holds it against the specification.
func CheckAnswers(body []byte) (errs []error) {
	var health xksapi.HealthResponse
	err := decode(body, &health)
	if err == nil {
		err = checkHealth(&health)
	}
	errs = append(errs, err)
	var metadata xksapi.MetadataResponse
	if err = decode(body, &metadata); err == nil {
		err = checkMetadata(&metadata)
	}
	errs = append(errs, err)
	var encrypted xksapi.EncryptResponse
	if err = decode(body, &encrypted); err == nil {
		_, err = checkEncrypted(&encrypted, make([]byte, len(encrypted.Ciphertext)), nil)
	}
	errs = append(errs, err)
	return append(errs, refusal(400, body))
}

// Dial connects to the proxy of a store as its requests do, for nobody in particular.
func (k *Kind) Dial(ctx context.Context, cfg keystore.Config) error {
	l, err := k.open(cfg, nil)
	if err != nil {
		return err
	}
	defer l.close()
	_, err = l.transport.DialContext(ctx, "tcp", l.host+":443")
	return err
}
