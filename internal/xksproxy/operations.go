package xksproxy

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"kastellan.dev/internal/xksapi"
)

// authorize asks the store's rules.
func (c *call) authorize() error {
	effect, rule := decide(c.store.rules, c.store.fallback, c.route.op, c.route.keyID, &c.metadata)
	c.rule = rule
	if effect == Allow {
		return nil
	}
	return Errorf(xksapi.AccessDeniedException, "the proxy's rules deny this")
}

// understood keeps the request's metadata, if there are any.
func (c *call) understood(m *xksapi.RequestMetadata) {
	if m != nil {
		c.metadata = *m
	}
}

func (c *call) getKeyMetadata(ctx context.Context, body []byte) (any, error) {
	req, bad := parse[xksapi.MetadataRequest](body)
	if bad != nil {
		return nil, bad
	}
	c.understood(req.RequestMetadata)
	if bad := checkMetadata(req.RequestMetadata, opMetadata); bad != nil {
		return nil, bad
	}
	if err := c.authorize(); err != nil {
		return nil, err
	}
	key, err := c.store.lookup(ctx, c.route.keyID)
	if err != nil {
		return nil, err
	}
	answer := xksapi.MetadataResponse{KeySpec: key.info.Spec, KeyUsage: []string{}, KeyStatus: xksapi.KeyDisabled}
	if key.info.Encrypt {
		answer.KeyUsage = append(answer.KeyUsage, xksapi.UsageEncrypt)
	}
	if key.info.Decrypt {
		answer.KeyUsage = append(answer.KeyUsage, xksapi.UsageDecrypt)
	}
	if key.info.Enabled {
		answer.KeyStatus = xksapi.KeyEnabled
	}
	return answer, nil
}

// usable finds the key and checks its state and usage.
func (c *call) usable(ctx context.Context, encrypt, decrypt bool) (Key, error) {
	key, err := c.store.lookup(ctx, c.route.keyID)
	if err != nil {
		return nil, err
	}
	switch {
	case !key.info.Enabled:
		return nil, Errorf(xksapi.InvalidStateException, "the key is disabled")
	case key.info.Spec != xksapi.KeySpecAES256:
		return nil, Errorf(xksapi.InvalidKeyUsageException, "the key is not an AES-256 key")
	case encrypt && !key.info.Encrypt:
		return nil, Errorf(xksapi.InvalidKeyUsageException, "the key may not encrypt")
	case decrypt && !key.info.Decrypt:
		return nil, Errorf(xksapi.InvalidKeyUsageException, "the key may not decrypt")
	}
	return key.Key, nil
}

func (c *call) encrypt(ctx context.Context, body []byte) (any, error) {
	req, bad := parseEncrypt(body)
	if req != nil {
		c.understood(req.RequestMetadata)
		defer clear(req.Plaintext)
	}
	if bad != nil {
		return nil, bad
	}
	if err := c.authorize(); err != nil {
		return nil, err
	}
	integrity := req.IntegrityAlgorithm != nil
	key, err := c.usable(ctx, true, integrity)
	if err != nil {
		return nil, err
	}
	if err := c.checkSizes("plaintext", req.Plaintext, req.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	out, err := key.Encrypt(ctx, req.Plaintext, req.AdditionalAuthenticatedData)
	if err != nil {
		return nil, err
	}
	if err := checkSealed(out, len(req.Plaintext)); err != nil {
		return nil, err
	}
	answer := xksapi.EncryptResponse{
		Ciphertext: notNil(out.Ciphertext), InitializationVector: out.IV,
		AuthenticationTag: out.Tag, CiphertextMetadata: out.Metadata,
	}
	if !integrity {
		return answer, nil
	}
	// The value comes first: what is corrupted after the check must not be covered by it.
	answer.CiphertextDataIntegrityValue = xksapi.IntegrityValue(
		req.AdditionalAuthenticatedData, out.Metadata, out.IV, out.Ciphertext, out.Tag)
	return answer, checkDecrypts(ctx, key, out, req)
}

// checkSealed does not take a key manager's word: KMS would find out only when it decrypts.
func checkSealed(out Sealed, plaintext int) error {
	if len(out.Ciphertext) != plaintext || !validIV(out.IV) || len(out.Tag) != xksapi.TagSize || len(out.Metadata) > xksapi.MaxCiphertextMetadata {
		return fmt.Errorf("the key manager encrypted %d bytes to %d, with %d of IV, %d of tag, %d of metadata",
			plaintext, len(out.Ciphertext), len(out.IV), len(out.Tag), len(out.Metadata))
	}
	return nil
}

func checkDecrypts(ctx context.Context, key Key, out Sealed, req *encryptRequest) error {
	back, err := key.Decrypt(ctx, out, req.AdditionalAuthenticatedData)
	defer clear(back)
	if err == nil && subtle.ConstantTimeCompare(back, req.Plaintext) == 1 {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e) && e.Name != xksapi.InvalidCiphertextException:
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled): // too late to know
		return err
	default:
		return Errorf(xksapi.InternalException, "the ciphertext does not decrypt to its plaintext").Because(err)
	}
}

