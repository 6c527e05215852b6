package xkstest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"kastellan.dev/internal/xksapi"
)

// Op is an operation of the proxy API, as the last element of its path.
type Op string

// The operations.
const (
	Metadata Op = "metadata"
	Encrypt  Op = "encrypt"
	Decrypt  Op = "decrypt"
	Health   Op = "health"
)

// Request is what a proxy was asked.
type Request struct {
	Op       Op
	KeyID    string
	Address  string // at which it came
	Region   string // of the signature
	Header   http.Header
	Metadata xksapi.RequestMetadata
	AAD      []byte // additionalAuthenticatedData
	Input    []byte // plaintext of Encrypt, ciphertext of Decrypt
}

// maxBody is beyond what any request of KMS can have.
const maxBody = 64 << 10

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, address string) {
	if !p.begin() {
		return
	}
	defer p.running.Done()
	op, keyID, ok := p.route(r.URL.Path)
	if !ok {
		fail(w, xksapi.InvalidURIPathException)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client went away
	}
	f := p.fault(op)
	if f != nil && f.Before != nil && f.Before(w, r) {
		return
	}
	p.checkShape(r)
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	signer, err := p.verifier.Verify(r.Context(), r, body)
	if err != nil {
		fail(w, xksapi.AuthenticationFailedException)
		return
	}
	req := Request{Op: op, KeyID: keyID, Address: address, Region: signer.Region, Header: r.Header.Clone()}
	answer, name := p.answer(&req, body)
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	if name != "" {
		fail(w, name)
		return
	}
	if f != nil && f.Edit != nil {
		f.Edit(answer)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(xksapi.Encode(answer))
}

// route takes a path apart.
func (p *Proxy) route(path string) (op Op, keyID string, ok bool) {
	rest, ok := strings.CutPrefix(path, p.Path+"/")
	if !ok {
		return "", "", false
	}
	if rest == string(Health) {
		return Health, "", true
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[0] != "keys" || !slices.Contains([]Op{Metadata, Encrypt, Decrypt}, Op(parts[2])) {
		return "", "", false
	}
	return Op(parts[2]), parts[1], true
}

// answer does what was asked.
func (p *Proxy) answer(req *Request, body []byte) (any, xksapi.ErrorName) {
	switch req.Op {
	case Health:
		var in xksapi.HealthRequest
		if !p.decode(req, body, &in, func() *xksapi.RequestMetadata { return in.RequestMetadata }) {
			return nil, xksapi.ValidationException
		}
		return p.health(), ""
	case Metadata:
		var in xksapi.MetadataRequest
		if !p.decode(req, body, &in, func() *xksapi.RequestMetadata { return in.RequestMetadata }) {
			return nil, xksapi.ValidationException
		}
		k := p.key(req.KeyID)
		if k == nil {
			return nil, xksapi.KeyNotFoundException
		}
		return &xksapi.MetadataResponse{KeySpec: k.Spec, KeyUsage: k.Usage, KeyStatus: k.Status}, ""
	case Encrypt:
		var in xksapi.EncryptRequest
		if !p.decode(req, body, &in, func() *xksapi.RequestMetadata { return in.RequestMetadata }) {
			return nil, xksapi.ValidationException
		}
		req.AAD, req.Input = in.AdditionalAuthenticatedData, in.Plaintext
		p.checkSizes("plaintext", in.Plaintext, in.AdditionalAuthenticatedData, in.EncryptionAlgorithm)
		k := p.key(req.KeyID)
		if k == nil {
			return nil, xksapi.KeyNotFoundException
		}
		return nilled(k.encrypt(&in, p.opts.Metadata))
	default:
		var in xksapi.DecryptRequest
		if !p.decode(req, body, &in, func() *xksapi.RequestMetadata { return in.RequestMetadata }) {
			return nil, xksapi.ValidationException
		}
		req.AAD, req.Input = in.AdditionalAuthenticatedData, in.Ciphertext
		p.checkSizes("ciphertext", in.Ciphertext, in.AdditionalAuthenticatedData, in.EncryptionAlgorithm)
		k := p.key(req.KeyID)
		if k == nil {
			return nil, xksapi.KeyNotFoundException
		}
		return nilled(k.decrypt(&in))
	}
}

// nilled makes an answer that an error came in place of disappear.
func nilled[T any](answer *T, name xksapi.ErrorName) (any, xksapi.ErrorName) {
	if name != "" {
		return nil, name
	}
	return answer, ""
}

func (p *Proxy) health() *xksapi.HealthResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &xksapi.HealthResponse{
		XksProxyFleetSize: 1, XksProxyVendor: "Kastellan", XksProxyModel: "xkstest 1", EkmVendor: "Kastellan",
		EkmFleetDetails: slices.Clone(p.fleet),
	}
}

// decode reads a request and holds its metadata against the specification.
func (p *Proxy) decode(req *Request, body []byte, in any, metadata func() *xksapi.RequestMetadata) bool {
	if err := json.Unmarshal(body, in); err != nil {
		p.t.Errorf("%s: the body is no JSON: %v", req.Op, err)
		return false
	}
	m := metadata()
	if m == nil {
		p.t.Errorf("%s: there is no requestMetadata", req.Op)
		return false
	}
	req.Metadata = *m
	if m.KMSOperation == "" || m.KMSRequestID == "" {
		p.t.Errorf("%s: kmsOperation %q or kmsRequestId %q is missing", req.Op, m.KMSOperation, m.KMSRequestID)
	}
	crypto := req.Op == Encrypt || req.Op == Decrypt
	if (m.AWSPrincipalARN != "") != (req.Op != Health) {
		p.t.Errorf("%s: awsPrincipalArn is %q", req.Op, m.AWSPrincipalARN)
	}
	if (m.KMSKeyARN != "") != crypto {
		p.t.Errorf("%s: kmsKeyArn is %q", req.Op, m.KMSKeyARN)
	}
	if m.KMSViaService != "" && !crypto || (m.AWSSourceVPC+m.AWSSourceVPCE) != "" && req.Op == Health {
		p.t.Errorf("%s: the requestMetadata has members that do not belong there: %+v", req.Op, *m)
	}
	return true
}

// checkShape holds a request against what KMS sends.
func (p *Proxy) checkShape(r *http.Request) {
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != "application/json" {
		p.t.Errorf("the request is %s %s with Content-Type %q", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	if a := r.Header.Get("Authorization"); !strings.Contains(a, "SignedHeaders=host;x-amz-date,") {
		p.t.Errorf("other headers than host and x-amz-date are signed: %s", a)
	}
	if r.Host != p.Host {
		p.t.Errorf("the Host is %q, want %q", r.Host, p.Host)
	}
}

func (p *Proxy) checkSizes(what string, input, aad []byte, algorithm string) {
	if len(input) == 0 || len(input) > xksapi.MaxPlaintext || len(aad) > xksapi.MaxAAD || algorithm != xksapi.AlgorithmAESGCM {
		p.t.Errorf("the %s has %d bytes, the authenticated data %d, the algorithm is %q", what, len(input), len(aad), algorithm)
	}
}

// fail answers with an error of the specification.
func fail(w http.ResponseWriter, name xksapi.ErrorName) {
	status, ok := name.Status()
	if !ok {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(xksapi.Encode(xksapi.ErrorResponse{ErrorName: name, ErrorMessage: "a text for the log that must not reach the caller"}))
}
