package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/pkcs11"
)

// The mechanisms that wrap AES keys under AES keys.
const (
	mechanismWrap    = 0x2109
	mechanismWrapPad = 0x210A
	mechanismKWP     = 0x210B
)

// wrapping copies a key within the token, as it is copied between members.
func (p *prober) wrapping(ctx context.Context) {
	if !p.report.ok(checkGenerate) || !p.report.ok(checkCluster) {
		return
	}
	for _, m := range []struct {
		kind  uint
		name  string
		means string
	}{
		{mechanismWrapPad, "CKM_AES_KEY_WRAP_PAD", "Kastellan tries CKM_AES_KEY_WRAP then."},
		{mechanismWrap, "CKM_AES_KEY_WRAP", "Kastellan needs it only where CKM_AES_KEY_WRAP_PAD is refused."},
		{mechanismKWP, "CKM_AES_KEY_WRAP_KWP", "Kastellan does not use it."},
	} {
		check := "wrap." + m.name
		err := p.wrapsWith(ctx, m.kind)
		if err == nil {
			p.note(check, Works, "wraps an AES key", "")
			continue
		}
		p.note(check, Differs, err.Error(), m.means)
		p.recover(ctx, err)
	}
	p.try(ctx, checkWrap, "wraps a key under the cluster key, and the unwrapped copies, one on the token and one of the session, are the same key", "Keys cannot be copied between members; replication: module does without.", p.copies(ctx))
}

func (p *prober) wrapsWith(ctx context.Context, mechanism uint) error {
	wrapping, err := p.find(ctx, p.token, clusterKey)
	if err != nil {
		return err
	}
	key, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	return p.token.WrapsWith(ctx, mechanism, wrapping, key)
}

// copies wraps the key, unwraps it twice, and compares.
func (p *prober) copies(ctx context.Context) error {
	wrapping, err := p.find(ctx, p.token, clusterKey)
	if err != nil {
		return err
	}
	key, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	wrapped, err := p.token.WrapKey(ctx, wrapping, key)
	if err != nil {
		return err
	}
	for _, what := range []string{copiedKey, scratchKey} {
		h, err := p.token.UnwrapKey(ctx, wrapping, wrapped, p.making(what))
		if err != nil {
			return err
		}
		if err := p.same(ctx, key, h); err != nil {
			return fmt.Errorf("the %s: %w", what, err)
		}
	}
	return nil
}

// same fails unless what the one encrypts the other decrypts. Without a source of IVs it cannot be found out.
func (p *prober) same(ctx context.Context, a, b pkcs11.Handle) error {
	if !p.hasIV {
		return errors.New("without AES-GCM it cannot be found out whether two keys are the same")
	}
	text := knownText(32)
	sealed, err := p.token.EncryptGCM(ctx, a, text, nil)
	if err != nil {
		return err
	}
	got, err := p.token.DecryptGCM(ctx, b, sealed, nil)
	if err == nil && !bytes.Equal(got, text) {
		err = errOtherText
	}
	return err
}

// transport carries the cluster key, as it is carried to a new member and to a vault.
func (p *prober) transport(ctx context.Context) {
	if !p.report.ok(checkCluster) {
		return
	}
	const means = "The cluster key cannot be carried to or from this token; replication: module does without."
	began := time.Now()
	pair, err := p.token.MakeTransportKey(ctx)
	if !p.try(ctx, checkPair, fmt.Sprintf("makes an RSA-3072 pair of the session, to unwrap only, in %s; OAEP with SHA-256: %s",
		time.Since(began).Round(time.Millisecond), map[bool]string{true: "no", false: "yes"}[pair.Public.SHA1Only]), means, err) {
		return
	}
	defer func() {
		for _, h := range []pkcs11.Handle{pair.Private, pair.PublicHandle} {
			_ = p.token.Destroy(ctx, h) // a session object: it ends with the process in any case
		}
	}()
	for _, sha1 := range []bool{false, true} {
		p.carry(ctx, pair, sha1)
	}
	if p.report.ok(checkOAEP256) || p.report.ok(checkOAEP1) {
		p.note(checkCarry, Works, "the cluster key gets from one token to another", "")
		return
	}
	p.note(checkCarry, Fails, "no way works", means)
}

// OAEP with SHA-256 is named by this byte before a wrapped key.
const wrappedSHA256 = 0x12

