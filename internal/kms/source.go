package kms

import (
	"context"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/policy"
)

// source is a ciphertext that a caller wants opened.
type source struct {
	blob      []byte
	keyID     string // as given; may be empty
	member    string // what the request calls the key id
	asking    question
	algorithm kmsapi.EncryptionAlgorithmSpec
	context   map[string]string
	blind     bool // a dry run that ignores the ciphertext
}

// sealed is a ciphertext with the key that is to open it.
type sealed struct {
	cipher
	version *keyVersion // of a symmetric key
	header  []byte      // of a blob; nil for an asymmetric key
	body    []byte
	blind   bool // there is neither a header nor a body
}

// sourceOf finds the key that made a ciphertext, for a caller who may use it.
func (c *call) sourceOf(src source) (sealed, error) {
	if src.blind || len(src.blob) == 0 {
		return c.blindSource(src)
	}
	if src.keyID == "" {
		return c.selfDescribed(src)
	}
	k, err := c.decrypter(src)
	if err != nil {
		return sealed{}, err
	}
	if !k.spec.Symmetric() {
		e, err := cipherOf(k, src.algorithm, src.context)
		return sealed{cipher: e, body: src.blob}, err
	}
	h, header, body, err := parse(src.blob)
	if err != nil {
		return sealed{}, err
	}
	if h.KeyID != k.ID {
		return sealed{}, incorrectKey()
	}
	return ofVersion(k, h, header, body, src)
}

// decrypter gives the key that the caller names.
func (c *call) decrypter(src source) (*keyEntry, error) {
	k, err := c.allowed(src.keyID, src.asking)
	if err != nil {
		return nil, err
	}
	return k, decrypts(c, k)
}

// selfDescribed finds the key that a blob names. Ciphertexts of asymmetric keys name none.
func (c *call) selfDescribed(src source) (sealed, error) {
	if src.algorithm != "" && src.algorithm != kmsapi.AlgorithmSymmetricDefault {
		return sealed{}, invalid("The key id is required for a ciphertext of the algorithm %s.", src.algorithm)
	}
	h, header, body, err := parse(src.blob)
	if err != nil {
		return sealed{}, err
	}
	k, err := c.implied(h.KeyID, src.asking)
	if err != nil {
		return sealed{}, err
	}
	return ofVersion(k, h, header, body, src)
}

func parse(ciphertext []byte) (h blob.Header, header, body []byte, err error) {
	h, header, body, err = blob.Parse(ciphertext)
	if err != nil {
		err = kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	return h, header, body, err
}

// ofVersion finds the material that the blob names among the key's.
func ofVersion(k *keyEntry, h blob.Header, header, body []byte, src source) (sealed, error) {
	e, err := cipherOf(k, src.algorithm, src.context)
	if err != nil {
		return sealed{}, err
	}
	for i := range k.versions {
		if v := &k.versions[i]; v.materialID == h.MaterialID {
			return sealed{cipher: e, version: v, header: header, body: body}, nil
		}
	}
	return sealed{}, kmsapi.Errorf(kmsapi.InvalidCiphertext, "")
}

func (c *call) blindSource(src source) (sealed, error) {
	if !src.blind {
		return sealed{}, invalid("1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	}
	if src.keyID == "" {
		return sealed{}, invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", src.member)
	}
	k, err := c.decrypter(src)
	if err != nil {
		return sealed{}, err
	}
	e, err := cipherOf(k, src.algorithm, src.context)
	return sealed{cipher: e, blind: true}, err
}

// implied finds the key that a ciphertext names. One text serves for keys
// that do not exist, that are another's and that the caller may not use.
func (c *call) implied(id string, q question) (*keyEntry, error) {
	k := c.s.mirror.key(c.caller.Region, id)
	if k != nil {
		c.sourceKey = k
		q.key, q.resource = k, k.ARN
	}
	if k == nil || c.decide(q).Decision != policy.Allow {
		c.decided = true
		return nil, kmsapi.Errorf(kmsapi.AccessDenied,
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	c.aboutKey(k)
	if err := c.withinKeys(k); err != nil {
		return nil, err
	}
	return k, c.inState(k)
}

// open decrypts what seal made.
func (c *call) open(ctx context.Context, s sealed) ([]byte, error) {
	if !s.key.spec.Symmetric() {
		private, err := c.private(ctx, s.key)
		if err != nil {
			return nil, err
		}
		return private.Decrypt(s.algorithm, s.body)
	}
	ks, err := c.material(s.key, s.version)
	if err != nil {
		return nil, err
	}
	return ks.Decrypt(ctx, c.onBehalf(), s.version.key, s.body, blob.AppendAAD(nil, s.header, s.context))
}
