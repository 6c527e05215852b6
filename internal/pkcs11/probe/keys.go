package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/pkcs11"
)

// What a probe makes, in labels.
const (
	kmsKey     = "key"
	clusterKey = "cluster key"
	sessionKey = "session key"
	trustedKey = "key for trusted"
	copiedKey  = "copied key"
	carriedKey = "carried cluster key"
	scratchKey = "scratch key"
)

// labelSize is how long the label of a KMS key is, which is its ARN; some tokens take less.
const labelSize = 76

// label is unique for this run, and as long as those of real keys.
func (p *prober) label(what string) string {
	text := LabelPrefix + p.run + " " + what + " "
	return text + strings.Repeat("-", max(0, labelSize-len(text)))
}

// id is as long as those of real keys, which are UUIDs in text.
func (p *prober) id(what string) []byte {
	return fmt.Appendf(nil, "%.16s%020x", p.run[len(p.run)-16:], what)[:36]
}

// template is what key stores make of a kind of key.
func (p *prober) template(what string) pkcs11.Template {
	t := pkcs11.Template{Label: p.label(what), ID: p.id(what), Token: true, Extractable: true, Encrypt: true}
	switch what {
	case clusterKey, carriedKey:
		t.ID, t.Encrypt, t.Wrap = nil, false, true
	case sessionKey, scratchKey:
		t.ID, t.Token = nil, false
	case trustedKey:
		t.WrapWithTrusted = true
	}
	return t
}

// making notes that an object with the label may exist from now on.
func (p *prober) making(what string) pkcs11.Template {
	t := p.template(what)
	if !slices.Contains(p.labels, t.Label) {
		p.labels = append(p.labels, t.Label)
	}
	return t
}

// generate makes a key of the kind.
func (p *prober) generate(ctx context.Context, what string) error {
	_, err := p.token.GenerateKey(ctx, p.making(what))
	return err
}

var errNotFound = errors.New("there is no such key")

// find gives the key of the kind that t has. Handles end with the module's process, labels do not.
func (p *prober) find(ctx context.Context, t pkcs11.Token, what string) (pkcs11.Handle, error) {
	template := p.template(what)
	found, err := t.FindKeys(ctx, template.Label, template.ID)
	if err != nil {
		return pkcs11.Handle{}, err
	}
	if len(found) == 0 {
		return pkcs11.Handle{}, fmt.Errorf("finding the %s: %w", what, errNotFound)
	}
	return found[0], nil
}

func (p *prober) random(ctx context.Context) {
	a, err := p.token.Random(ctx, 32)
	var b []byte
	if err == nil {
		b, err = p.token.Random(ctx, 32)
	}
	if err == nil && string(a) == string(b) {
		err = errors.New("the same 32 bytes came twice")
	}
	if err != nil {
		p.note("random", Differs, err.Error(), "iv: token-random cannot be used; nothing else needs it.")
		p.recover(ctx, err)
		return
	}
	p.note("random", Works, "C_GenerateRandom gives bytes", "")
}

// keys makes the kinds of keys that key stores make, and looks at them.
func (p *prober) keys(ctx context.Context) {
	const noKeys = "KMS keys cannot be made."
	if !p.try(ctx, checkGenerate, "makes an AES-256 token key: private, sensitive, extractable, to encrypt and decrypt, label of 76 and CKA_ID of 36 bytes",
		noKeys+" If it is the template that is refused: the token must let keys be extractable (they leave wrapped only), and take labels and ids of this length.", p.generate(ctx, kmsKey)) {
		return
	}
	p.try(ctx, checkFind, "finds it by label and by label and id, and nothing else", "Keys are found by their labels and ids only.", p.finds(ctx))
	p.try(ctx, checkAttributes, "its attributes are readable, and as in the template", "Key stores refuse cluster keys whose attributes are not as they were made.", p.attributes(ctx))
	p.value(ctx)
	p.try(ctx, checkCluster, "makes a cluster key: to wrap and unwrap only", "Keys cannot be copied between members; replication: module does without.", p.generate(ctx, clusterKey))
	p.try(ctx, checkSession, "makes a session key", "Cluster keys cannot be compared; replication: module does without.", p.generate(ctx, sessionKey))
	if err := p.generate(ctx, trustedKey); err != nil {
		p.note(checkTrustedOnly, Differs, err.Error(), "Leave CKA_TRUSTED of cluster keys alone: with it, keys are made to leave under trusted keys only.")
		p.recover(ctx, err)
		return
	}
	p.note(checkTrustedOnly, Works, "makes a key with CKA_WRAP_WITH_TRUSTED", "")
}

// finds looks for the key in all ways, and for keys that there are none of.
func (p *prober) finds(ctx context.Context) error {
	label, id := p.label(kmsKey), p.id(kmsKey)
	for _, q := range []struct {
		label string
		id    []byte
		want  int
		what  string
	}{
		{label, nil, 1, "its label"}, {label, id, 1, "its label and id"},
		{label, []byte("another id"), 0, "its label and another id"}, {label + "-", id, 0, "another label and its id"},
	} {
		found, err := p.token.FindKeys(ctx, q.label, q.id)
		if err != nil {
			return err
		}
		if len(found) != q.want {
			return fmt.Errorf("%d keys instead of %d have %s", len(found), q.want, q.what)
		}
	}
	all, err := p.token.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("listing all keys: %w", err)
	}
	if !slices.ContainsFunc(all, func(o pkcs11.Object) bool { return o.Label == label && string(o.ID) == string(id) }) {
		return errors.New("it is not among all keys with its label and id")
	}
	return nil
}

