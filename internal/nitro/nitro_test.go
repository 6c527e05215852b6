package nitro_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/nitro"
	"kastellan.dev/internal/nitro/nitrotest"
)

var now = time.Date(2026, time.March, 1, 12, 0, 0, 123e6, time.UTC)

// newEnclave makes an enclave and a verifier that trusts its root.
func newEnclave(t testing.TB) (*nitrotest.Enclave, *nitro.Verifier) {
	t.Helper()
	root := nitrotest.NewRoot(t, now)
	return nitrotest.NewEnclave(t, root, now), newVerifier(t, root.Pool())
}

func newVerifier(t testing.TB, roots *x509.CertPool) *nitro.Verifier {
	t.Helper()
	v, err := nitro.New(roots)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyTellsWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	e.UserData, e.Nonce = []byte("data"), []byte{}
	want := &nitro.Attestation{
		ModuleID: e.ModuleID, Timestamp: now, PCRs: e.PCRs, PublicKey: &e.Key.PublicKey, UserData: e.UserData, Nonce: e.Nonce,
	}
	got, err := v.Verify(e.Document(t, now), now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, want := got.ImageSHA384(), strings.Repeat("a0", 48); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
}

func TestVerifyTakesTheFormsThatExist(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	full := e.Payload(t, now)
	definite := make(map[string]any)
	for _, m := range full {
		definite[m.Key.(string)] = m.Value
	}
	encoded, err := cbor.Marshal(definite)
	if err != nil {
		t.Fatal(err)
	}
	bits64, bits32 := make([]byte, 64), make([]byte, 32)
	forms := map[string][]byte{
		"tagged":             append([]byte{0xd2}, e.Document(t, now)...),
		"definite":           e.Sign(t, encoded),
		"nothing optional":   e.Sign(t, full.Without("public_key").Without("user_data").Without("nonce").Encode(t)),
		"null public_key":    e.Sign(t, full.With("public_key", nil).Encode(t)),
		"the longest data":   e.Sign(t, full.With("user_data", make([]byte, 512)).With("nonce", make([]byte, 512)).Encode(t)),
		"one register":       e.Sign(t, full.With("pcrs", map[int][]byte{31: bits64}).Encode(t)),
		"short registers":    e.Sign(t, full.With("pcrs", map[int][]byte{0: bits32}).Encode(t)),
		"NitroTPM":           e.Sign(t, full.Without("pcrs").With("nitrotpm_pcrs", map[int][]byte{23: bits64}).Encode(t)),
		"five minutes old":   e.Document(t, now.Add(-nitro.DefaultMaxAge)),
		"five minutes ahead": e.Document(t, now.Add(nitro.MaxSkew)),
	}
	for name, document := range forms {
		if _, err := v.Verify(document, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := v.Verify(forms["NitroTPM"], now)
	if err != nil || a.PCRs != nil || len(a.NitroTPMPCRs[23]) != 64 || a.ImageSHA384() != "" {
		t.Errorf("NitroTPM: %+v, %v", a, err)
	}
	a, err = v.Verify(forms["nothing optional"], now)
	if err != nil || a.PublicKey != nil || a.UserData != nil || a.Nonce != nil {
		t.Errorf("nothing optional: %+v, %v", a, err)
	}
}

func TestVerifyTrustsNoOtherBytes(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	document := e.Document(t, now)
	step := 7 // each costs as much as a verification
	if testing.Short() {
		step = 37
	}
	for i := 0; i < len(document); i += step {
		changed := bytes.Clone(document)
		changed[i] ^= 1 << (i % 8)
		if _, err := v.Verify(changed, now); err == nil {
			t.Errorf("byte %d of %d may be changed", i, len(document))
		}
	}
}

// message puts a document together from any parts.
func message(t *testing.T, parts ...any) []byte {
	t.Helper()
	out, err := cbor.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyRefusesMessages(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	none := map[int]int{}
	payload := e.Payload(t, now).Encode(t)
	good := e.Document(t, now)
	signature := e.Signature(t, nitrotest.ES384, payload)
	flipped := bytes.Clone(signature)
	flipped[95] ^= 1
	es256, es384and, text := []byte{0xa1, 1, 0x26}, []byte{0xa2, 1, 0x38, 0x22, 4, 0x40}, []byte("\xa1\x01\x65ES384")
	otherKey := *e
	otherKey.Signer = &nitrotest.Authority{Certificate: e.Signer.Certificate, Key: nitrotest.NewRoot(t, now).Key}

	tests := map[string]struct {
		document []byte
		want     error
		text     string
	}{
		"nothing":                    {nil, nitro.ErrMalformed, "0 bytes"},
		"text":                       {[]byte("attestation"), nitro.ErrMalformed, "COSE_Sign1"},
		"truncated":                  {good[:len(good)-1], nitro.ErrMalformed, "EOF"},
		"trailing byte":              {append(bytes.Clone(good), 0), nitro.ErrMalformed, "extraneous"},
		"too long":                   {make([]byte, nitro.MaxDocumentSize+1), nitro.ErrMalformed, "bytes, want"},
		"another tag":                {append([]byte{0xd8, 98}, good...), nitro.ErrMalformed, "tag"},
		"tagged twice":               {append([]byte{0xd2, 0xd2}, good...), nitro.ErrMalformed, "tag"},
		"three parts":                {message(t, nitrotest.ES384, none, payload), nitro.ErrMalformed, "COSE_Sign1"},
		"five parts":                 {message(t, nitrotest.ES384, none, payload, signature, 0), nitro.ErrMalformed, "COSE_Sign1"},
		"a map":                      {payload, nitro.ErrMalformed, "COSE_Sign1"},
		"of indefinite length":       {append(append([]byte{0x9f}, good[1:]...), 0xff), nitro.ErrMalformed, "indefinite"},
		"ES256":                      {message(t, es256, none, payload, e.Signature(t, es256, payload)), nitro.ErrMalformed, "ES384"},
		"ES384 as text":              {message(t, text, none, payload, e.Signature(t, text, payload)), nitro.ErrMalformed, "ES384"},
		"another header beside":      {message(t, es384and, none, payload, e.Signature(t, es384and, payload)), nitro.ErrMalformed, "ES384"},
		"no protected header":        {message(t, nil, none, payload, signature), nitro.ErrMalformed, "ES384"},
		"an unprotected header":      {message(t, nitrotest.ES384, map[int]int{1: -35}, payload, signature), nitro.ErrMalformed, "unprotected"},
		"no payload":                 {message(t, nitrotest.ES384, none, nil, signature), nitro.ErrMalformed, "payload"},
		"payload as array":           {message(t, nitrotest.ES384, none, []int{1}, signature), nitro.ErrMalformed, "byte string"},
		"payload too long":           {message(t, nitrotest.ES384, none, make([]byte, 16385), signature), nitro.ErrMalformed, "payload has 16385"},
		"short signature":            {message(t, nitrotest.ES384, none, payload, signature[:95]), nitro.ErrMalformed, "signature has 95"},
		"long signature":             {message(t, nitrotest.ES384, none, payload, append(bytes.Clone(signature), 0)), nitro.ErrMalformed, "signature has 97"},
		"flipped signature":          {message(t, nitrotest.ES384, none, payload, flipped), nitro.ErrSignature, ""},
		"zero signature":             {message(t, nitrotest.ES384, none, payload, make([]byte, 96)), nitro.ErrSignature, ""},
		"another payload":            {message(t, nitrotest.ES384, none, e.Payload(t, now.Add(1e6)).Encode(t), signature), nitro.ErrSignature, ""},
		"signed with another key":    {otherKey.Document(t, now), nitro.ErrSignature, ""},
		"a millisecond too old":      {e.Document(t, now.Add(-nitro.DefaultMaxAge-time.Millisecond)), nitro.ErrTimestamp, "ago"},
		"a millisecond too far away": {e.Document(t, now.Add(nitro.MaxSkew+time.Millisecond)), nitro.ErrTimestamp, "from now"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { mustRefuse(t, v, test.document, test.want, test.text) })
	}
}

func mustRefuse(t *testing.T, v *nitro.Verifier, document []byte, want error, text string) {
	t.Helper()
	a, err := v.Verify(document, now)
	if a != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %+v and %v, want %v with %q", a, err, want, text)
	}
	if err != nil && strings.Contains(err.Error(), "claims") {
		t.Errorf("%v names a type of ours", err)
	}
}

func TestVerifyRefusesPayloads(t *testing.T) {
	t.Parallel()
	e, v := newEnclave(t)
	good := e.Payload(t, now)
	pcrs := func(key, value any) nitrotest.Payload { return good.With("pcrs", map[any]any{key: value}) }
	bits48 := make([]byte, 48)
	var many [][]byte
	for range 17 {
		many = append(many, e.Bundle[0].Raw)
	}
	twice := cbor.RawMessage(append(append([]byte{0xa2, 0, 0x58, 48}, bits48...), append([]byte{0, 0x58, 48}, bits48...)...))
	spki := good[6].Value.([]byte)

	tests := map[string]struct {
		payload nitrotest.Payload
		want    error
		text    string
	}{
		"key twice":             {append(good.Without(""), good[0]), nitro.ErrMalformed, "duplicate"},
		"unknown key":           {good.With("extra", 1), nitro.ErrMalformed, "unknown"},
		"key in another case":   {good.Without("nonce").With("Nonce", nil), nitro.ErrMalformed, "unknown"},
		"integer key":           {append(good.Without(""), nitrotest.Member{Key: 1, Value: 1}), nitro.ErrMalformed, ""},
		"null key":              {append(good.Without(""), nitrotest.Member{Value: 1}), nitro.ErrMalformed, ""},
		"empty module_id":       {good.With("module_id", ""), nitro.ErrMalformed, "module_id"},
		"null module_id":        {good.With("module_id", nil), nitro.ErrMalformed, "module_id"},
		"module_id as bytes":    {good.With("module_id", []byte("i-0")), nitro.ErrMalformed, "module_id"},
		"module_id not UTF-8":   {good.With("module_id", cbor.RawMessage{0x61, 0xff}), nitro.ErrMalformed, "UTF-8"},
		"another digest":        {good.With("digest", "SHA256"), nitro.ErrMalformed, "digest"},
		"timestamp 0":           {good.With("timestamp", 0), nitro.ErrMalformed, "timestamp"},
		"negative timestamp":    {good.With("timestamp", -1), nitro.ErrMalformed, "timestamp"},
		"timestamp as text":     {good.With("timestamp", "1"), nitro.ErrMalformed, "timestamp"},
		"timestamp as float":    {good.With("timestamp", 1.5), nitro.ErrMalformed, "timestamp"},
		"timestamp as bignum":   {good.With("timestamp", cbor.RawMessage{0xc2, 0x41, 1}), nitro.ErrMalformed, "tag"},
		"timestamp as simple":   {good.With("timestamp", cbor.RawMessage{0xf5}), nitro.ErrMalformed, "simple"},
		"timestamp overflows":   {good.With("timestamp", uint64(math.MaxUint64)), nitro.ErrMalformed, "timestamp"},
		"pcrs empty":            {good.With("pcrs", map[int]int{}), nitro.ErrMalformed, "pcrs is empty"},
		"pcrs as array":         {good.With("pcrs", [][]byte{bits48}), nitro.ErrMalformed, "pcrs is of the type array"},
		"pcrs of both":          {good.With("nitrotpm_pcrs", map[int][]byte{0: bits48}), nitro.ErrMalformed, "not both"},
		"register 32":           {pcrs(32, bits48), nitro.ErrMalformed, "from 0 to 31"},
		"register -1":           {pcrs(-1, bits48), nitro.ErrMalformed, "from 0 to 31"},
		"register as text":      {pcrs("0", bits48), nitro.ErrMalformed, "from 0 to 31"},
		"register as float":     {pcrs(0.0, bits48), nitro.ErrMalformed, "from 0 to 31"},
		"register null":         {pcrs(nil, bits48), nitro.ErrMalformed, "from 0 to 31"},
		"register twice":        {good.With("pcrs", twice), nitro.ErrMalformed, "duplicate"},
		"register of 47 bytes":  {pcrs(0, bits48[1:]), nitro.ErrMalformed, "pcrs[0] has 47"},
		"register of 0 bytes":   {pcrs(0, []byte{}), nitro.ErrMalformed, "pcrs[0] has 0"},
		"register of null":      {pcrs(0, nil), nitro.ErrMalformed, "pcrs[0] has 0"},
		"register of text":      {pcrs(0, strings.Repeat("0", 48)), nitro.ErrMalformed, "byte string"},
		"register of integers":  {pcrs(0, make([]int, 32)), nitro.ErrMalformed, ""},
		"register of chunks":    {pcrs(0, cbor.RawMessage(append(append([]byte{0x5f, 0x58, 48}, bits48...), 0xff))), nitro.ErrMalformed, "indefinite"},
		"NitroTPM register 24":  {good.Without("pcrs").With("nitrotpm_pcrs", map[int][]byte{24: bits48}), nitro.ErrMalformed, "from 0 to 23"},
		"certificate empty":     {good.With("certificate", []byte{}), nitro.ErrMalformed, "certificate has 0"},
		"certificate of text":   {good.With("certificate", "x"), nitro.ErrMalformed, ""},
		"certificate too long":  {good.With("certificate", make([]byte, 1025)), nitro.ErrMalformed, "certificate has 1025"},
		"certificate not DER":   {good.With("certificate", []byte{1}), nitro.ErrMalformed, "certificate"},
		"cabundle empty":        {good.With("cabundle", []int{}), nitro.ErrMalformed, "cabundle"},
		"cabundle not an array": {good.With("cabundle", e.Bundle[0].Raw), nitro.ErrMalformed, "cabundle"},
		"cabundle with null":    {good.With("cabundle", []any{e.Bundle[0].Raw, nil}), nitro.ErrMalformed, "cabundle[1]"},
		"cabundle too long":     {good.With("cabundle", many), nitro.ErrMalformed, "16"},
		"cabundle not DER":      {good.With("cabundle", [][]byte{e.Bundle[0].Raw, {1}, e.Bundle[2].Raw}), nitro.ErrMalformed, "certificate"},
		"public_key empty":      {good.With("public_key", []byte{}), nitro.ErrMalformed, "public_key has 0"},
		"public_key too long":   {good.With("public_key", make([]byte, 1025)), nitro.ErrMalformed, "public_key has 1025"},
		"public_key not DER":    {good.With("public_key", []byte("key")), nitro.ErrPublicKey, "DER"},
		"public_key with more":  {good.With("public_key", append(bytes.Clone(spki), 0)), nitro.ErrPublicKey, "DER"},
		"public_key not RSA":    {good.With("public_key", publicKey(t, &e.Signer.Key.PublicKey)), nitro.ErrPublicKey, "not an RSA"},
		"public_key Ed25519":    {good.With("public_key", publicKey(t, ed25519.PublicKey(make([]byte, 32)))), nitro.ErrPublicKey, "not an RSA"},
		"public_key 1024 bits":  {good.With("public_key", rsaKey(t, 1024)), nitro.ErrPublicKey, "1024 bits"},
		"public_key exponent 1": {good.With("public_key", publicKey(t, &rsa.PublicKey{N: e.Key.N, E: 1})), nitro.ErrPublicKey, "exponent"},
		"public_key even":       {good.With("public_key", publicKey(t, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(3), 2046), E: 65537})), nitro.ErrPublicKey, "modulus"},
		"public_key 4104 bits":  {good.With("public_key", rsaKey(t, 4104)), nitro.ErrPublicKey, "4104 bits"},
		"user_data too long":    {good.With("user_data", make([]byte, 513)), nitro.ErrMalformed, "user_data has 513"},
		"nonce too long":        {good.With("nonce", make([]byte, 513)), nitro.ErrMalformed, "nonce has 513"},
		"nonce nested":          {good.With("nonce", []any{[]any{[]any{[]any{}}}}), nitro.ErrMalformed, "nested"},
	}
	for _, name := range []string{"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"} {
		test := tests["key twice"]
		test.payload, test.text = good.Without(name), name
		tests["without "+name] = test
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { mustRefuse(t, v, e.Sign(t, test.payload.Encode(t)), test.want, test.text) })
	}
	mustRefuse(t, v, e.Sign(t, append(good.Encode(t), 0)), nitro.ErrMalformed, "extraneous")
}

func publicKey(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rsaKey is an RSA key of a size that nobody has the private half of.
func rsaKey(t *testing.T, bits int) []byte {
	t.Helper()
	modulus := make([]byte, bits/8)
	rand.Read(modulus)
	modulus[0] |= 0x80
	return publicKey(t, &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
}