func (c *call) decrypt(ctx context.Context, body []byte) (any, error) {
	req, bad := parseDecrypt(body)
	if req != nil {
		c.understood(req.RequestMetadata)
	}
	if bad != nil {
		return nil, bad
	}
	if err := c.authorize(); err != nil {
		return nil, err
	}
	key, err := c.usable(ctx, false, true)
	if err != nil {
		return nil, err
	}
	if err := c.checkSizes("ciphertext", req.Ciphertext, req.AdditionalAuthenticatedData); err != nil {
		return nil, err
	}
	if !validIV(req.InitializationVector) || len(req.AuthenticationTag) != xksapi.TagSize || len(req.CiphertextMetadata) > xksapi.MaxCiphertextMetadata {
		return nil, Errorf(xksapi.InvalidCiphertextException, "an initialization vector has 12 or 16 bytes, a tag 16, metadata 20 at most")
	}
	sealed := Sealed{
		IV: req.InitializationVector, Ciphertext: req.Ciphertext,
		Tag: req.AuthenticationTag, Metadata: req.CiphertextMetadata,
	}
	plaintext, err := key.Decrypt(ctx, sealed, req.AdditionalAuthenticatedData)
	if err != nil {
		return nil, err
	}
	if len(plaintext) != len(req.Ciphertext) {
		return nil, fmt.Errorf("the key manager decrypted %d bytes to %d", len(req.Ciphertext), len(plaintext))
	}
	return xksapi.DecryptResponse{Plaintext: notNil(plaintext)}, nil
}

func validIV(iv []byte) bool { return len(iv) == 12 || len(iv) == 16 }

func (c *call) checkSizes(name string, text, aad []byte) error {
	switch {
	case len(text) > c.store.limits.MaxPlaintext:
		return Errorf(xksapi.UnsupportedOperationException, "the largest %s has %d bytes", name, c.store.limits.MaxPlaintext)
	case len(aad) > c.store.limits.MaxAAD:
		return Errorf(xksapi.UnsupportedOperationException, "the largest additionalAuthenticatedData have %d bytes", c.store.limits.MaxAAD)
	}
	return nil
}

func (c *call) health(ctx context.Context, body []byte) (any, error) {
	req, bad := parse[xksapi.HealthRequest](body)
	if bad != nil {
		return nil, bad
	}
	c.understood(req.RequestMetadata)
	if bad := checkMetadata(req.RequestMetadata, opHealth); bad != nil {
		return nil, bad
	}
	members, err := c.store.ring.health(ctx, c.state.cfg.HealthCache)
	if err != nil {
		return nil, err
	}
	return xksapi.HealthResponse{
		XksProxyFleetSize: c.state.cfg.FleetSize,
		XksProxyVendor:    vendor,
		XksProxyModel:     "Kastellan XKS Proxy " + printable(c.state.cfg.Version, 64),
		EkmVendor:         printable(c.store.ring.vendor(), 128),
		EkmFleetDetails:   fleet(members),
	}, nil
}

// notNil keeps an empty value from becoming null in JSON.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
