package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"kastellan.dev/internal/pkcs11"
)

// Sizes of IVs that the ciphertexts of key stores have room for, in bytes.
const (
	ivSize     = 12
	longIVSize = 16
)

// sourceNames are the sources of IVs in the names of checks.
var sourceNames = map[pkcs11.IVSource]string{
	pkcs11.IVByCaller: "caller", pkcs11.IVByModule: "module", pkcs11.IVInOutput: "module-append", pkcs11.IVFromTokenRNG: "token-random",
}

// gcm tries all sources of IVs, takes the first that works, and looks closer with that.
func (p *prober) gcm(ctx context.Context) {
	if !p.report.ok(checkGenerate) {
		return
	}
	for _, source := range p.options.IV {
		works := p.source(ctx, source)
		if works && !p.hasIV {
			p.hasIV, p.cfg.IV = true, source
		}
	}
	if !p.hasIV {
		p.note(checkIV, Fails, "no source of IVs works", "Nothing can be encrypted: the token cannot back a key store.")
		return
	}
	p.note(checkIV, Works, fmt.Sprintf("used from here on: %s", sourceNames[p.cfg.IV]), "")
	if err := p.reopen(ctx); err != nil {
		p.try(ctx, checkIV, "", "The token could not be opened again with that source.", err)
		return
	}
	p.try(ctx, checkSizes, "encrypts and decrypts 1 to 4096 bytes", "KMS encrypts up to 4096 bytes at once.", p.sizes(ctx))
	p.try(ctx, checkAAD, "takes additional data of 0 to 8192 bytes, and refuses other data than was given", "The encryption context would not be protected.", p.aad(ctx))
	p.tag(ctx)
}

// reopen makes p.token use the source of IVs that was chosen.
func (p *prober) reopen(ctx context.Context) error {
	if p.cfg.IV == pkcs11.IVByCaller { // as it is
		return nil
	}
	t, err := p.openLoggedIn(ctx, p.cfg)
	if err != nil {
		return err
	}
	_ = p.token.Close() // it has served
	p.token = t
	return nil
}

