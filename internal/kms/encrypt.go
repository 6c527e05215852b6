package kms

import (
	"context"
	"slices"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// options are the members that all cryptographic operations share.
type options struct {
	grantTokens []string
	contexts    []map[string]string
}

// check refuses grant tokens that are none and contexts that are too long,
// before anything else happens.
func (o options) check(ctx context.Context, c *call) error {
	if err := c.checkGrantTokens(ctx, o.grantTokens); err != nil {
		return err
	}
	for _, context := range o.contexts {
		if size := blob.ContextSize(context); size > blob.MaxContextSize {
			return invalid("The encryption context takes %d bytes, the limit is %d.", size, blob.MaxContextSize)
		}
	}
	return nil
}

func dryRun() error {
	return kmsapi.Errorf(kmsapi.DryRunOperation, "The request would have succeeded, but the DryRun option is set.")
}

// cipher is an encryption key with an algorithm that it has, and the
// encryption context, which only symmetric keys have.
type cipher struct {
	key       *keyEntry
	algorithm kmsapi.EncryptionAlgorithmSpec
	context   map[string]string
}

// cipherOf admits the algorithms of the key's spec; without one it is
// SYMMETRIC_DEFAULT, as for every caller who knows symmetric keys only.
func cipherOf(k *keyEntry, a kmsapi.EncryptionAlgorithmSpec, context map[string]string) (cipher, error) {
	if a == "" {
		a = kmsapi.AlgorithmSymmetricDefault
	}
	if !slices.Contains(k.spec.EncryptionAlgorithms(k.Usage), a) {
		return cipher{}, kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", a, k.Spec)
	}
	if !k.spec.Symmetric() && len(context) > 0 {
		return cipher{}, invalid("An encryption context is valid only with symmetric encryption keys: %s has the key spec %s.", k.ARN, k.Spec)
	}
	return cipher{key: k, algorithm: a, context: context}, nil
}

// materialID is what answers tell of the material: nothing of asymmetric keys.
func (e cipher) materialID(v *keyVersion) string {
	if v == nil || !e.key.spec.Symmetric() {
		return ""
	}
	return v.materialID
}

// seal encrypts with a key that the call may use. version is the material that did it.
func (c *call) seal(ctx context.Context, e cipher, plaintext []byte) (ciphertext []byte, version *keyVersion, err error) {
	if !e.key.spec.Symmetric() {
		public, err := e.key.public()
		if err != nil {
			return nil, nil, err
		}
		ciphertext, err = public.Encrypt(e.algorithm, plaintext)
		return ciphertext, nil, err
	}
	version = e.key.current
	ks, err := c.material(e.key, version)
	if err != nil {
		return nil, nil, err
	}
	out := make([]byte, len(version.header), len(version.header)+len(plaintext)+128)
	copy(out, version.header)
	ciphertext, err = ks.Encrypt(ctx, c.onBehalf(), version.key, out, plaintext, blob.AppendAAD(nil, version.header, e.context))
	return ciphertext, version, err
}

// rehearseSeal is the end of a dry run that would encrypt: asymmetric keys do,
// because only they know what they have room for; symmetric ones have room for
// all that a request can hold. plaintext is empty if nobody knows it.
func (c *call) rehearseSeal(ctx context.Context, e cipher, plaintext []byte) error {
	if !e.key.spec.Symmetric() && len(plaintext) > 0 {
		if _, _, err := c.seal(ctx, e, plaintext); err != nil {
			return err
		}
	}
	return dryRun()
}

// rehearseOpen opens a ciphertext for a dry run. It gives nothing for one that is to
// be ignored, and for keys in custom key stores, which are not troubled with it.
func (c *call) rehearseOpen(ctx context.Context, s sealed) ([]byte, error) {
	if s.blind || s.key.StoreID != "" {
		return nil, nil
	}
	return c.open(ctx, s)
}

func (c *call) encrypt(ctx context.Context, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	k, err := c.use(in.KeyID)
	if err != nil {
		return nil, err
	}
	e, err := cipherOf(k, in.EncryptionAlgorithm, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, c.rehearseSeal(ctx, e, in.Plaintext.Reveal())
	}
	ciphertext, _, err := c.seal(ctx, e, in.Plaintext.Reveal())
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncryptResponse{CiphertextBlob: ciphertext, KeyID: k.ARN, EncryptionAlgorithm: e.algorithm}, nil
}

func (c *call) decrypt(ctx context.Context, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(ctx, c); err != nil {
		return nil, err
	}
	blind, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	to, err := c.recipient(in.Recipient)
	if err != nil {
		return nil, err
	}
	src := source{
		blob: in.CiphertextBlob, keyID: in.KeyID, member: "keyId", asking: question{permission: c.op.Permission},
		algorithm: in.EncryptionAlgorithm, context: in.EncryptionContext, blind: blind,
	}
	opened, err := c.sourceOf(src)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		plaintext, err := c.rehearseOpen(ctx, opened)
		if err != nil {
			return nil, err
		}
		clear(plaintext)
		return nil, dryRun()
	}
	plaintext, err := c.open(ctx, opened)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.DecryptResponse{KeyID: opened.key.ARN, EncryptionAlgorithm: opened.algorithm}
	if to != nil {
		out.CiphertextForRecipient, err = to.seal(plaintext)
		return out, err
	}
	out.Plaintext, out.KeyMaterialID = secret.New(plaintext), opened.materialID(opened.version)
	return out, nil
}

