package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"kastellan.dev/internal/config"
	"kastellan.dev/internal/kastellantest"
	"kastellan.dev/internal/kms"
)

// The people of the tests of authorization.
const (
	nobody    = "nobody"    // has no permission by IAM
	somebody  = "somebody"  // has every one
	forbidden = "forbidden" // has every one, and is denied all
	stranger  = "stranger"  // somebody of another account
	outsider  = "outsider"  // nobody of another account

	otherAccount = "444455556666"

	noPermission = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:NoSuchOperation","Resource":"*"}]}`
	allDenied    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`
)

var people = []kastellantest.User{
	{Name: nobody, Policy: noPermission},
	{Name: somebody},
	{Name: forbidden, Policy: allDenied},
	{Name: stranger, Account: otherAccount},
	{Name: outsider, Account: otherAccount, Policy: noPermission},
}

func arnOf(user string) string {
	for _, u := range people {
		if u.Name == user && u.Account != "" {
			return "arn:aws:iam::" + u.Account + ":user/" + user
		}
	}
	return "arn:aws:iam::" + kastellantest.Account + ":user/" + user
}

// keyPolicy always lets the administrator do everything.
func keyPolicy(statements ...string) string {
	own := fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":%q},"Action":"kms:*","Resource":"*"}`, arnOf(admin))
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(append([]string{own}, statements...), ",") + `]}`
}

func statement(effect, principal string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":{"AWS":%q},"Action":"kms:*","Resource":"*"}`, effect, principal)
}

const ownAccount = "arn:aws:iam::" + kastellantest.Account + ":root"

// situation is who calls, and what there is that might allow it.
type situation struct {
	name    string
	who     string
	policy  string
	granted bool
	allowed func(operation string, op *kms.Operation) bool
	text    string // of the refusal
}

// Operations about which key policies do not decide, and those about which they do not decide alone.
var (
	byIAMAlone = []string{"ListAliases", "RetireGrant"}
	byIAMToo   = append([]string{"CreateAlias", "UpdateAlias", "DeleteAlias", "ReplicateKey", "UpdatePrimaryRegion"}, byIAMAlone...)
)

func in(list []string) func(string, *kms.Operation) bool {
	return func(_ string, op *kms.Operation) bool { return slices.Contains(list, op.Name) }
}

func not(fn func(string, *kms.Operation) bool) func(string, *kms.Operation) bool {
	return func(name string, op *kms.Operation) bool { return !fn(name, op) }
}

func all(string, *kms.Operation) bool { return true }

var noOne = not(all)

func grantable(name string, _ *kms.Operation) bool {
	return slices.Contains(types.GrantOperation("").Values(), grantOperation(name)) && name != "RetireGrant"
}

// grantOperation is what a grant calls the operation of a call.
func grantOperation(call string) types.GrantOperation {
	return types.GrantOperation(strings.NewReplacer("(from)", "From", "(to)", "To").Replace(call))
}

var situations = []situation{
	{"nothing allows it", nobody, keyPolicy(statement("Allow", ownAccount)), false, noOne, "because no identity-based policy allows the kms:"},
	{"IAM allows it and the key policy leaves it to IAM", somebody, keyPolicy(statement("Allow", ownAccount)), false, all, ""},
	{"IAM allows it and the key policy does not know", somebody, keyPolicy(), false, in(byIAMAlone), "because no resource-based policy allows the kms:"},
	{"the key policy alone allows it", nobody, keyPolicy(statement("Allow", arnOf(nobody))), false, not(in(byIAMToo)), "because no identity-based policy allows the kms:"},
	{"a grant alone allows it", nobody, keyPolicy(statement("Allow", ownAccount)), true, grantable, "because no identity-based policy allows the kms:"},
	{"the key policy denies it", somebody, keyPolicy(statement("Allow", ownAccount), statement("Deny", arnOf(somebody))), false, in(byIAMAlone), "with an explicit deny in a resource-based policy"},
	{"the key policy denies what a grant allows", somebody, keyPolicy(statement("Deny", arnOf(somebody))), true, in(byIAMAlone), "with an explicit deny in a resource-based policy"},
	{"IAM denies it", forbidden, keyPolicy(statement("Allow", arnOf(forbidden))), false, noOne, "with an explicit deny in an identity-based policy"},
	{"IAM denies what a grant allows", forbidden, keyPolicy(statement("Allow", arnOf(forbidden))), true, noOne, "with an explicit deny in an identity-based policy"},
	{"both sides allow it to another account", stranger, keyPolicy(statement("Allow", arnOf(stranger))), false, acrossAccounts, hiddenText},
	{"both sides allow it to another account as a whole", stranger, keyPolicy(statement("Allow", "arn:aws:iam::"+otherAccount+":root")), false, acrossAccounts, hiddenText},
	{"the key policy alone allows it to another account", outsider, keyPolicy(statement("Allow", arnOf(outsider))), false, noOne, hiddenText},
	{"only IAM of another account allows it", stranger, keyPolicy(statement("Allow", ownAccount)), false, noOne, hiddenText},
	{"a grant allows it to another account", outsider, keyPolicy(statement("Allow", ownAccount)), true, grantable, hiddenText},
}

