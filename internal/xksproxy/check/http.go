package check

import (
	"context"
	"net/http"
	"strings"

	"kastellan.dev/internal/xksapi"
)

func httpCases() []testCase {
	health := object{"requestMetadata": healthMetadata(xksapi.HealthCheck)}
	cases := []testCase{
		pathCase("http.unknown-path", "A path that is not part of the API", func(p *prober) string { return p.base + "/nothing" }),
		pathCase("http.unknown-operation", "An operation that is not part of the API", func(p *prober) string { return p.base + keyPath(p.o.KeyID, "sign") }),
		pathCase("http.unknown-prefix", "A prefix that no store has", func(p *prober) string {
			return strings.TrimSuffix(p.base, xksapi.BasePath) + "/kastellan-check-nobody" + xksapi.BasePath + healthPath
		}),
		{
			id: "http.query", title: "A query string that nobody signed", level: Should, expected: "401 AuthenticationFailedException or 404 InvalidUriPathException or 400 ValidationException",
			run: func(ctx context.Context, p *prober) (string, error) {
				a, err := p.send(ctx, request{path: healthPath, body: health.json(), after: func(r *http.Request) { r.URL.RawQuery = "a=b" }})
				if err != nil {
					return "", err
				}
				return a.wantError(xksapi.AuthenticationFailedException, xksapi.InvalidURIPathException, xksapi.ValidationException)
			},
		},
		{
			id: "http.keep-alive", title: "A connection serves more than one request", level: Should, expected: "the second request on the connection of the first",
			run: func(ctx context.Context, p *prober) (string, error) {
				client := p.newClient(p.tlsConfig(), false)
				defer client.CloseIdleConnections()
				for range 2 {
					a, err := p.sendWith(ctx, client, request{path: healthPath, body: health.json()})
					if err != nil {
						return "", err
					}
					if a.reused {
						return "the same connection", nil
					}
				}
				return "a new connection", errNotMet
			},
		},
		{
			id: "http.1.1", title: "HTTP/1.1 works", level: Must, expected: "200 over HTTP/1.1",
			run: func(ctx context.Context, p *prober) (string, error) {
				client := p.newClient(p.tlsConfig(), false)
				defer client.CloseIdleConnections()
				a, err := p.sendWith(ctx, client, request{path: healthPath, body: health.json()})
				if err != nil {
					return "", err
				}
				if a.proto != "HTTP/1.1" {
					return a.proto, errNotMet
				}
				return a.wantOK(new(object))
			},
		},
		{
			id: "http.2", title: "HTTP/2, where the proxy offers it, works", level: Should, expected: "200 over HTTP/2",
			run: func(ctx context.Context, p *prober) (string, error) {
				a, err := p.post(ctx, healthPath, health)
				if err != nil {
					return "", err
				}
				if a.proto != "HTTP/2.0" {
					return "", skipped("the proxy speaks " + a.proto)
				}
				return a.wantOK(new(object))
			},
		},
	}
	for _, path := range []string{healthPath, "/keys/{key}/metadata", encryptPath, decryptPath} {
		name := path[strings.LastIndexByte(path, '/')+1:]
		cases = append(cases, testCase{
			id: "http.get." + name, title: "GET on " + name, level: Must, expected: "405 Method Not Allowed",
			run: func(ctx context.Context, p *prober) (string, error) {
				a, err := p.sendWith(ctx, p.client, request{method: http.MethodGet, path: p.expand(path)})
				if err != nil {
					return "", err
				}
				if a.status != http.StatusMethodNotAllowed {
					return a.String(), errNotMet
				}
				return a.String(), nil
			},
		})
	}
	return cases
}

func pathCase(id, title string, url func(*prober) string) testCase {
	names := []xksapi.ErrorName{xksapi.InvalidURIPathException}
	return testCase{
		id: id, title: title, level: Must, expected: expectation(names),
		run: func(ctx context.Context, p *prober) (string, error) {
			a, err := p.send(ctx, request{url: url(p), body: object{"requestMetadata": healthMetadata(xksapi.HealthCheck)}.json()})
			if err != nil {
				return "", err
			}
			return a.wantError(names...)
		},
	}
}

func jsonCases() []testCase {
	full := encryptBody([]byte("Hello, world"), exampleAAD)
	cut := full.json()
	return []testCase{
		rawErrorCase("json.empty", "An empty body", encryptPath, nil, xksapi.ValidationException),
		rawErrorCase("json.cut", "A body that breaks off", encryptPath, cut[:len(cut)-10], xksapi.ValidationException),
		bodyErrorCase("json.trailing", "Something after the object", encryptPath,
			func(p *prober) []byte { return append(p.body(full), "{}"...) }, xksapi.ValidationException).should(),
		rawErrorCase("json.array", "An array instead of an object", encryptPath, []byte("[]"), xksapi.ValidationException),
		rawErrorCase("json.null", "null instead of an object", encryptPath, []byte("null"), xksapi.ValidationException),
		rawErrorCase("json.text", "Text that is not JSON", encryptPath, []byte("hello"), xksapi.ValidationException),
		okCase("json.unknown-members", "Members that nobody knows are ignored", encryptPath, full.with(object{
			"somethingNew": object{"deep": []int{1}}, "requestMetadata": metadata("Encrypt").with(object{"awsSourceIdentity": "somebody"}),
		})),
		okCase("json.odd-arn", "An ARN with a surplus slash is accepted", encryptPath, full.with(object{
			"requestMetadata": metadata("Encrypt").with(object{"kmsKeyArn": "arn:aws:kms:us-east-1:123456789012:/key/1234abcd"}),
		})),
		okCase("json.long-arn", "ARNs of 2048 characters are accepted", encryptPath, full.with(object{
			"requestMetadata": metadata("Encrypt").with(object{
				"awsPrincipalArn": "arn:aws:iam::123456789012:user/" + strings.Repeat("a", 2048-31),
				"kmsKeyArn":       "arn:aws:kms:us-east-1:123456789012:key/" + strings.Repeat("b", 2048-39),
			}),
		})),
		okCase("json.request-id", "A request id of any form is accepted", encryptPath, full.with(object{
			"requestMetadata": metadata("Encrypt").with(object{"kmsRequestId": "not a UUID: \"{}\" 1/2"}),
		})),
	}
}
