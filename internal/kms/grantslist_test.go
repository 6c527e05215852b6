package kms_test

import (
	"encoding/base64"
	"slices"
	"testing"

	"kastellan.dev/internal/kmsapi"
)

// page250 makes 250 grants on a key, every fifth of them to a role, every
// fourth of them to be retired by Alice.
func page250(w *world, key string) (all, toRole, retirable []string) {
	for i := range 250 {
		var change []grantChange
		if i%5 == 0 {
			change = append(change, grantee(roleARN))
		}
		if i%4 == 0 {
			change = append(change, retiring(aliceARN))
		}
		id := w.grant(key, change...).GrantID
		all = append(all, id)
		if i%5 == 0 {
			toRole = append(toRole, id)
		}
		if i%4 == 0 {
			retirable = append(retirable, id)
		}
	}
	for _, ids := range [][]string{all, toRole, retirable} {
		slices.Sort(ids)
	}
	return all, toRole, retirable
}

func TestGrantsAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, newMemory())
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	w.grant(other.KeyID)
	all, toRole, _ := page250(w, key.KeyID)
	for name, tc := range map[string]struct {
		in    kmsapi.ListGrantsRequest
		want  []string
		pages int
	}{
		"by default":          {kmsapi.ListGrantsRequest{}, all, 5},
		"seven at a time":     {kmsapi.ListGrantsRequest{Limit: ptr(int32(7))}, all, 36},
		"as many as there go": {kmsapi.ListGrantsRequest{Limit: ptr(int32(1000))}, all, 3},
		"of a role":           {kmsapi.ListGrantsRequest{GranteePrincipal: roleARN, Limit: ptr(int32(20))}, toRole, 3},
		"of nobody":           {kmsapi.ListGrantsRequest{GranteePrincipal: sessionARN}, []string{}, 1},
		"of no principal":     {kmsapi.ListGrantsRequest{GranteePrincipal: "nobody"}, []string{}, 1},
		"one":                 {kmsapi.ListGrantsRequest{GrantID: toRole[3]}, toRole[3:4], 1},
		"one of a role":       {kmsapi.ListGrantsRequest{GrantID: toRole[3], GranteePrincipal: roleARN}, toRole[3:4], 1},
		"one of another":      {kmsapi.ListGrantsRequest{GrantID: toRole[3], GranteePrincipal: aliceARN}, []string{}, 1},
		"one that is not":     {kmsapi.ListGrantsRequest{GrantID: noGrantID}, []string{}, 1},
	} {
		tc.in.KeyID = key.Arn
		got, pages := w.grants(tc.in)
		if !slices.Equal(idsOf(got), tc.want) || pages != tc.pages {
			t.Errorf("%s: %d grants on %d pages, want %d on %d", name, len(got), pages, len(tc.want), tc.pages)
		}
	}
}

func TestListGrantsRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, other := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	w.grant(other.KeyID)
	w.grant(other.KeyID)
	marker := must(do[kmsapi.ListGrantsResponse](w, root(account), "ListGrants", &kmsapi.ListGrantsRequest{KeyID: other.KeyID, Limit: ptr(int32(1))}))(t).NextMarker
	for name, tc := range map[string]struct {
		in   kmsapi.ListGrantsRequest
		code kmsapi.Code
	}{
		"a grant id that is none":    {kmsapi.ListGrantsRequest{GrantID: "1234"}, kmsapi.InvalidGrantID},
		"a grant id in capitals":     {kmsapi.ListGrantsRequest{GrantID: "9665F33DEB53DAE5C4CF44AE98561B5FE291CFBB2BA15DEFEC5905E3924E854B"}, kmsapi.InvalidGrantID},
		"a marker that is none":      {kmsapi.ListGrantsRequest{Marker: "?"}, kmsapi.InvalidMarker},
		"a marker of another list":   {kmsapi.ListGrantsRequest{Marker: base64.RawURLEncoding.EncodeToString([]byte("key/" + account))}, kmsapi.InvalidMarker},
		"a marker of another key":    {kmsapi.ListGrantsRequest{Marker: marker}, kmsapi.InvalidMarker},
		"grants to a service":        {kmsapi.ListGrantsRequest{GranteeServicePrincipal: "rds.amazonaws.com"}, kmsapi.Validation},
		"a key that is not there":    {kmsapi.ListGrantsRequest{KeyID: "11111111-2222-3333-4444-555555555555"}, kmsapi.NotFound},
		"an ARN that is not a key's": {kmsapi.ListGrantsRequest{KeyID: "arn:aws:s3:::bucket"}, kmsapi.InvalidArn},
		"somebody else's key":        {kmsapi.ListGrantsRequest{KeyID: "arn:aws:kms:" + region + ":" + foreign + ":key/" + key.KeyID}, kmsapi.AccessDenied},
	} {
		if tc.in.KeyID == "" {
			tc.in.KeyID = key.KeyID
		}
		if _, err := do[kmsapi.ListGrantsResponse](w, root(account), "ListGrants", &tc.in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
}

func TestRetirableGrantsAreListedAcrossKeysAndAccounts(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, newMemory())
	mine, second := w.createKey(&kmsapi.CreateKeyRequest{}), w.createKey(&kmsapi.CreateKeyRequest{})
	_, _, want := page250(w, mine.KeyID)
	want = append(want, w.grant(second.KeyID, retiring(aliceARN)).GrantID)
	theirs := must(do[kmsapi.CreateKeyResponse](w, root(foreign), "CreateKey", &kmsapi.CreateKeyRequest{}))(t).KeyMetadata
	made := must(do[kmsapi.CreateGrantResponse](w, root(foreign), "CreateGrant", grantRequest(theirs.KeyID, retiring(aliceARN))))(t)
	want = append(want, made.GrantID)
	elsewhere := in(root(account), "us-west-2")
	abroad := must(do[kmsapi.CreateKeyResponse](w, elsewhere, "CreateKey", &kmsapi.CreateKeyRequest{}))(t).KeyMetadata
	must(do[kmsapi.CreateGrantResponse](w, elsewhere, "CreateGrant", grantRequest(abroad.KeyID, retiring(aliceARN))))(t)

	r := kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN, Limit: ptr(int32(30))}
	var got []kmsapi.GrantListEntry
	for pages := 1; ; pages++ {
		out := must(do[kmsapi.ListRetirableGrantsResponse](w, root(account), "ListRetirableGrants", &r))(t)
		got = append(got, out.Grants...)
		if r.Marker = out.NextMarker; r.Marker == "" {
			if out.Truncated || pages != 3 {
				t.Errorf("%d pages, the last one truncated: %v", pages, out.Truncated)
			}
			break
		}
	}
	ids := idsOf(got)
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("%d grants, want %d", len(ids), len(want))
	}
	for _, g := range got {
		issuer := account
		if g.KeyID == theirs.Arn {
			issuer = foreign
		}
		if g.RetiringPrincipal != aliceARN || g.IssuingAccount != "arn:aws:iam::"+issuer+":root" {
			t.Errorf("%+v", g)
		}
	}
}

func TestListRetirableGrantsRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListRetirableGrants","Resource":"` + aliceARN + `"}}`
	for name, tc := range map[string]struct {
		in     kmsapi.ListRetirableGrantsRequest
		policy string
		code   kmsapi.Code
	}{
		"nobody":                   {kmsapi.ListRetirableGrantsRequest{}, allowAll, kmsapi.Validation},
		"two":                      {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN, RetiringServicePrincipal: "rds.amazonaws.com"}, allowAll, kmsapi.Validation},
		"a service":                {kmsapi.ListRetirableGrantsRequest{RetiringServicePrincipal: "rds.amazonaws.com"}, allowAll, kmsapi.Validation},
		"no principal":             {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: "alice"}, allowAll, kmsapi.InvalidArn},
		"a stranger":               {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: "arn:aws:iam::" + foreign + ":root"}, allowAll, kmsapi.AccessDenied},
		"a marker that is none":    {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN, Marker: "?"}, allowAll, kmsapi.InvalidMarker},
		"somebody, by permission":  {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: aliceARN}, one, ""},
		"another, by permission":   {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: roleARN}, one, kmsapi.AccessDenied},
		"somebody, without grants": {kmsapi.ListRetirableGrantsRequest{RetiringPrincipal: roleARN}, allowAll, ""},
	} {
		if _, err := do[kmsapi.ListRetirableGrantsResponse](w, caller(t, tc.policy), "ListRetirableGrants", &tc.in); kmsapi.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want %q", name, err, tc.code)
		}
	}
}
