package sts_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
	"kastellan.dev/internal/stsapi"
)

// answer is what a request gets.
type answer struct {
	status          int
	contentType, id string
	text            string
	Code            string `xml:"Error>Code"`
	Arn             string `xml:"GetCallerIdentityResult>Arn"`
	RequestID       string `xml:"RequestId"`
	ResponseID      string `xml:"ResponseMetadata>RequestId"`
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	out, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: out.StatusCode, contentType: out.Header.Get("Content-Type"), id: out.Header.Get("X-Amzn-Requestid"), text: string(body)}
	if err := xml.Unmarshal(body, &a); err != nil {
		t.Errorf("%q is no XML: %v", body, err)
	}
	return a
}

// signed is a request of alice.
func (b *bank) request(method, query, body string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.Endpoint+"/?"+query, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	return r
}

func (b *bank) sign(r *http.Request, body, service string) *http.Request {
	id, text := kastellantest.Credentials("alice")
	sigv4.Sign(r, []byte(body), sigv4.Credentials{AccessKeyID: id, Secret: secret.NewText(text)}, service, kastellantest.Region, time.Now())
	return r
}

func TestTheQueryProtocol(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	const identify = "Action=GetCallerIdentity&Version=" + stsapi.Version
	arn := "arn:aws:iam::" + kastellantest.Account + ":user/alice"
	post := func(body, service string) *http.Request {
		return b.sign(b.request(http.MethodPost, "", body), body, service)
	}
	tests := map[string]struct {
		request *http.Request
		status  int
		code    string
	}{
		"POST":                            {post(identify, "sts"), 200, ""},
		"GET":                             {b.sign(b.request(http.MethodGet, identify, ""), "", "sts"), 200, ""},
		"another service's signature":     {post(identify, "kms"), 403, "SignatureDoesNotMatch"},
		"no signature":                    {b.request(http.MethodPost, "", identify), 403, "MissingAuthenticationToken"},
		"a body that was changed":         {b.sign(b.request(http.MethodPost, "", identify+"&x=y"), identify, "sts"), 403, "SignatureDoesNotMatch"},
		"no action":                       {post("Version="+stsapi.Version, "sts"), 400, "MissingAction"},
		"an action that does not exist":   {post("Action=DestroyEverything&Version="+stsapi.Version, "sts"), 400, "InvalidAction"},
		"another version":                 {post("Action=GetCallerIdentity&Version=2010-05-08", "sts"), 400, "InvalidAction"},
		"an action of KMS":                {post("Action=ListKeys&Version=2014-11-01", "kms"), 400, "InvalidAction"},
		"parameters that mean two things": {post(identify+"&Action=AssumeRole", "sts"), 400, "MalformedQueryString"},
		"a request without its members":   {post("Action=AssumeRole&Version="+stsapi.Version, "sts"), 400, "ValidationError"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, test.request)
			if a.status != test.status || a.Code != test.code || a.contentType != "text/xml" {
				t.Errorf("%d %s %s: %s", a.status, a.Code, a.contentType, a.text)
			}
			if a.id == "" || a.RequestID+a.ResponseID != a.id {
				t.Errorf("request ids %q, %q, %q", a.id, a.RequestID, a.ResponseID)
			}
			if test.code == "" && a.Arn != arn {
				t.Errorf("%s", a.text)
			}
		})
	}
}

func TestAPresignedIdentityProvesWhoSomebodyIs(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	made, err := awssts.NewPresignClient(b.as("alice")).PresignGetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(made.URL)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), made.Method, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range made.SignedHeader {
		if !strings.EqualFold(name, "host") {
			r.Header[name] = values
		}
	}
	if a := send(t, r); a.status != 200 || a.Arn != "arn:aws:iam::"+kastellantest.Account+":user/alice" {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestRefusedRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	b := openBank(t, nil)
	_, err := b.assume("alice", "svc/app", func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(1) })
	wantError(t, err, "ValidationError")
	if records := b.records("AssumeRole"); len(records) != 1 || records[0]["errorCode"] != "ValidationError" {
		t.Errorf("%v", records)
	}
}
