package kms_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kms"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/polltest"
	"kastellan.dev/internal/secret"
)

func secretBytes(s string) secret.Bytes { return secret.New([]byte(s)) }

func TestAKeyStoreConnectsServesAndDisconnects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	if state := w.describe(id).ConnectionState; state != kmsapi.Disconnected {
		t.Fatalf("a new store is %s", state)
	}
	w.connected(id)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	if key.KeyState != kmsapi.StateEnabled || key.CustomKeyStoreID != id || key.CloudHsmClusterID != cluster || key.CurrentKeyMaterialID != "" {
		t.Errorf("%+v", key)
	}
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{
		KeyID: key.Arn, Plaintext: secretBytes("hello"), EncryptionContext: map[string]string{"a": "b"},
	}))(t)
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	if state := w.keyState(key.KeyID); state != kmsapi.StateUnavailable {
		t.Errorf("right after Disconnect the key is %s", state)
	}
	in := &kmsapi.DecryptRequest{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"a": "b"}}
	_, err := do[kmsapi.DecryptResponse](w, root(account), "Decrypt", in)
	wantCode(t, err, kmsapi.KMSInvalidState)
	w.waitFor(id, kmsapi.Disconnected)
	w.connected(id)
	out := must(do[kmsapi.DecryptResponse](w, root(account), "Decrypt", in))(t)
	if string(out.Plaintext.Reveal()) != "hello" || out.KeyID != key.Arn {
		t.Errorf("got %q of %s", out.Plaintext.Reveal(), out.KeyID)
	}
	if w.keyState(key.KeyID) != kmsapi.StateEnabled {
		t.Error("the key did not come back")
	}
}

func TestAFailedConnectionIsLeftOnlyThroughDisconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	w.hsm.answer("Connect", &keystore.ConnectError{Code: kmsapi.UserLockedOut, Err: errors.New("C_Login: CKR_PIN_LOCKED")})
	if err := w.connect(id); err != nil {
		t.Fatalf("Connect answers before it knows: %v", err)
	}
	w.waitFor(id, kmsapi.Failed)
	if code := w.describe(id).ConnectionErrorCode; code != kmsapi.UserLockedOut {
		t.Errorf("got %s", code)
	}
	wantCode(t, w.connect(id), kmsapi.CustomKeyStoreInvalidState)
	explained := must(do[kmsapi.ExplainCustomKeyStoreResponse](w, root(account), "ExplainCustomKeyStore", &kmsapi.ExplainCustomKeyStoreRequest{CustomKeyStoreID: id}))(t)
	for _, want := range []string{"CKR_PIN_LOCKED", "fake step", "USER_LOCKED_OUT", cluster} {
		if !strings.Contains(explained.Evidence, want) {
			t.Errorf("the evidence lacks %s: %s", want, explained.Evidence)
		}
	}
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	if code := w.describe(id).ConnectionErrorCode; code != "" {
		t.Errorf("a disconnected store still shows %s", code)
	}
	w.hsm.answer("Connect", nil)
	w.connected(id)
}

func TestAnErrorThatIsNoConnectErrorIsInternal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.xks.answer("Connect", errors.New("something odd"))
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Failed)
	if code := w.describe(id).ConnectionErrorCode; code != kmsapi.InternalError {
		t.Errorf("got %s", code)
	}
}

func TestDisconnectStopsAConnectThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	entered := make(chan struct{})
	w.hsm.inConnect(func(ctx context.Context, _ keystore.Passwords) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := w.connect(id); err != nil {
		t.Errorf("Connect while CONNECTING: %v", err)
	}
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	if _, _, open := w.hsm.counts(); open != 0 {
		t.Errorf("%d connections are left open", open)
	}
}

func TestConnectOnAConnectedStoreDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	if err := w.connect(id); err != nil {
		t.Fatal(err)
	}
	if connects, _, open := w.xks.counts(); connects != 1 || open != 1 {
		t.Errorf("%d attempts, %d connections", connects, open)
	}
}

func TestSynchronousFailuresLeaveTheStateAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	for _, code := range []kmsapi.Code{kmsapi.CloudHsmClusterNotActive, kmsapi.CloudHsmClusterInvalidConfiguration} {
		w.hsm.answer("Connectable", kmsapi.Errorf(code, "no"))
		wantCode(t, w.connect(id), code)
		if e := w.describe(id); e.ConnectionState != kmsapi.Disconnected || e.ConnectionErrorCode != "" {
			t.Errorf("%s %s", e.ConnectionState, e.ConnectionErrorCode)
		}
	}
}

func TestStateRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	wantCode(t, w.disconnect(id), kmsapi.CustomKeyStoreInvalidState)
	w.connected(id)
	_, err := do[kmsapi.DeleteCustomKeyStoreResponse](w, root(account), "DeleteCustomKeyStore", &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.CustomKeyStoreInvalidState)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	if err := w.disconnect(id); err != nil {
		t.Fatal(err)
	}
	w.waitFor(id, kmsapi.Disconnected)
	_, err = do[kmsapi.CreateKeyResponse](w, root(account), "CreateKey", &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginAWSCloudHSM, CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.CustomKeyStoreInvalidState)
	_, err = do[kmsapi.DeleteCustomKeyStoreResponse](w, root(account), "DeleteCustomKeyStore", &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.CustomKeyStoreHasCMKs)
	must(do[kmsapi.ScheduleKeyDeletionResponse](w, root(account), "ScheduleKeyDeletion", &kmsapi.ScheduleKeyDeletionRequest{KeyID: key.KeyID}))(t)
	_, err = do[kmsapi.DeleteCustomKeyStoreResponse](w, root(account), "DeleteCustomKeyStore", &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: id})
	wantCode(t, err, kmsapi.CustomKeyStoreHasCMKs)
}

func TestAnotherAccountSeesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	key := w.createKey(&kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: id, XksKeyID: "k1"})
	sealed := must(do[kmsapi.EncryptResponse](w, root(account), "Encrypt", &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x")}))(t)
	other := root("999999999999")
	for name, in := range map[string]any{
		"ConnectCustomKeyStore":    &kmsapi.ConnectCustomKeyStoreRequest{CustomKeyStoreID: id},
		"DisconnectCustomKeyStore": &kmsapi.DisconnectCustomKeyStoreRequest{CustomKeyStoreID: id},
		"UpdateCustomKeyStore":     &kmsapi.UpdateCustomKeyStoreRequest{CustomKeyStoreID: id, NewCustomKeyStoreName: "mine"},
		"DeleteCustomKeyStore":     &kmsapi.DeleteCustomKeyStoreRequest{CustomKeyStoreID: id},
		"DescribeCustomKeyStores":  &kmsapi.DescribeCustomKeyStoresRequest{CustomKeyStoreID: id},
		"ExplainCustomKeyStore":    &kmsapi.ExplainCustomKeyStoreRequest{CustomKeyStoreID: id},
		"CreateKey":                &kmsapi.CreateKeyRequest{Origin: kmsapi.OriginExternalKeyStore, CustomKeyStoreID: id, XksKeyID: "k2"},
		"GenerateRandom":           &kmsapi.GenerateRandomRequest{CustomKeyStoreID: id, NumberOfBytes: ptr(int32(1))},
	} {
		_, err := w.s.Do(context.Background(), operation(t, name), other, in)
		if kmsapi.CodeOf(err) != kmsapi.CustomKeyStoreNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]any{
		"Encrypt":      &kmsapi.EncryptRequest{KeyID: key.Arn, Plaintext: secretBytes("x")},
		"Decrypt":      &kmsapi.DecryptRequest{CiphertextBlob: sealed.CiphertextBlob},
		"DescribeKey":  &kmsapi.DescribeKeyRequest{KeyID: key.Arn},
		"DisableKey":   &kmsapi.DisableKeyRequest{KeyID: key.Arn},
		"GetKeyPolicy": &kmsapi.GetKeyPolicyRequest{KeyID: key.Arn},
	} {
		_, err := w.s.Do(context.Background(), operation(t, name), other, in)
		if kmsapi.CodeOf(err) != kmsapi.AccessDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := do[kmsapi.DescribeKeyResponse](w, other, "DescribeKey", &kmsapi.DescribeKeyRequest{KeyID: key.KeyID})
	wantCode(t, err, kmsapi.NotFound)
}

func ptr[T any](v T) *T { return &v }

func TestCreateCustomKeyStoreRefuses(t *testing.T) {
	t.Parallel()
	hsm := func(change func(*kmsapi.CreateCustomKeyStoreRequest)) *kmsapi.CreateCustomKeyStoreRequest {
		in := &kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "second", CloudHsmClusterID: "cluster-bbbbbbbbbbb", TrustAnchorCertificate: "anchor", KeyStorePassword: password,
		}
		change(in)
		return in
	}
	xks := func(change func(*kmsapi.CreateCustomKeyStoreRequest)) *kmsapi.CreateCustomKeyStoreRequest {
		in := xksRequest("second", "second.example.com")
		change(in)
		return in
	}
	w := newWorld(t)
	w.createHSM("first", cluster)
	w.createXKS("external", "first.example.com")
	for name, tc := range map[string]struct {
		in   *kmsapi.CreateCustomKeyStoreRequest
		code kmsapi.Code
	}{
		"a name that is taken":            {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.CustomKeyStoreName = "first" }), kmsapi.CustomKeyStoreNameInUse},
		"a name that another type has":    {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.CustomKeyStoreName = "external" }), kmsapi.CustomKeyStoreNameInUse},
		"a cluster that is in use":        {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.CloudHsmClusterID = cluster }), kmsapi.CloudHsmClusterInUse},
		"a proxy URI that is in use":      {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyURIEndpoint = "https://first.example.com" }), kmsapi.XksProxyUriInUse},
		"no cluster":                      {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.CloudHsmClusterID = "" }), kmsapi.Validation},
		"no trust anchor":                 {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.TrustAnchorCertificate = "" }), kmsapi.Validation},
		"no password":                     {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.KeyStorePassword = secret.Text{} }), kmsapi.Validation},
		"a proxy for an HSM store":        {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyURIPath = "/kms/xks/v1" }), kmsapi.Validation},
		"a service for an HSM store":      {hsm(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyVpcEndpointServiceOwner = account }), kmsapi.Validation},
		"a cluster for an external store": {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.CloudHsmClusterID = cluster }), kmsapi.Validation},
		"no credential":                   {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyAuthenticationCredential = nil }), kmsapi.Validation},
		"no connectivity":                 {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyConnectivity = "" }), kmsapi.Validation},
		"no endpoint":                     {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyURIEndpoint = "" }), kmsapi.Validation},
		"no path":                         {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyURIPath = "" }), kmsapi.Validation},
		"a service with a public endpoint": {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) {
			in.XksProxyVpcEndpointServiceName = "com.amazonaws.vpce.eu-central-1.vpce-svc-1"
		}), kmsapi.Validation},
		"no service with a service as a road": {xks(func(in *kmsapi.CreateCustomKeyStoreRequest) { in.XksProxyConnectivity = kmsapi.VPCEndpointService }), kmsapi.Validation},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", tc.in)
			wantCode(t, err, tc.code)
		})
	}
}

func TestCreatePassesOnWhatTheKindSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for method, code := range map[string]kmsapi.Code{"Locate": kmsapi.CloudHsmClusterNotFound, "Verify": kmsapi.IncorrectTrustAnchor} {
		w.hsm.answer(method, kmsapi.Errorf(code, "no"))
		_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", &kmsapi.CreateCustomKeyStoreRequest{
			CustomKeyStoreName: "hsm", CloudHsmClusterID: cluster, TrustAnchorCertificate: "anchor", KeyStorePassword: password,
		})
		wantCode(t, err, code)
		w.hsm.answer(method, nil)
	}
	out := must(do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{}))(t)
	if len(out.CustomKeyStores) != 0 {
		t.Error("a refused store was created")
	}
}

func TestRepeatingACreateGivesTheSameStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsmID, xksID := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	if again := w.createHSM("hsm", cluster); again != hsmID {
		t.Errorf("got %s, want %s", again, hsmID)
	}
	if again := w.createXKS("xks", "proxy.example.com"); again != xksID {
		t.Errorf("got %s, want %s", again, xksID)
	}
	_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", &kmsapi.CreateCustomKeyStoreRequest{
		CustomKeyStoreName: "hsm", CloudHsmClusterID: cluster, TrustAnchorCertificate: "anchor", KeyStorePassword: secret.NewText("anotherPw1"),
	})
	wantCode(t, err, kmsapi.CustomKeyStoreNameInUse)
	w.connected(xksID)
	_, err = do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", xksRequest("xks", "proxy.example.com"))
	wantCode(t, err, kmsapi.CustomKeyStoreNameInUse)
}

func TestTenStoresAreTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := strings.Split("abcdefghij", "")
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", xksRequest(name, name+".example.com"))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", xksRequest("k", "k.example.com"))
	wantCode(t, err, kmsapi.LimitExceeded)
	if _, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root("999999999999"), "CreateCustomKeyStore", xksRequest("k", "k.example.com")); err != nil {
		t.Errorf("another account has a quota of its own: %v", err)
	}
	seen := map[string]bool{}
	in := &kmsapi.DescribeCustomKeyStoresRequest{Limit: ptr(int32(3))}
	for {
		page := must(do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", in))(t)
		for _, e := range page.CustomKeyStores {
			seen[e.CustomKeyStoreName] = true
		}
		if page.Truncated != (page.NextMarker != "") {
			t.Error("Truncated and NextMarker disagree")
		}
		if !page.Truncated {
			break
		}
		in.Marker = page.NextMarker
	}
	if len(seen) != 10 {
		t.Errorf("the pages show %d stores", len(seen))
	}
	for _, marker := range []string{"nonsense!", "aGVsbG8"} {
		_, err := do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{Marker: marker})
		wantCode(t, err, kmsapi.InvalidMarker)
	}
}

func TestOneOfTwoEqualCreatesWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const racers = 8
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			name := string(rune('a' + i))
			_, errs[i] = do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", xksRequest(name, "same.example.com"))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantCode(t, err, kmsapi.XksProxyUriInUse)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d were created", won, racers)
	}
}

func TestUpdateRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	w.createXKS("other", "other.example.com")
	const service = "com.amazonaws.vpce.eu-central-1.vpce-svc-1"
	path := kmsapi.UpdateCustomKeyStoreRequest{XksProxyURIPath: "/other/kms/xks/v1"}
	for name, tc := range map[string]struct {
		id           string
		in           kmsapi.UpdateCustomKeyStoreRequest
		disconnected kmsapi.Code // "" for success
		connected    kmsapi.Code
	}{
		"a free name":                      {hsm, kmsapi.UpdateCustomKeyStoreRequest{NewCustomKeyStoreName: "hsm"}, "", ""},
		"a name that is taken":             {hsm, kmsapi.UpdateCustomKeyStoreRequest{NewCustomKeyStoreName: "other"}, kmsapi.CustomKeyStoreNameInUse, kmsapi.CustomKeyStoreNameInUse},
		"nothing":                          {xks, kmsapi.UpdateCustomKeyStoreRequest{}, "", ""},
		"a password":                       {hsm, kmsapi.UpdateCustomKeyStoreRequest{KeyStorePassword: password}, "", kmsapi.CustomKeyStoreInvalidState},
		"a cluster":                        {hsm, kmsapi.UpdateCustomKeyStoreRequest{CloudHsmClusterID: "cluster-ccccccccccc"}, "", kmsapi.CustomKeyStoreInvalidState},
		"a path of an HSM store":           {hsm, path, kmsapi.Validation, kmsapi.Validation},
		"a password of an external store":  {xks, kmsapi.UpdateCustomKeyStoreRequest{KeyStorePassword: password}, kmsapi.Validation, kmsapi.Validation},
		"a path":                           {xks, path, "", ""},
		"a credential":                     {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyAuthenticationCredential: credential}, "", ""},
		"an endpoint":                      {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyURIEndpoint: "https://moved.example.com"}, "", kmsapi.CustomKeyStoreInvalidState},
		"an endpoint and path of another":  {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyURIEndpoint: "https://other.example.com", XksProxyURIPath: "/kms/xks/v1"}, kmsapi.XksProxyUriInUse, kmsapi.CustomKeyStoreInvalidState},
		"a service with a public endpoint": {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyVpcEndpointServiceName: service}, kmsapi.Validation, kmsapi.Validation},
		"a new road without an endpoint":   {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyConnectivity: kmsapi.VPCEndpointService, XksProxyVpcEndpointServiceName: service}, kmsapi.Validation, kmsapi.Validation},
		"a new road without a service":     {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyConnectivity: kmsapi.VPCEndpointService, XksProxyURIEndpoint: "https://vpc.example.com"}, kmsapi.Validation, kmsapi.Validation},
	} {
		t.Run(name, func(t *testing.T) {
			tc.in.CustomKeyStoreID = tc.id
			in := tc.in
			_, err := do[kmsapi.UpdateCustomKeyStoreResponse](w, root(account), "UpdateCustomKeyStore", &in)
			wantCode(t, err, tc.disconnected)
		})
	}
	w.connected(hsm)
	w.connected(xks)
	for name, tc := range map[string]struct {
		id   string
		in   kmsapi.UpdateCustomKeyStoreRequest
		code kmsapi.Code
	}{
		"a name":       {hsm, kmsapi.UpdateCustomKeyStoreRequest{NewCustomKeyStoreName: "renamed"}, ""},
		"a password":   {hsm, kmsapi.UpdateCustomKeyStoreRequest{KeyStorePassword: password}, kmsapi.CustomKeyStoreInvalidState},
		"a cluster":    {hsm, kmsapi.UpdateCustomKeyStoreRequest{CloudHsmClusterID: cluster}, kmsapi.CustomKeyStoreInvalidState},
		"a path":       {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyURIPath: "/kms/xks/v1"}, ""},
		"a credential": {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyAuthenticationCredential: credential}, ""},
		"an endpoint":  {xks, kmsapi.UpdateCustomKeyStoreRequest{XksProxyURIEndpoint: "https://again.example.com"}, kmsapi.CustomKeyStoreInvalidState},
	} {
		t.Run(name+" while connected", func(t *testing.T) {
			tc.in.CustomKeyStoreID = tc.id
			in := tc.in
			_, err := do[kmsapi.UpdateCustomKeyStoreResponse](w, root(account), "UpdateCustomKeyStore", &in)
			wantCode(t, err, tc.code)
		})
	}
}

func TestAConnectedStoreTakesUpANewCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createXKS("xks", "proxy.example.com")
	w.connected(id)
	must(do[kmsapi.UpdateCustomKeyStoreResponse](w, root(account), "UpdateCustomKeyStore", &kmsapi.UpdateCustomKeyStoreRequest{
		CustomKeyStoreID: id, XksProxyAuthenticationCredential: credential,
	}))(t)
	polltest.Until(t, "a new connection in place of the old one", func() bool {
		_, resumes, open := w.xks.counts()
		return resumes == 1 && open == 1
	})
}

func TestPasswordRotationSurvivesAFailureAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	onHSM := password // what the one member really has
	broken := errors.New("the connection broke")
	attempt := func(steps int) func(context.Context, keystore.Passwords) error {
		return func(ctx context.Context, pw keystore.Passwords) error {
			found := false
			candidates := pw.Candidates()
			if len(candidates) > 4 {
				t.Errorf("%d candidates would lock the user", len(candidates))
			}
			for _, c := range candidates {
				found = found || c.Equal(onHSM)
			}
			if !found {
				return &keystore.ConnectError{Code: kmsapi.InvalidCredentials, Err: errors.New("no candidate fits")}
			}
			if steps == 0 {
				return broken
			}
			next, err := pw.Prepare(ctx, true)
			if err != nil || steps == 1 {
				return errors.Join(err, broken)
			}
			onHSM = next
			if steps == 2 {
				return broken
			}
			if err := pw.Commit(ctx, true); err != nil || steps == 3 {
				return errors.Join(err, broken)
			}
			return nil
		}
	}
	for _, steps := range []int{0, 1, 2, 3, 2, 2, 1, 4} {
		w.hsm.inConnect(attempt(steps))
		if err := w.connect(id); err != nil {
			t.Fatal(err)
		}
		want := kmsapi.Failed
		if steps == 4 {
			want = kmsapi.Connected
		}
		w.waitFor(id, want)
		if code := w.describe(id).ConnectionErrorCode; code == kmsapi.InvalidCredentials {
			t.Fatalf("the password was lost after %d steps", steps)
		}
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Disconnected)
	}
	if onHSM.Equal(password) || onHSM.Len() != 32 {
		t.Error("the password was not rotated to 32 characters")
	}
}