// carry wraps and unwraps the cluster key with one hash in OAEP.
func (p *prober) carry(ctx context.Context, pair pkcs11.TransportKey, sha1 bool) {
	check, hash := checkOAEP256, "SHA-256"
	if sha1 {
		check, hash = checkOAEP1, "SHA-1"
	}
	to := pair.Public
	to.SHA1Only = sha1
	same, err := p.carried(ctx, pair, to)
	switch {
	case err != nil:
		p.note(check, Differs, err.Error(), "One of SHA-256 and SHA-1 is enough.")
		p.recover(ctx, err)
	case !same:
		p.note(check, Differs, "the token wraps with SHA-1 instead", "One of SHA-256 and SHA-1 is enough.")
	default:
		p.note(check, Works, "wraps and unwraps the cluster key under RSA-OAEP with "+hash, "")
	}
}

// carried fails unless the cluster key's copy unwraps what it wrapped; it tells whether the wanted hash was used.
func (p *prober) carried(ctx context.Context, pair pkcs11.TransportKey, to pkcs11.TransportPublic) (wanted bool, err error) {
	cluster, err := p.find(ctx, p.token, clusterKey)
	if err != nil {
		return false, err
	}
	wrapped, err := p.token.WrapForTransport(ctx, to, cluster)
	if err != nil {
		return false, err
	}
	if (len(wrapped) > 0 && wrapped[0] == wrappedSHA256) == to.SHA1Only {
		return false, nil
	}
	h, err := p.token.UnwrapFromTransport(ctx, pair, wrapped, p.making(carriedKey))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.token.Destroy(ctx, h)) }()
	if !p.report.ok(checkWrap) { // there is nothing to compare with
		return true, nil
	}
	return true, p.equals(ctx, cluster, h)
}

// equals fails unless what the one cluster key wraps the other unwraps to the same key.
func (p *prober) equals(ctx context.Context, a, b pkcs11.Handle) error {
	key, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	wrapped, err := p.token.WrapKey(ctx, a, key)
	if err != nil {
		return err
	}
	h, err := p.token.UnwrapKey(ctx, b, wrapped, p.making(scratchKey))
	if err != nil {
		return err
	}
	return p.same(ctx, key, h)
}

// trusted marks the cluster key as the security officer, if there is a PIN for that.
func (p *prober) trusted(ctx context.Context) {
	if p.options.SOPIN.IsEmpty() {
		p.note(checkSOLogin, Skipped, "only with --so-pin-file", "")
		return
	}
	if !p.report.ok(checkCluster) {
		return
	}
	if err := p.wrapsTrusted(ctx); err == nil {
		p.note(checkTrustedOnly, Fails, "a key with CKA_WRAP_WITH_TRUSTED leaves under a key that is not trusted", "CKA_TRUSTED protects nothing on this token.")
	}
	err := pkcs11.MarkTrusted(ctx, p.cfg, p.options.SOPIN, p.label(clusterKey))
	if soLoginFailed(err) {
		p.note(checkSOLogin, Fails, err.Error(), "A pool cannot initialise the token with this PIN. No more than this one login was tried.")
		p.recover(ctx, err)
		return
	}
	p.note(checkSOLogin, Works, "the security officer is logged in", "")
	var h pkcs11.Handle
	if err == nil {
		h, err = p.find(ctx, p.token, clusterKey)
	}
	var a pkcs11.Attributes
	if err == nil {
		a, err = p.token.Attributes(ctx, h)
	}
	if err == nil && !a.Trusted {
		err = errors.New("CKA_TRUSTED was set, and is not")
	}
	if err == nil && p.report.ok(checkTrustedOnly) {
		err = p.wrapsTrusted(ctx)
	}
	if err != nil {
		p.note(checkSO, Differs, err.Error(), "CKA_TRUSTED cannot be used; nothing needs it.")
		p.recover(ctx, err)
		return
	}
	p.note(checkSO, Works, "CKA_TRUSTED can be set, and keys made for it leave under that key", "")
}

// soLoginFailed tells the failure of logging in as the security officer from that of setting CKA_TRUSTED: some
// security officers do not see keys that are private to the user.
func soLoginFailed(err error) bool {
	var refused *pkcs11.Error
	if errors.As(err, &refused) {
		return refused.Function == "C_Login" || refused.Function == "C_OpenSession"
	}
	for _, lost := range []error{pkcs11.ErrLost, pkcs11.ErrTimeout, pkcs11.ErrModule, pkcs11.ErrNoToken, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

func (p *prober) wrapsTrusted(ctx context.Context) error {
	if !p.report.ok(checkTrustedOnly) {
		return errNotFound
	}
	wrapping, err := p.find(ctx, p.token, clusterKey)
	if err != nil {
		return err
	}
	key, err := p.find(ctx, p.token, trustedKey)
	if err != nil {
		return err
	}
	_, err = p.token.WrapKey(ctx, wrapping, key)
	return err
}