// openLoggedIn opens the token a second time.
func (p *prober) openLoggedIn(ctx context.Context, cfg pkcs11.Config) (pkcs11.Inspector, error) {
	t, err := p.openWith(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := relogin(ctx, t, p.options.PIN); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// source tries one source of IVs in a process of its own.
func (p *prober) source(ctx context.Context, source pkcs11.IVSource) bool {
	check := "gcm.iv." + sourceNames[source]
	cfg := p.cfg
	cfg.IV = source
	t, err := p.openLoggedIn(ctx, cfg)
	if err != nil {
		p.note(checkProcesses, Fails, err.Error(), "A second process cannot use the token at the same time, which is needed to look further.")
		p.note(check, Skipped, "a second process cannot use the token", "")
		return false
	}
	defer t.Close()
	if !p.report.ok(checkProcesses) {
		p.note(checkProcesses, Works, "two processes use the token at the same time, each with a login of its own", "")
	}
	size, err := p.roundTrips(ctx, t)
	switch {
	case err != nil:
		p.note(check, Differs, err.Error(), "This source cannot be used; one that works is enough.")
		return false
	case size != ivSize && size != longIVSize:
		p.note(check, Differs, fmt.Sprintf("works with IVs of %d bytes", size), fmt.Sprintf("This source cannot be used for key stores, whose ciphertexts have room for IVs of %d and %d bytes.", ivSize, longIVSize))
		return false
	}
	p.note(check, Works, fmt.Sprintf("works, with a fresh IV of %d bytes each time", size), "")
	return true
}

// roundTrips encrypts twice and decrypts, and tells how long the IV is.
func (p *prober) roundTrips(ctx context.Context, t pkcs11.Token) (ivSize int, err error) {
	key, err := p.find(ctx, t, kmsKey)
	if err != nil {
		return 0, err
	}
	text, aad := knownText(32), []byte(p.label(kmsKey))
	first, err := t.EncryptGCM(ctx, key, text, aad)
	if err != nil {
		return 0, err
	}
	second, err := t.EncryptGCM(ctx, key, text, aad)
	if err != nil {
		return 0, err
	}
	if bytes.Equal(first.IV, second.IV) {
		return 0, errors.New("the same IV came twice")
	}
	for _, sealed := range []pkcs11.GCM{first, second} {
		got, err := t.DecryptGCM(ctx, key, sealed, aad)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(got, text) {
			return 0, errOtherText
		}
	}
	return len(first.IV), nil
}

var errOtherText = errors.New("what was decrypted is not what was encrypted")

func (p *prober) sizes(ctx context.Context) error {
	key, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	for _, size := range []int{1, 15, 16, 17, 32, 255, 256, 1024, 4095, 4096} {
		text := knownText(size)
		sealed, err := p.token.EncryptGCM(ctx, key, text, nil)
		if err != nil {
			return fmt.Errorf("encrypting %d bytes: %w", size, err)
		}
		got, err := p.token.DecryptGCM(ctx, key, sealed, nil)
		if err != nil {
			return fmt.Errorf("decrypting %d bytes: %w", size, err)
		}
		if !bytes.Equal(got, text) {
			return errOtherText
		}
	}
	return nil
}

func (p *prober) aad(ctx context.Context) error {
	key, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	for _, size := range []int{0, 1, 76, 1024, 8192} {
		aad, text := knownText(size), knownText(32)
		sealed, err := p.token.EncryptGCM(ctx, key, text, aad)
		if err != nil {
			return fmt.Errorf("encrypting with %d bytes: %w", size, err)
		}
		got, err := p.token.DecryptGCM(ctx, key, sealed, aad)
		if err != nil {
			return fmt.Errorf("decrypting with %d bytes: %w", size, err)
		}
		if !bytes.Equal(got, text) {
			return errOtherText
		}
		if _, err := p.token.DecryptGCM(ctx, key, sealed, append(aad, 'x')); err == nil {
			return errors.New("it decrypts with other additional data")
		} else if !isRefusal(err) {
			return fmt.Errorf("decrypting with other additional data: %w", err)
		}
	}
	return nil
}

// isRefusal tells an answer of the module from its loss.
func isRefusal(err error) bool {
	var rv *pkcs11.Error
	return errors.As(err, &rv)
}

// tag sees what the module says to a wrong tag.
func (p *prober) tag(ctx context.Context) {
	key, err := p.find(ctx, p.token, kmsKey)
	var sealed pkcs11.GCM
	if err == nil {
		sealed, err = p.token.EncryptGCM(ctx, key, knownText(32), nil)
	}
	if err != nil {
		p.try(ctx, checkTag, "", "It could not be tried.", err)
		return
	}
	sealed.Tag[0] ^= 1
	_, err = p.token.DecryptGCM(ctx, key, sealed, nil)
	switch {
	case err == nil:
		p.note(checkTag, Fails, "a wrong tag is accepted", "Ciphertexts that somebody changed would be decrypted: do not use this token.")
	case pkcs11.IsAuthentication(err):
		p.note(checkTag, Works, fmt.Sprintf("a wrong tag is refused: %v", err), "")
	case pkcs11.MaybeAuthentication(err):
		p.note(checkTag, Differs, fmt.Sprintf("a wrong tag is refused: %v", err), "That could be a fault as well: a key store decrypts something of its own after it, to be sure.")
	default:
		p.try(ctx, checkTag, "", "A key store takes this for a fault of the HSM, not for a wrong ciphertext: callers get another exception, and the HSM may be taken out of service.", err)
	}
}

// parallel is how many calls run at once.
const parallel = 2

// sessions uses the token from several goroutines, each of which gets a session.
func (p *prober) sessions(ctx context.Context) {
	if !p.hasIV {
		return
	}
	errs := make([]error, parallel)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() {
			for range 25 {
				if _, errs[i] = p.roundTrips(ctx, p.token); errs[i] != nil {
					return
				}
			}
		})
	}
	running.Wait()
	p.try(ctx, checkParallel, "two sessions encrypt and decrypt at the same time", "Calls must run side by side: C_Initialize gets CKF_OS_LOCKING_OK, and sessions are shared among threads.", errors.Join(errs...))
}