const hiddenText = "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"

func acrossAccounts(name string, op *kms.Operation) bool {
	return op.AcrossAccounts && name != "RetireGrant" // which is for who issued the grant
}

// directly has the calls that do nothing before, which might be refused instead.
var directly = map[string]func(*subject) error{
	"PutKeyPolicy": func(s *subject) error {
		_, err := s.client.PutKeyPolicy(s.t.Context(), &awskms.PutKeyPolicyInput{KeyId: &s.id, Policy: aws.String(keyPolicy()), BypassPolicyLockoutSafetyCheck: true})
		return err
	},
	"UpdatePrimaryRegion": func(s *subject) error {
		_, err := s.client.UpdatePrimaryRegion(s.t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &s.id, PrimaryRegion: aws.String(otherRegion)})
		return err
	},
	"UpdateAlias(to)": func(s *subject) error {
		name := "alias/" + s.other().id[strings.LastIndex(s.other().id, "/")+1:]
		_, err := s.client.UpdateAlias(s.t.Context(), &awskms.UpdateAliasInput{AliasName: &name, TargetKeyId: &s.id})
		return err
	},
}

// TestWhoMayDoWhatWithAKey calls every operation that is about a key in every situation.
func TestWhoMayDoWhatWithAKey(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{Users: people})
	rows := rowsOf(t)
	for _, at := range situations {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range rows {
				name, kind := row[0], row[1]
				operation, _, _ := strings.Cut(name, "(")
				if at.text == hiddenText && operation == "DeleteAlias" {
					continue // it names aliases of the caller's account only
				}
				s := at.subject(t, server, name, kind)
				call := directly[name]
				if call == nil {
					call = callsOnKeys[name]
				}
				at.judge(t, name, call(s), at.allowed(name, operationNamed(t, operation)))
			}
		})
	}
}

func operationNamed(t *testing.T, name string) *kms.Operation {
	t.Helper()
	for _, op := range kms.Operations() {
		if op.Name == name {
			return op
		}
	}
	t.Fatalf("there is no operation %s", name)
	return nil
}

// subject makes a key as the situation has it, for a call by its person.
func (at situation) subject(t *testing.T, server *kastellantest.Server, name, kind string) *subject {
	t.Helper()
	key := server.Key(keyInput(kind, func(in *awskms.CreateKeyInput) {
		in.Policy, in.MultiRegion = &at.policy, aws.Bool(true)
	}))
	l := &laboratory{fast: server}
	s := l.prepared(t, server.Client(admin), *key.Arn, kind)
	open := keyPolicy(statement("Allow", arnOf(at.who)))
	other := server.Key(&awskms.CreateKeyInput{Policy: &open})
	sealed := must[*awskms.EncryptOutput](t)(s.client.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: other.Arn, Plaintext: message})).CiphertextBlob
	s.others = &others{*other.Arn, sealed}
	must[*awskms.CreateAliasOutput](t)(s.client.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/" + *other.KeyId), TargetKeyId: other.KeyId}))
	if at.granted {
		at.grants(t, s, name)
	}
	s.client = server.Client(at.who)
	return s
}

// grants lets the person do what the call does, as far as a grant can, also with the other key.
func (at situation) grants(t *testing.T, s *subject, name string) {
	t.Helper()
	operation := grantOperation(name)
	if !grantable(name, nil) {
		operation = types.GrantOperationDescribeKey
	}
	operations := []types.GrantOperation{operation}
	if operation == types.GrantOperationCreateGrant { // it gives no more than it has
		operations = append(operations, grantInput(s.id).Operations...)
	}
	for key, operations := range map[string][]types.GrantOperation{
		s.id: operations, s.others.id: {types.GrantOperationReEncryptFrom, types.GrantOperationReEncryptTo},
	} {
		createGrant(t, s.client, &awskms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String(arnOf(at.who)), Operations: operations})
	}
}

// judge compares the outcome of a call with what the situation says.
func (at situation) judge(t *testing.T, name string, err error, allowed bool) {
	t.Helper()
	var refused smithy.APIError
	denied := errors.As(err, &refused) && refused.ErrorCode() == "AccessDeniedException"
	switch {
	case err != nil && refused == nil:
		t.Errorf("%s: %v", name, err)
	case denied == allowed:
		t.Errorf("%s: allowed is %v: %v", name, allowed, err)
	case denied && !slices.ContainsFunc(at.texts(name), func(text string) bool { return strings.Contains(refused.ErrorMessage(), text) }):
		t.Errorf("%s: the text is %q, want %q", name, refused.ErrorMessage(), at.text)
	}
}

