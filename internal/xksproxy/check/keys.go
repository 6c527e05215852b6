package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kastellan.dev/internal/xksapi"
)

var healthStates = []string{xksapi.Active, xksapi.Degraded, xksapi.Unavailable}

func healthMetadata(kmsOperation string) object {
	return object{"kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae", "kmsOperation": kmsOperation}
}

func healthCases() []testCase {
	cases := []testCase{
		{
			id: "health.answer", title: "GetHealthStatus gives all its members", level: Must,
			expected: "200; fleet size above 0; vendor, model, ekmVendor; 1 to 10 key managers with id, model and a known state",
			run: func(ctx context.Context, p *prober) (string, error) {
				h, seen, err := p.health(ctx)
				if err != nil {
					return seen, err
				}
				return seen, checkHealth(h)
			},
		},
		{
			id: "health.available", title: "At least one key manager works", level: Must, expected: "a key manager that is ACTIVE or DEGRADED",
			run: func(ctx context.Context, p *prober) (string, error) {
				h, seen, err := p.health(ctx)
				if err != nil {
					return seen, err
				}
				for _, m := range h.EkmFleetDetails {
					if m.HealthStatus == xksapi.Active || m.HealthStatus == xksapi.Degraded {
						return m.ID + " is " + m.HealthStatus, nil
					}
				}
				return "none", errNotMet
			},
		},
		{
			id: "health.all-active", title: "All key managers are well", level: Should, expected: "every key manager ACTIVE",
			run: func(ctx context.Context, p *prober) (string, error) {
				h, seen, err := p.health(ctx)
				if err != nil {
					return seen, err
				}
				for _, m := range h.EkmFleetDetails {
					if m.HealthStatus != xksapi.Active {
						return m.ID + " is " + m.HealthStatus, errNotMet
					}
				}
				return "all ACTIVE", nil
			},
		},
		// The specification's table of errors has no ValidationException for GetHealthStatus; AWS's own test client wants it.
		errorCase("health.no-metadata", "GetHealthStatus needs requestMetadata", healthPath, object{}, xksapi.ValidationException).should(),
		errorCase("health.empty-metadata", "GetHealthStatus needs the members of requestMetadata", healthPath,
			object{"requestMetadata": object{}}, xksapi.ValidationException).should(),
	}
	for _, op := range []string{"CreateCustomKeyStore", "ConnectCustomKeyStore", "UpdateCustomKeyStore", xksapi.HealthCheck, "SomethingNew"} {
		cases = append(cases, okCase("health.operation."+op, "GetHealthStatus is never denied: "+op, healthPath,
			object{"requestMetadata": healthMetadata(op)}))
	}
	return cases
}

func (p *prober) health(ctx context.Context) (h xksapi.HealthResponse, seen string, err error) {
	a, err := p.post(ctx, healthPath, object{"requestMetadata": healthMetadata(xksapi.HealthCheck)})
	if err != nil {
		return h, "", err
	}
	seen, err = a.wantOK(&h)
	return h, seen, err
}

func checkHealth(h xksapi.HealthResponse) error {
	switch {
	case h.XksProxyFleetSize <= 0:
		return fmt.Errorf("xksProxyFleetSize is %d", h.XksProxyFleetSize)
	case h.XksProxyVendor == "" || h.XksProxyModel == "" || h.EkmVendor == "":
		return fmt.Errorf("xksProxyVendor %q, xksProxyModel %q, ekmVendor %q", h.XksProxyVendor, h.XksProxyModel, h.EkmVendor)
	case len(h.EkmFleetDetails) < 1 || len(h.EkmFleetDetails) > xksapi.MaxFleet:
		return fmt.Errorf("ekmFleetDetails has %d entries", len(h.EkmFleetDetails))
	}
	for _, m := range h.EkmFleetDetails {
		if m.ID == "" || m.Model == "" || !slices.Contains(healthStates, m.HealthStatus) {
			return fmt.Errorf("key manager %q, model %q, healthStatus %q", m.ID, m.Model, m.HealthStatus)
		}
	}
	return nil
}

// errorCase posts body and expects one of the errors. path may hold {key} and {unknown}.
func errorCase(id, title, path string, body object, names ...xksapi.ErrorName) testCase {
	return bodyErrorCase(id, title, path, func(p *prober) []byte { return p.body(body) }, names...)
}

func rawErrorCase(id, title, path string, body []byte, names ...xksapi.ErrorName) testCase {
	return bodyErrorCase(id, title, path, func(*prober) []byte { return body }, names...)
}