func (p *prober) attributes(ctx context.Context) error {
	h, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		return err
	}
	a, err := p.token.Attributes(ctx, h)
	if err != nil {
		return err
	}
	var wrong []string
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"CKA_LABEL", a.Label == p.label(kmsKey)}, {"CKA_ID", string(a.ID) == string(p.id(kmsKey))}, {"CKA_KEY_TYPE", a.KeyType == 0x1F},
		{"CKA_VALUE_LEN", a.ValueLen == 32}, {"CKA_SENSITIVE", a.Sensitive}, {"CKA_EXTRACTABLE", a.Extractable}, {"CKA_LOCAL", a.Local},
		{"CKA_ENCRYPT", a.Encrypt}, {"CKA_DECRYPT", a.Decrypt}, {"CKA_WRAP", !a.Wrap}, {"CKA_UNWRAP", !a.Unwrap}, {"CKA_TRUSTED", !a.Trusted},
	} {
		if !c.ok {
			wrong = append(wrong, c.name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not as in the template: %s", strings.Join(wrong, ", "))
	}
	return nil
}

// value tries to read what must not be readable.
func (p *prober) value(ctx context.Context) {
	h, err := p.find(ctx, p.token, kmsKey)
	if err != nil {
		p.note(checkSensitive, Skipped, err.Error(), "")
		p.recover(ctx, err)
		return
	}
	readable, err := p.token.ReadsValue(ctx, h)
	var refused *pkcs11.Error
	switch {
	case readable:
		p.note(checkSensitive, Fails, "CKA_VALUE of a sensitive key can be read", "The keys are not safe in this token: do not use it.")
	case errors.As(err, &refused) || err == nil:
		p.note(checkSensitive, Works, fmt.Sprintf("CKA_VALUE of a sensitive key is not given out: %v", refusal(err)), "")
	default:
		p.try(ctx, checkSensitive, "", "Whether keys can be read is not known.", err)
	}
}

func refusal(err error) string {
	if err == nil {
		return "it is empty"
	}
	return err.Error()
}

// leftovers tells of objects that other runs left, or are using.
func (p *prober) leftovers(ctx context.Context) {
	all, err := p.token.ListKeys(ctx)
	if err != nil {
		p.note("leftovers", Skipped, err.Error(), "")
		p.recover(ctx, err)
		return
	}
	var old []string
	for _, o := range all {
		if strings.HasPrefix(o.Label, LabelPrefix) {
			old = append(old, strings.TrimRight(o.Label, "- "))
		}
	}
	p.note("token.keys", Differs, fmt.Sprintf("%d secret keys are on the token", len(all)), "")
	if len(old) > 0 {
		p.note("leftovers", Differs, fmt.Sprintf("%d keys of other probes: %s", len(old), strings.Join(old, "; ")), "If no other probe is running, destroy them with the vendor's tool.")
	}
}

// destroying destroys everything, and looks whether it is gone.
func (p *prober) destroying(ctx context.Context) {
	if len(p.labels) == 0 {
		return
	}
	made := len(p.labels)
	err := p.destroyAll(ctx)
	p.try(ctx, checkDestroy, fmt.Sprintf("destroys what it made, %d kinds of keys, and finds none of it after that", made), "Keys that are deleted would stay on the token.", err)
}

// destroyAll destroys what the run has made and forgets the labels of what is gone.
func (p *prober) destroyAll(ctx context.Context) error {
	var failures []error
	var left []string
	for _, label := range p.labels {
		if err := p.destroyLabel(ctx, label); err != nil {
			failures, left = append(failures, err), append(left, label)
		}
	}
	p.labels = left
	return errors.Join(failures...)
}

func (p *prober) destroyLabel(ctx context.Context, label string) error {
	found, err := p.token.FindKeys(ctx, label, nil)
	if err != nil {
		return err
	}
	for _, h := range found {
		if err := p.token.Destroy(ctx, h); err != nil {
			return err
		}
	}
	if found, err = p.token.FindKeys(ctx, label, nil); err == nil && len(found) > 0 {
		err = errors.New("a destroyed key is still found")
	}
	return err
}

// cleanUp makes sure that nothing stays, whatever happened, with a fresh process.
func (p *prober) cleanUp(ctx context.Context) {
	if len(p.labels) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWait)
	defer cancel()
	_ = p.token.Close() // which also waits for a call that nobody waits for any more, and may make something still
	t, err := p.openLoggedIn(ctx, p.cfg)
	if err == nil {
		p.token = t
		err = p.destroyAll(ctx)
	}
	if err != nil {
		p.note("leftovers", Fails, fmt.Sprintf("%v; these may be on the token still: %s", err, strings.Join(p.labels, "; ")), "Destroy them with the vendor's tool.")
	}
}

// knownText is what is encrypted to see whether two keys are the same.
func knownText(size int) []byte {
	text := make([]byte, size)
	_, _ = rand.Read(text) // never fails
	return text
}
