package check

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"kastellan.dev/internal/xksapi"
)

// reachCases look at the way to the proxy.
func reachCases() []testCase {
	return []testCase{
		{
			id: "reach", title: "The proxy can be reached", level: Must, expected: "an HTTP answer",
			run: func(ctx context.Context, p *prober) (string, error) {
				a, err := p.post(ctx, healthPath, object{"requestMetadata": healthMetadata("ConnectCustomKeyStore")})
				if err != nil {
					return "", err
				}
				return a.String(), nil
			},
		},
		{
			id: "reach.endpoint", title: "AWS KMS can be told this URL", level: Should,
			expected: "https, a host name and not an address, port 443, a path of letters, digits, - and _, 256 characters at most with the longest key id",
			run: func(_ context.Context, p *prober) (string, error) {
				if problem := endpointProblem(p.base); problem != "" {
					return p.base + ": " + problem, errNotMet
				}
				return p.base, nil
			},
		},
		{
			id: "reach.clock", title: "The proxy's clock agrees with this one", level: Should, expected: "a Date header of at most a minute ago or ahead",
			run: func(ctx context.Context, p *prober) (string, error) {
				a, err := p.post(ctx, healthPath, object{"requestMetadata": healthMetadata(xksapi.HealthCheck)})
				if err != nil {
					return "", err
				}
				date, err := http.ParseTime(a.header.Get("Date"))
				if err != nil {
					return "", skipped("the answer has no Date")
				}
				off := time.Until(date).Round(time.Second)
				seen := fmt.Sprintf("%s off", off)
				if off.Abs() > time.Minute {
					return seen, errNotMet
				}
				return seen, nil
			},
		},
	}
}

// pathPattern is KMS's for XksProxyUriPath.
var pathPattern = regexp.MustCompile(`^(/[A-Za-z0-9/_-]+)?/kms/xks/v\d{1,2}$`)

// endpointProblem tells why KMS would not take the URL, or could not use it; empty if it would.
func endpointProblem(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return "not a URL"
	}
	const longestPath = "/keys//metadata"
	switch {
	case u.Scheme != "https":
		return "KMS speaks HTTPS only"
	case net.ParseIP(u.Hostname()) != nil || !strings.Contains(u.Hostname(), "."):
		return "the host is not a fully qualified domain name"
	case u.Port() != "" && u.Port() != "443":
		return "KMS has no way to set a port"
	case !pathPattern.MatchString(u.EscapedPath()) || len(u.EscapedPath()) > 128:
		return "KMS does not allow this path"
	case len(base)+len(longestPath)+128 > 256:
		return "not every key id fits in a URL of 256 characters"
	}
	return ""
}