// ignoresCiphertext tells whether a dry run goes without a ciphertext.
func ignoresCiphertext(dry bool, modifiers []kmsapi.DryRunModifierType) (bool, error) {
	if len(modifiers) > 0 && !dry {
		return false, invalid("DryRunModifiers is valid only together with DryRun.")
	}
	return len(modifiers) > 0, nil
}

func (c *call) reEncrypt(ctx context.Context, in *kmsapi.ReEncryptRequest) (*kmsapi.ReEncryptResponse, error) {
	contexts := []map[string]string{in.SourceEncryptionContext, in.DestinationEncryptionContext}
	if err := (options{grantTokens: in.GrantTokens, contexts: contexts}).check(ctx, c); err != nil {
		return nil, err
	}
	blind, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	src := source{
		blob: in.CiphertextBlob, keyID: in.SourceKeyID, member: "sourceKeyId", asking: question{permission: c.op.Permission, half: sourceHalf},
		algorithm: in.SourceEncryptionAlgorithm, context: in.SourceEncryptionContext, blind: blind,
	}
	if in.SourceKeyID != "" {
		c.sourceKey = c.named(in.SourceKeyID)
	}
	from, err := c.sourceOf(src)
	if err != nil {
		return nil, err
	}
	to, err := c.destination(in)
	if err != nil {
		return nil, err
	}
	c.noting = "source"
	if in.DryRun {
		plaintext, err := c.rehearseOpen(ctx, from)
		if err != nil {
			return nil, err
		}
		defer clear(plaintext)
		c.noting = "destination"
		return nil, c.rehearseSeal(ctx, to, plaintext)
	}
	plaintext, err := c.open(ctx, from)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	c.noting = "destination"
	ciphertext, version, err := c.seal(ctx, to, plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.ReEncryptResponse{
		CiphertextBlob: ciphertext, SourceKeyID: from.key.ARN, KeyID: to.key.ARN,
		SourceEncryptionAlgorithm: from.algorithm, DestinationEncryptionAlgorithm: to.algorithm,
		SourceKeyMaterialID: from.materialID(from.version), DestinationKeyMaterialID: to.materialID(version),
	}, nil
}

// destination is the key under which ReEncrypt encrypts again.
func (c *call) destination(in *kmsapi.ReEncryptRequest) (cipher, error) {
	k, err := c.allowed(in.DestinationKeyID, question{permission: reEncryptTo, half: destinationHalf})
	if err != nil {
		return cipher{}, err
	}
	if err := usage(kmsapi.EncryptDecrypt)(c, k); err != nil {
		return cipher{}, err
	}
	return cipherOf(k, in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext)
}
