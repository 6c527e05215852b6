package keyspec_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/keyspec"
	"kastellan.dev/internal/kmsapi"
)

// openssl is the program, in a directory for the files of one test.
type openssl struct {
	*testing.T
	dir string
}

func newOpenSSL(t *testing.T) openssl {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("KASTELLAN_REQUIRE_OPENSSL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return openssl{t, t.TempDir()}
}

func (o openssl) try(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(o.Context(), "openssl", args...)
	cmd.Dir = o.dir
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	err := cmd.Run()
	if err != nil {
		o.Logf("openssl %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), trouble.Bytes())
	}
	return out.Bytes(), err
}

// run gives what the program prints; it must succeed.
func (o openssl) run(args ...string) []byte {
	o.Helper()
	out, err := o.try(args...)
	if err != nil {
		o.Fatal(err)
	}
	return out
}

func (o openssl) write(name string, content []byte) {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), content, 0o600); err != nil {
		o.Fatal(err)
	}
}

// pairs are the specs that OpenSSL 3.0 knows, with its options to make keys.
var pairs = map[kmsapi.KeySpec][]string{
	kmsapi.RSA2048:        {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	kmsapi.RSA3072:        {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	kmsapi.RSA4096:        {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
	kmsapi.ECCNistP256:    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	kmsapi.ECCNistP384:    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	kmsapi.ECCNistP521:    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
	kmsapi.ECCSecgP256k1:  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
	kmsapi.ECCNistEdwards: {"-algorithm", "ED25519"},
	kmsapi.SM2:            {"-algorithm", "SM2"},
}

// TestOpenSSL has OpenSSL and this package do the same with keys of both.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	for name, options := range pairs {
		s := keyspec.Of(name)
		t.Run(string(name)+"/ours", func(t *testing.T) {
			t.Parallel()
			o := newOpenSSL(t)
			o.compare(s, materialOf(s))
		})
		t.Run(string(name)+"/theirs", func(t *testing.T) {
			t.Parallel()
			o := newOpenSSL(t)
			o.write("made", o.run(append([]string{"genpkey"}, options...)...))
			o.compare(s, o.run("pkcs8", "-topk8", "-nocrypt", "-in", "made", "-outform", "DER"))
		})
	}
}

func (o openssl) compare(s *keyspec.Spec, material []byte) {
	k := open(o, s, material)
	o.write("key", material)
	o.write("public", k.SPKI())
	o.run("pkey", "-inform", "DER", "-in", "key", "-check", "-noout")
	o.run("pkey", "-inform", "DER", "-pubin", "-in", "public", "-pubcheck", "-noout")
	if spki := o.run("pkey", "-inform", "DER", "-in", "key", "-pubout", "-outform", "DER"); !bytes.Equal(spki, k.SPKI()) {
		o.Errorf("another public key:\n%x\n%x", k.SPKI(), spki)
	}
	// What OpenSSL writes of the key opens as the same key.
	again := o.run("pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "key", "-outform", "DER")
	if !bytes.Equal(open(o, s, again).SPKI(), k.SPKI()) {
		o.Error("the key is another one after OpenSSL wrote it")
	}
	for alg, options := range signatures {
		if does(s, string(alg)) {
			o.signatures(k, alg, options)
		}
	}
	for alg, options := range ciphertexts {
		if does(s, string(alg)) {
			o.ciphertexts(k, alg, options)
		}
	}
	if does(s, "ECDH") && s.Name != kmsapi.SM2 { // OpenSSL has no plain ECDH on SM2's curve
		o.agreement(k)
	}
}

// signatures are the options of pkeyutl; -rawin gives it the message, not a digest.
var signatures = map[kmsapi.SigningAlgorithmSpec][]string{
	kmsapi.RSASSAPssSHA256:   {"-rawin", "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"},
	kmsapi.RSASSAPssSHA384:   {"-rawin", "-digest", "sha384", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"},
	kmsapi.RSASSAPssSHA512:   {"-rawin", "-digest", "sha512", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"},
	kmsapi.RSASSAPkcs1SHA256: {"-rawin", "-digest", "sha256"},
	kmsapi.RSASSAPkcs1SHA384: {"-rawin", "-digest", "sha384"},
	kmsapi.RSASSAPkcs1SHA512: {"-rawin", "-digest", "sha512"},
	kmsapi.ECDSASHA256:       {"-rawin", "-digest", "sha256"},
	kmsapi.ECDSASHA384:       {"-rawin", "-digest", "sha384"},
	kmsapi.ECDSASHA512:       {"-rawin", "-digest", "sha512"},
	kmsapi.Ed25519SHA512:     {"-rawin"},
	kmsapi.SM2DSA:            {"-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678"},
}

// digests are what OpenSSL signs as a digest, for algorithms with such a type of message.
var digests = map[string]func([]byte) []byte{
	"sha256": func(b []byte) []byte { d := sha256.Sum256(b); return d[:] },
	"sha384": func(b []byte) []byte { d := sha512.Sum384(b); return d[:] },
	"sha512": func(b []byte) []byte { d := sha512.Sum512(b); return d[:] },
}

func (o openssl) signatures(k keyspec.Key, alg kmsapi.SigningAlgorithmSpec, options []string) {
	message := []byte("a message for " + string(alg))
	o.write("message", message)
	var digest []byte
	if len(options) > 2 && digests[options[2]] != nil {
		digest = digests[options[2]](message)
	}

	theirs := o.run(append([]string{"pkeyutl", "-sign", "-keyform", "DER", "-inkey", "key", "-in", "message"}, options...)...)
	if err := k.Verify(alg, kmsapi.MessageRaw, message, theirs); err != nil {
		o.Errorf("%s: OpenSSL's signature: %v", alg, err)
	}
	if digest != nil {
		if err := k.Verify(alg, kmsapi.MessageDigest, digest, theirs); err != nil {
			o.Errorf("%s: OpenSSL's signature of the digest: %v", alg, err)
		}
	}
	for as, signed := range map[kmsapi.MessageType][]byte{kmsapi.MessageRaw: message, kmsapi.MessageDigest: digest} {
		if signed == nil {
			continue
		}
		ours, err := k.Sign(alg, as, signed)
		if err != nil {
			o.Fatal(err)
		}
		verify := append([]string{"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public", "-in", "message", "-sigfile", "signature"}, options...)
		o.write("signature", ours)
		o.run(verify...)
		o.write("message", append([]byte("x"), message...))
		if _, err := o.try(verify...); err == nil {
			o.Errorf("%s: OpenSSL verifies anything", alg)
		}
		o.write("message", message)
	}
}

var ciphertexts = map[kmsapi.EncryptionAlgorithmSpec][]string{
	kmsapi.RSAESOaepSHA1:   {"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-pkeyopt", "rsa_mgf1_md:sha1"},
	kmsapi.RSAESOaepSHA256: {"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"},
	kmsapi.SM2PKE:          nil,
}

func (o openssl) ciphertexts(k keyspec.Key, alg kmsapi.EncryptionAlgorithmSpec, options []string) {
	o.write("clear", []byte("something small"))
	theirs := o.run(append([]string{"pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public", "-in", "clear"}, options...)...)
	if got, err := k.Decrypt(alg, theirs); err != nil || string(got) != "something small" {
		o.Errorf("%s: OpenSSL's ciphertext: %v", alg, err)
	}
	ours, err := k.Encrypt(alg, []byte("something small"))
	if err != nil {
		o.Fatal(err)
	}
	o.write("sealed", ours)
	if got := o.run(append([]string{"pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", "key", "-in", "sealed"}, options...)...); string(got) != "something small" {
		o.Errorf("%s: OpenSSL decrypts something else", alg)
	}
}

func (o openssl) agreement(k keyspec.Key) {
	o.write("theirs", o.run(append([]string{"genpkey", "-outform", "DER"}, pairs[k.Spec().Name]...)...))
	peer := o.run("pkey", "-inform", "DER", "-in", "theirs", "-pubout", "-outform", "DER")
	shared, err := k.SharedSecret(peer)
	if err != nil {
		o.Fatal(err)
	}
	// OpenSSL is the other side: its private key, our public one.
	got := o.run("pkeyutl", "-derive", "-keyform", "DER", "-inkey", "theirs", "-peerform", "DER", "-peerkey", "public")
	if !bytes.Equal(got, shared) {
		o.Errorf("no agreement: %d and %d bytes", len(got), len(shared))
	}
}

func TestOpenSSLMakesTheSameMACs(t *testing.T) {
	t.Parallel()
	for name, digest := range map[kmsapi.KeySpec]string{
		kmsapi.HMAC224: "sha224", kmsapi.HMAC256: "sha256", kmsapi.HMAC384: "sha384", kmsapi.HMAC512: "sha512",
	} {
		o := newOpenSSL(t)
		s := keyspec.Of(name)
		o.write("message", []byte("a message"))
		got, err := keyOf(t, name).MAC(s.MacAlgorithms(kmsapi.GenerateVerifyMac)[0], []byte("a message"))
		if err != nil {
			t.Fatal(err)
		}
		want := o.run("dgst", "-"+digest, "-binary", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(materialOf(s)), "message")
		if !bytes.Equal(got, want) {
			t.Errorf("%s: another MAC", name)
		}
	}
}