func bodyErrorCase(id, title, path string, body func(*prober) []byte, names ...xksapi.ErrorName) testCase {
	return testCase{
		id: id, title: title, level: Must, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			a, err := p.send(ctx, request{path: p.expand(path), body: body(p)})
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}

// okCase posts body and expects 200.
func okCase(id, title, path string, body object) testCase {
	return testCase{
		id: id, title: title, level: Must, expected: "200",
		run: func(ctx context.Context, p *prober) (string, error) {
			return p.served(ctx, path, body)
		},
	}
}

// served wants a 200. A proxy may have rules of its own against anything but GetHealthStatus;
// which ones the check cannot know.
func (p *prober) served(ctx context.Context, path string, body object) (seen string, err error) {
	a, err := p.post(ctx, p.expand(path), body)
	if err != nil {
		return "", err
	}
	if name, _ := a.errorName(); name == xksapi.AccessDeniedException && path != healthPath {
		return "", skipped("the proxy's own rules deny it")
	}
	return a.wantOK(new(object))
}

const healthPath = "/health"

func (p *prober) expand(path string) string {
	return strings.NewReplacer("{key}", p.o.KeyID, "{unknown}", p.o.UnknownKeyID).Replace(path)
}

func expectation(names []xksapi.ErrorName) string {
	text := ""
	for i, n := range names {
		if i > 0 {
			text += " or "
		}
		status, _ := n.Status()
		text += fmt.Sprintf("%d %s", status, n)
	}
	return text
}

func metadataCases() []testCase {
	const path = "/keys/{key}/metadata"
	full := object{"requestMetadata": metadata("CreateKey").without("kmsKeyArn")}
	cases := []testCase{
		{
			id: "metadata.answer", title: "GetKeyMetadata describes a usable key", level: Must,
			expected: "200; keySpec AES_256; keyUsage with ENCRYPT and DECRYPT, 10 entries at most; keyStatus ENABLED",
			run: func(ctx context.Context, p *prober) (string, error) {
				m, seen, err := p.keyMetadata(ctx, p.o.KeyID)
				if err != nil {
					return seen, err
				}
				if m.KeySpec != xksapi.KeySpecAES256 || m.KeyStatus != xksapi.KeyEnabled || len(m.KeyUsage) > xksapi.MaxKeyUsages ||
					!slices.Contains(m.KeyUsage, xksapi.UsageEncrypt) || !slices.Contains(m.KeyUsage, xksapi.UsageDecrypt) {
					return fmt.Sprintf("%s, %v, %s", m.KeySpec, m.KeyUsage, m.KeyStatus), errNotMet
				}
				return seen, nil
			},
		},
		errorCase("metadata.unknown-key", "GetKeyMetadata of a key that is not there", "/keys/{unknown}/metadata", full, xksapi.KeyNotFoundException),
		okCase("metadata.surplus", "GetKeyMetadata accepts surplus members and an odd ARN", path, object{
			"requestMetadata": metadata("DescribeKey").with(object{
				"kmsKeyArn": "arn:aws:kms:us-east-1:123456789012:/key/1234abcd", "kmsViaService": "ebs", "somethingNew": object{"a": 1},
			}),
			"somethingElse": []int{1, 2},
		}),
		longKeyCase(),
		okCase("metadata.principal", "A principal need not be an ARN", path, object{
			"requestMetadata": metadata("CreateKey").with(object{"awsPrincipalArn": "AWS Internal"}),
		}),
	}
	return append(cases, missingCases("metadata", path, full, []string{"awsPrincipalArn", "kmsOperation", "kmsRequestId"}, nil)...)
}

// missingCases leave out the members of the request's metadata and of the request itself, one by one.
func missingCases(group, path string, full object, inMetadata, inRequest []string) []testCase {
	cases := []testCase{
		errorCase(group+".missing.requestMetadata", "requestMetadata is required", path, full.without("requestMetadata"), xksapi.ValidationException),
		errorCase(group+".missing.all", "requestMetadata must not be empty", path, full.with(object{"requestMetadata": object{}}), xksapi.ValidationException),
	}
	for _, name := range inMetadata { // which a proxy is not expected to validate one by one
		body := full.with(object{"requestMetadata": full["requestMetadata"].(object).without(name)})
		cases = append(cases, errorCase(group+".missing."+name, name+" is required", path, body, xksapi.ValidationException).should())
	}
	for _, name := range inRequest {
		names := []xksapi.ErrorName{xksapi.ValidationException}
		switch {
		case name == "encryptionAlgorithm":
			names = append(names, xksapi.UnsupportedOperationException)
		case group == "decrypt":
			names = append(names, xksapi.InvalidCiphertextException)
		}
		cases = append(cases, errorCase(group+".missing."+name, name+" is required", path, full.without(name), names...))
	}
	return cases
}

// longKeyCase asks for a key with the longest id that there can be.
func longKeyCase() testCase {
	path := keyPath("kastellan-check."+strings.Repeat("x", 128-len("kastellan-check.")), "metadata")
	return errorCase("metadata.long-id", "A key id of 128 characters is possible", path,
		object{"requestMetadata": metadata("CreateKey").without("kmsKeyArn")}, xksapi.KeyNotFoundException).should()
}

func (p *prober) keyMetadata(ctx context.Context, key string) (m xksapi.MetadataResponse, seen string, err error) {
	a, err := p.post(ctx, keyPath(key, "metadata"), object{"requestMetadata": metadata("CreateKey")})
	if err != nil {
		return m, "", err
	}
	seen, err = a.wantOK(&m)
	return m, seen, err
}