func TestNoPasswordIsForgottenThatAMemberMayHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	kept := 0
	connect := func(allMembers bool) {
		w.hsm.inConnect(func(ctx context.Context, pw keystore.Passwords) error {
			if _, err := pw.Prepare(ctx, allMembers); errors.Is(err, keystore.ErrKeepPassword) {
				kept++
				return nil
			} else if err != nil {
				return err
			}
			return pw.Commit(ctx, allMembers)
		})
		w.connected(id)
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Disconnected)
	}
	candidates := func() (list []secret.Text) {
		w.hsm.inConnect(func(_ context.Context, pw keystore.Passwords) error {
			list = pw.Candidates()
			return errors.New("only looked")
		})
		if err := w.connect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Failed)
		if err := w.disconnect(id); err != nil {
			t.Fatal(err)
		}
		w.waitFor(id, kmsapi.Disconnected)
		return list
	}
	for range 5 {
		connect(false)
	}
	if c := candidates(); kept != 3 || len(c) != 3 || !c[2].Equal(password) {
		t.Errorf("after 5 connections without a member %d kept the password, and there are %d", kept, len(c))
	}
	connect(true)
	if c := candidates(); kept != 3 || len(c) != 1 || c[0].Equal(password) {
		t.Errorf("after a connection with all members %d passwords are kept", len(c))
	}
}

func TestAPasswordGivenInAnUpdateIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.createHSM("hsm", cluster)
	given := secret.NewText("operatorsPw1")
	must(do[kmsapi.UpdateCustomKeyStoreResponse](w, root(account), "UpdateCustomKeyStore", &kmsapi.UpdateCustomKeyStoreRequest{CustomKeyStoreID: id, KeyStorePassword: given}))(t)
	w.hsm.inConnect(func(_ context.Context, pw keystore.Passwords) error {
		if c := pw.Candidates(); len(c) != 1 || !c[0].Equal(given) {
			t.Errorf("%d candidates", len(c))
		}
		return nil
	})
	w.connected(id)
}

func TestDescribeShowsWhatTheTypeHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hsm, xks := w.createHSM("hsm", cluster), w.createXKS("xks", "proxy.example.com")
	created := kmsapi.At(w.clock.Now())
	for id, want := range map[string]kmsapi.CustomKeyStoresListEntry{
		hsm: {
			CustomKeyStoreID: hsm, CustomKeyStoreName: "hsm", CloudHsmClusterID: cluster, TrustAnchorCertificate: "anchor",
			ConnectionState: kmsapi.Disconnected, CreationDate: created, CustomKeyStoreType: kmsapi.AWSCloudHSM,
		},
		xks: {
			CustomKeyStoreID: xks, CustomKeyStoreName: "xks", ConnectionState: kmsapi.Disconnected, CreationDate: created,
			CustomKeyStoreType: kmsapi.ExternalKeyStore, XksProxyConfiguration: &kmsapi.XksProxyConfigurationType{
				Connectivity: kmsapi.PublicEndpoint, AccessKeyID: credential.AccessKeyID, URIEndpoint: "https://proxy.example.com", URIPath: "/kms/xks/v1",
			},
		},
	} {
		if diff := cmp.Diff(want, w.describe(id)); diff != "" {
			t.Error(diff)
		}
	}
	_, err := do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &kmsapi.DescribeCustomKeyStoresRequest{CustomKeyStoreID: hsm, CustomKeyStoreName: "hsm"})
	wantCode(t, err, kmsapi.Validation)
	for _, in := range []kmsapi.DescribeCustomKeyStoresRequest{{CustomKeyStoreID: "cks-nothing"}, {CustomKeyStoreName: "nobody"}} {
		_, err := do[kmsapi.DescribeCustomKeyStoresResponse](w, root(account), "DescribeCustomKeyStores", &in)
		wantCode(t, err, kmsapi.CustomKeyStoreNotFound)
	}
}

func TestAServerWithoutAKindSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *kms.Config) { c.Kinds = c.Kinds[1:] })
	_, err := do[kmsapi.CreateCustomKeyStoreResponse](w, root(account), "CreateCustomKeyStore", &kmsapi.CreateCustomKeyStoreRequest{
		CustomKeyStoreName: "hsm", CloudHsmClusterID: cluster, TrustAnchorCertificate: "anchor", KeyStorePassword: password,
	})
	wantCode(t, err, kmsapi.UnsupportedOperation)
}
