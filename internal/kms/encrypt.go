package kms

import (
	"context"

	"kastellan.dev/internal/blob"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// options are the members that all cryptographic operations share.
type options struct {
	grantTokens []string
	recipient   *kmsapi.RecipientInfo
	contexts    []map[string]string
}

// check refuses what this version does not do, before anything else happens.
func (o options) check() error {
	if len(o.grantTokens) > 0 {
		return kmsapi.Errorf(kmsapi.InvalidGrantToken, "The grant token does not belong to any grant.")
	}
	if o.recipient != nil {
		return invalid("Recipient is not supported yet.")
	}
	for _, context := range o.contexts {
		if size := blob.ContextSize(context); size > blob.MaxContextSize {
			return invalid("The encryption context takes %d bytes, the limit is %d.", size, blob.MaxContextSize)
		}
	}
	return nil
}

// checkAlgorithm admits the one algorithm of symmetric keys.
func checkAlgorithm(a kmsapi.EncryptionAlgorithmSpec, k *keyEntry) error {
	if a != "" && a != kmsapi.AlgorithmSymmetricDefault {
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", a, k.Spec)
	}
	return nil
}

func dryRun() error {
	return kmsapi.Errorf(kmsapi.DryRunOperation, "The request would have succeeded, but the DryRun option is set.")
}

// seal encrypts with a key that the call may use.
func (c *call) seal(ctx context.Context, k *keyEntry, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	ks, err := c.material(k)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(k.header), len(k.header)+len(plaintext)+128)
	copy(out, k.header)
	return ks.Encrypt(ctx, c.onBehalf(), k.material, out, plaintext, blob.AppendAAD(nil, k.header, encryptionContext))
}

// open decrypts what seal made.
func (c *call) open(ctx context.Context, k *keyEntry, header, body []byte, encryptionContext map[string]string) ([]byte, error) {
	ks, err := c.material(k)
	if err != nil {
		return nil, err
	}
	return ks.Decrypt(ctx, c.onBehalf(), k.material, body, blob.AppendAAD(nil, header, encryptionContext))
}

func (c *call) encrypt(ctx context.Context, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, contexts: []map[string]string{in.EncryptionContext}}).check(); err != nil {
		return nil, err
	}
	k, err := c.use(in.KeyID)
	if err != nil {
		return nil, err
	}
	if err := checkAlgorithm(in.EncryptionAlgorithm, k); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	ciphertext, err := c.seal(ctx, k, in.Plaintext.Reveal(), in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncryptResponse{CiphertextBlob: ciphertext, KeyID: k.ARN, EncryptionAlgorithm: kmsapi.AlgorithmSymmetricDefault}, nil
}

// source is a ciphertext that a caller wants opened.
type source struct {
	blob       []byte
	keyID      string // as given; may be empty
	permission string
	algorithm  kmsapi.EncryptionAlgorithmSpec
	blind      bool // a dry run that goes without the ciphertext
}

func (c *call) decrypt(ctx context.Context, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	if err := (options{grantTokens: in.GrantTokens, recipient: in.Recipient, contexts: []map[string]string{in.EncryptionContext}}).check(); err != nil {
		return nil, err
	}
	blind, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	src := source{blob: in.CiphertextBlob, keyID: in.KeyID, permission: c.op.Permission, algorithm: in.EncryptionAlgorithm, blind: blind}
	k, header, body, err := c.sourceKey(src, "keyId")
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	plaintext, err := c.open(ctx, k, header, body, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.DecryptResponse{
		KeyID: k.ARN, Plaintext: secret.New(plaintext), EncryptionAlgorithm: kmsapi.AlgorithmSymmetricDefault, KeyMaterialID: k.MaterialID,
	}, nil
}

// ignoresCiphertext tells whether a dry run goes without a ciphertext.
func ignoresCiphertext(dry bool, modifiers []kmsapi.DryRunModifierType) (bool, error) {
	if len(modifiers) > 0 && !dry {
		return false, invalid("DryRunModifiers is valid only together with DryRun.")
	}
	return len(modifiers) > 0, nil
}

// sourceKey finds the key that made a ciphertext, for a caller who may use it.
func (c *call) sourceKey(src source, member string) (k *keyEntry, header, body []byte, err error) {
	if len(src.blob) == 0 {
		return c.blindSource(src, member)
	}
	h, header, body, err := blob.Parse(src.blob)
	if err != nil {
		return nil, nil, nil, kmsapi.Errorf(kmsapi.InvalidCiphertext, "").Because(err)
	}
	if src.keyID != "" {
		k, err = c.allowed(src.keyID, src.permission)
		if err == nil && k.ID != h.KeyID {
			err = kmsapi.Errorf(kmsapi.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
		}
	} else {
		k, err = c.implied(h.KeyID, src.permission)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return k, header, body, checkAlgorithm(src.algorithm, k)
}

func (c *call) blindSource(src source, member string) (*keyEntry, []byte, []byte, error) {
	if !src.blind {
		return nil, nil, nil, invalid("1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	}
	if src.keyID == "" {
		return nil, nil, nil, invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	k, err := c.allowed(src.keyID, src.permission)
	return k, nil, nil, err
}

// implied finds the key that a ciphertext names. One text serves for keys
// that do not exist, that are another's and that the caller may not use.
func (c *call) implied(id, permission string) (*keyEntry, error) {
	k := c.s.mirror.key(c.caller.Region, id)
	if k == nil || k.Account != c.caller.Account || c.authorize(permission, k.ARN) != nil {
		c.decided = true
		return nil, kmsapi.Errorf(kmsapi.AccessDenied,
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	c.about("AWS::KMS::Key", k.ARN)
	return k, c.inState(k)
}

func (c *call) reEncrypt(ctx context.Context, in *kmsapi.ReEncryptRequest) (*kmsapi.ReEncryptResponse, error) {
	contexts := []map[string]string{in.SourceEncryptionContext, in.DestinationEncryptionContext}
	if err := (options{grantTokens: in.GrantTokens, contexts: contexts}).check(); err != nil {
		return nil, err
	}
	blind, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	src := source{blob: in.CiphertextBlob, keyID: in.SourceKeyID, permission: "kms:ReEncryptFrom", algorithm: in.SourceEncryptionAlgorithm, blind: blind}
	from, header, body, err := c.sourceKey(src, "sourceKeyId")
	if err != nil {
		return nil, err
	}
	to, err := c.allowed(in.DestinationKeyID, "kms:ReEncryptTo")
	if err != nil {
		return nil, err
	}
	if err := checkAlgorithm(in.DestinationEncryptionAlgorithm, to); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, dryRun()
	}
	plaintext, err := c.open(ctx, from, header, body, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	ciphertext, err := c.seal(ctx, to, plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.ReEncryptResponse{
		CiphertextBlob: ciphertext, SourceKeyID: from.ARN, KeyID: to.ARN,
		SourceEncryptionAlgorithm: kmsapi.AlgorithmSymmetricDefault, DestinationEncryptionAlgorithm: kmsapi.AlgorithmSymmetricDefault,
		SourceKeyMaterialID: from.MaterialID, DestinationKeyMaterialID: to.MaterialID,
	}, nil
}
