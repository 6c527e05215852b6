package e2e_test

import (
	stdcontext "context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kastellan.dev/internal/kastellantest"
)

const (
	granteeARN  = "arn:aws:iam::" + kastellantest.Account + ":role/app"
	strangerARN = "arn:aws:iam::999999999999:user/stranger"
)

func grantServer(t *testing.T) (*kastellantest.Server, *awskms.Client, string) {
	t.Helper()
	s := kastellantest.Start(t, kastellantest.Options{Users: []kastellantest.User{
		{Name: "stranger", Account: "999999999999"},
		{Name: "nobody", Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`},
	}})
	return s, s.Client(admin), *s.Key(&awskms.CreateKeyInput{}).Arn
}

func grantInput(key string, change ...func(*awskms.CreateGrantInput)) *awskms.CreateGrantInput {
	in := &awskms.CreateGrantInput{
		KeyId: &key, GranteePrincipal: aws.String(granteeARN),
		Operations: []types.GrantOperation{types.GrantOperationEncrypt, types.GrantOperationDecrypt},
	}
	for _, fn := range change {
		fn(in)
	}
	return in
}

func createGrant(t *testing.T, client *awskms.Client, in *awskms.CreateGrantInput) *awskms.CreateGrantOutput {
	t.Helper()
	out, err := client.CreateGrant(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listGrants gives the ids of all grants on a key.
func listGrants(ctx stdcontext.Context, client *awskms.Client, key string) (ids []string, pages int, err error) {
	for p := awskms.NewListGrantsPaginator(client, &awskms.ListGrantsInput{KeyId: &key}); p.HasMorePages(); pages++ {
		out, err := p.NextPage(ctx)
		if err != nil {
			return nil, 0, err
		}
		for _, g := range out.Grants {
			ids = append(ids, *g.GrantId)
		}
	}
	return ids, pages, nil
}

func TestTheLifeOfAGrant(t *testing.T) {
	t.Parallel()
	s, client, key := grantServer(t)
	in := grantInput(key, func(in *awskms.CreateGrantInput) {
		in.Name, in.RetiringPrincipal = aws.String("backup"), aws.String(strangerARN)
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "a"}, SourceArn: aws.String("arn:aws:s3:::bucket")}
	})
	made, again := createGrant(t, client, in), createGrant(t, client, in)
	if *made.GrantId != *again.GrantId || *made.GrantToken == *again.GrantToken {
		t.Errorf("got %s and %s", *made.GrantId, *again.GrantId)
	}
	plain := createGrant(t, client, grantInput(key))
	for range 2 {
		out, err := client.ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &key, GrantId: made.GrantId})
		if err != nil || len(out.Grants) != 1 || out.Truncated {
			t.Fatalf("%+v, %v", out, err)
		}
		g := out.Grants[0]
		if *g.KeyId != key || *g.Name != "backup" || *g.GranteePrincipal != granteeARN || *g.RetiringPrincipal != strangerARN ||
			*g.IssuingAccount != "arn:aws:iam::"+kastellantest.Account+":root" || !slices.Equal(g.Operations, in.Operations) ||
			g.Constraints.EncryptionContextSubset["tenant"] != "a" || *g.Constraints.SourceArn != "arn:aws:s3:::bucket" || g.CreationDate.IsZero() {
			t.Errorf("%+v", g)
		}
		out, err = client.ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &key, GrantId: plain.GrantId})
		if err != nil || len(out.Grants) != 1 || out.Grants[0].Name == nil || *out.Grants[0].Name != "" || out.Grants[0].Constraints != nil || out.Grants[0].RetiringPrincipal != nil {
			t.Errorf("a plain grant: %+v, %v", out, err)
		}
		if _, err := client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), GrantTokens: []string{*made.GrantToken, *again.GrantToken, *plain.GrantToken}}); err != nil {
			t.Error(err)
		}
		s.Restart()
		client = s.Client(admin)
	}
	stranger := s.Client("stranger")
	retirable, err := stranger.ListRetirableGrants(t.Context(), &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(strangerARN)})
	if err != nil || len(retirable.Grants) != 1 || *retirable.Grants[0].GrantId != *made.GrantId {
		t.Errorf("%+v, %v", retirable, err)
	}
	if _, err := stranger.RetireGrant(t.Context(), &awskms.RetireGrantInput{KeyId: &key, GrantId: made.GrantId}); err != nil {
		t.Error(err)
	}
	if _, err := client.RevokeGrant(t.Context(), &awskms.RevokeGrantInput{KeyId: &key, GrantId: plain.GrantId}); err != nil {
		t.Error(err)
	}
	for _, token := range []string{*made.GrantToken, *again.GrantToken, *plain.GrantToken} {
		_, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key, GrantTokens: []string{token}})
		var refused *types.InvalidGrantTokenException
		if !errors.As(err, &refused) {
			t.Errorf("a token of a grant that is gone: %v", err)
		}
	}
	if ids, _, err := listGrants(t.Context(), client, key); err != nil || len(ids) != 0 {
		t.Errorf("%d grants are left, %v", len(ids), err)
	}
	log, err := os.ReadFile(filepath.Join(s.Directory, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{*made.GrantToken, *plain.GrantToken} {
		if strings.Contains(string(log), token) {
			t.Error("the audit log has a grant token")
		}
	}
	if want := fmt.Sprintf(`"responseElements":{"grantId":%q,"keyId":%q}`, *made.GrantId, key); !strings.Contains(string(log), want) {
		t.Errorf("the audit log lacks %s", want)
	}
}

func TestGrantsInPagesThroughTheSDK(t *testing.T) {
	t.Parallel()
	_, client, key := grantServer(t)
	var mu sync.Mutex
	var want []string
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 25 {
				out, err := client.CreateGrant(t.Context(), grantInput(key, func(in *awskms.CreateGrantInput) { in.RetiringPrincipal = aws.String(granteeARN) }))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want = append(want, *out.GrantId)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(want)
	got, pages, err := listGrants(t.Context(), client, key)
	if err != nil || !slices.Equal(got, want) || pages != 5 {
		t.Errorf("%d grants on %d pages, want %d on 5: %v", len(got), pages, len(want), err)
	}
	var retirable []string
	pages = 0
	for p := awskms.NewListRetirableGrantsPaginator(client, &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(granteeARN), Limit: aws.Int32(100)}); p.HasMorePages(); pages++ {
		out, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range out.Grants {
			retirable = append(retirable, *g.GrantId)
		}
	}
	if !slices.Equal(retirable, want) || pages != 3 {
		t.Errorf("%d retirable grants on %d pages", len(retirable), pages)
	}
}

func TestGrantsThrowEveryException(t *testing.T) {
	t.Parallel()
	s, client, key := grantServer(t)
	made := createGrant(t, client, grantInput(key))
	disabled, doomed := *s.Key(&awskms.CreateKeyInput{}).Arn, *s.Key(&awskms.CreateKeyInput{}).Arn
	if _, err := client.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &disabled}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &doomed}); err != nil {
		t.Fatal(err)
	}
	const unknownGrant = "9665f33deb53dae5c4cf44ae98561b5fe291cfbb2ba15defec5905e3924e854b"
	create := func(client *awskms.Client, key string, change ...func(*awskms.CreateGrantInput)) func(stdcontext.Context) error {
		return func(ctx stdcontext.Context) error {
			_, err := client.CreateGrant(ctx, grantInput(key, change...))
			return err
		}
	}
	list := func(in awskms.ListGrantsInput) func(stdcontext.Context) error {
		return func(ctx stdcontext.Context) error { _, err := client.ListGrants(ctx, &in); return err }
	}
	retirable := func(in awskms.ListRetirableGrantsInput) func(stdcontext.Context) error {
		return func(ctx stdcontext.Context) error { _, err := client.ListRetirableGrants(ctx, &in); return err }
	}
	retire := func(client *awskms.Client, in awskms.RetireGrantInput) func(stdcontext.Context) error {
		return func(ctx stdcontext.Context) error { _, err := client.RetireGrant(ctx, &in); return err }
	}
	revoke := func(in awskms.RevokeGrantInput) func(stdcontext.Context) error {
		return func(ctx stdcontext.Context) error { _, err := client.RevokeGrant(ctx, &in); return err }
	}
	unknownKey := key[:len(key)-36] + "11111111-2222-3333-4444-555555555555"
	for name, tc := range map[string]struct {
		do   func(stdcontext.Context) error
		code string
	}{
		"create: no grantee":        {create(client, key, func(in *awskms.CreateGrantInput) { in.GranteePrincipal = nil }), "ValidationException"},
		"create: no operations":     {create(client, key, func(in *awskms.CreateGrantInput) { in.Operations = []types.GrantOperation{} }), "ValidationException"},
		"create: no such operation": {create(client, key, func(in *awskms.CreateGrantInput) { in.Operations = []types.GrantOperation{"Fly"} }), "ValidationException"},
		"create: not of this key":   {create(client, key, func(in *awskms.CreateGrantInput) { in.Operations = []types.GrantOperation{"GenerateMac"} }), "ValidationException"},
		"create: a bad name":        {create(client, key, func(in *awskms.CreateGrantInput) { in.Name = aws.String("a b") }), "ValidationException"},
		"create: an ambiguous context": {create(client, key, func(in *awskms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{}}
		}), "ValidationException"},
		"create: too many tokens":   {create(client, key, func(in *awskms.CreateGrantInput) { in.GrantTokens = slices.Repeat([]string{*made.GrantToken}, 11) }), "ValidationException"},
		"create: no principal":      {create(client, key, func(in *awskms.CreateGrantInput) { in.GranteePrincipal = aws.String("app") }), "InvalidArnException"},
		"create: no token":          {create(client, key, func(in *awskms.CreateGrantInput) { in.GrantTokens = []string{"token"} }), "InvalidGrantTokenException"},
		"create: no key":            {create(client, unknownKey), "NotFoundException"},
		"create: disabled":          {create(client, disabled), "DisabledException"},
		"create: pending deletion":  {create(client, doomed), "KMSInvalidStateException"},
		"create: not allowed":       {create(s.Client("nobody"), key), "AccessDeniedException"},
		"create: a stranger":        {create(s.Client("stranger"), key), "AccessDeniedException"},
		"create: dry":               {create(client, key, func(in *awskms.CreateGrantInput) { in.DryRun = aws.Bool(true) }), "DryRunOperationException"},
		"create: says nothing more": {create(client, key, func(in *awskms.CreateGrantInput) { in.Constraints = &types.GrantConstraints{} }), ""},
		"list: no key":              {list(awskms.ListGrantsInput{KeyId: &unknownKey}), "NotFoundException"},
		"list: no grant id":         {list(awskms.ListGrantsInput{KeyId: &key, GrantId: aws.String("x")}), "InvalidGrantIdException"},
		"list: no marker":           {list(awskms.ListGrantsInput{KeyId: &key, Marker: aws.String("x")}), "InvalidMarkerException"},
		"list: no ARN":              {list(awskms.ListGrantsInput{KeyId: aws.String("arn:aws:s3:::bucket")}), "InvalidArnException"},
		"list: too many":            {list(awskms.ListGrantsInput{KeyId: &key, Limit: aws.Int32(1001)}), "ValidationException"},
		"list: pending deletion":    {list(awskms.ListGrantsInput{KeyId: &doomed}), ""},
		"retirable: by nobody":      {retirable(awskms.ListRetirableGrantsInput{}), "ValidationException"},
		"retirable: no principal":   {retirable(awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String("app")}), "InvalidArnException"},
		"retirable: no marker":      {retirable(awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(granteeARN), Marker: aws.String("x")}), "InvalidMarkerException"},
		"retirable: a stranger":     {retirable(awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(strangerARN)}), "AccessDeniedException"},
		"retire: nothing":           {retire(client, awskms.RetireGrantInput{}), "ValidationException"},
		"retire: both":              {retire(client, awskms.RetireGrantInput{GrantToken: made.GrantToken, KeyId: &key, GrantId: made.GrantId}), "ValidationException"},
		"retire: no token":          {retire(client, awskms.RetireGrantInput{GrantToken: aws.String("token")}), "InvalidGrantTokenException"},
		"retire: no grant id":       {retire(client, awskms.RetireGrantInput{KeyId: &key, GrantId: aws.String("x")}), "InvalidGrantIdException"},
		"retire: no grant":          {retire(client, awskms.RetireGrantInput{KeyId: &key, GrantId: aws.String(unknownGrant)}), "NotFoundException"},
		"retire: no ARN":            {retire(client, awskms.RetireGrantInput{KeyId: aws.String("arn:x"), GrantId: made.GrantId}), "InvalidArnException"},
		"retire: a stranger":        {retire(s.Client("stranger"), awskms.RetireGrantInput{KeyId: &key, GrantId: made.GrantId}), "AccessDeniedException"},
		"retire: dry":               {retire(client, awskms.RetireGrantInput{GrantToken: made.GrantToken, DryRun: aws.Bool(true)}), "DryRunOperationException"},
		"revoke: no grant":          {revoke(awskms.RevokeGrantInput{KeyId: &key, GrantId: aws.String(unknownGrant)}), "NotFoundException"},
		"revoke: no grant id":       {revoke(awskms.RevokeGrantInput{KeyId: &key, GrantId: aws.String("x")}), "InvalidGrantIdException"},
		"revoke: no ARN":            {revoke(awskms.RevokeGrantInput{KeyId: aws.String("arn:x"), GrantId: made.GrantId}), "InvalidArnException"},
		"revoke: dry":               {revoke(awskms.RevokeGrantInput{KeyId: &key, GrantId: made.GrantId, DryRun: aws.Bool(true)}), "DryRunOperationException"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, tc.do(t.Context()), tc.code) })
	}
}