// texts are those of which one must be in the refusal.
func (at situation) texts(name string) []string {
	switch {
	case strings.HasPrefix(name, "ReEncrypt"): // the source can be refused first
		return []string{at.text, "The ciphertext refers to a customer master key that does not exist"}
	case at.text == hiddenText && strings.Contains(name, "Alias"): // the alias is one of the caller's account
		return []string{at.text, "because no identity-based policy allows the kms:"}
	default:
		return []string{at.text}
	}
}

// callsWithoutKeys has a call of every operation that is about no key.
var callsWithoutKeys = map[string]func(t *testing.T, c *awskms.Client) error{
	"CreateKey": func(t *testing.T, c *awskms.Client) error {
		_, err := c.CreateKey(t.Context(), &awskms.CreateKeyInput{})
		return err
	},
	"GenerateRandom": func(t *testing.T, c *awskms.Client) error {
		_, err := c.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
		return err
	},
	"ListKeys": func(t *testing.T, c *awskms.Client) error {
		_, err := c.ListKeys(t.Context(), &awskms.ListKeysInput{})
		return err
	},
	"ListRetirableGrants": func(t *testing.T, c *awskms.Client) error {
		_, err := c.ListRetirableGrants(t.Context(), &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(arnOf(nobody))})
		return err
	},
	"ConnectCustomKeyStore": func(t *testing.T, c *awskms.Client) error {
		_, err := c.ConnectCustomKeyStore(t.Context(), &awskms.ConnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")})
		return err
	},
	"CreateCustomKeyStore": func(t *testing.T, c *awskms.Client) error {
		_, err := c.CreateCustomKeyStore(t.Context(), &awskms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("store"),
			CloudHsmClusterId: aws.String("cluster-234567abcde"), KeyStorePassword: aws.String("password"), TrustAnchorCertificate: aws.String("none")})
		return err
	},
	"DeleteCustomKeyStore": func(t *testing.T, c *awskms.Client) error {
		_, err := c.DeleteCustomKeyStore(t.Context(), &awskms.DeleteCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")})
		return err
	},
	"DescribeCustomKeyStores": func(t *testing.T, c *awskms.Client) error {
		_, err := c.DescribeCustomKeyStores(t.Context(), &awskms.DescribeCustomKeyStoresInput{})
		return err
	},
	"DisconnectCustomKeyStore": func(t *testing.T, c *awskms.Client) error {
		_, err := c.DisconnectCustomKeyStore(t.Context(), &awskms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0")})
		return err
	},
	"UpdateCustomKeyStore": func(t *testing.T, c *awskms.Client) error {
		_, err := c.UpdateCustomKeyStore(t.Context(), &awskms.UpdateCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-1234567890abcdef0"), NewCustomKeyStoreName: aws.String("new")})
		return err
	},
}

func TestWhoMayDoWhatWithoutAKey(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{Users: people})
	for name, call := range callsWithoutKeys {
		for _, at := range []situation{
			{who: nobody, allowed: noOne, text: "because no identity-based policy allows the kms:" + name + " action"},
			{who: somebody, allowed: all},
			{who: forbidden, allowed: noOne, text: "with an explicit deny in an identity-based policy"},
		} {
			at.judge(t, name+" by "+at.who, call(t, server.Client(at.who)), at.allowed(name, nil))
		}
	}
}

func TestNoOperationIsWithoutATestOfWhoMayCallIt(t *testing.T) {
	t.Parallel()
	tested := make(map[string]bool)
	for name := range callsWithoutKeys {
		tested[name] = true
	}
	for _, row := range rowsOf(t) {
		name, _, _ := strings.Cut(row[0], "(")
		tested[name] = true
	}
	for _, op := range kms.Operations() {
		if !tested[op.Name] {
			t.Errorf("%s has none", op.Name)
		}
	}
}

func TestPoliciesNameOnlyPrincipalsThatAreConfigured(t *testing.T) {
	t.Parallel()
	server := kastellantest.Start(t, kastellantest.Options{Users: people, Config: func(c *config.Config) { c.UnknownPrincipals = false }})
	client := server.Client(admin)
	create := func(principal string) error {
		_, err := client.CreateKey(t.Context(), &awskms.CreateKeyInput{Policy: aws.String(keyPolicy(statement("Allow", principal)))})
		return err
	}
	for _, known := range []string{otherAccount, ownAccount, arnOf(nobody), arnOf(outsider)} {
		wantError(t, create(known), "")
	}
	for _, unknown := range []string{"999988887777", arnOf("eve"), "arn:aws:iam::" + kastellantest.Account + ":role/none"} {
		wantError(t, create(unknown), "MalformedPolicyDocumentException")
	}
}
