package devmode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// Names of what a development server makes.
const (
	hsmStore      = "dev-hsm"
	externalStore = "dev-external"

	softAlias     = "alias/dev"
	hsmAlias      = "alias/dev-hsm"
	externalAlias = "alias/dev-external"
)

// connectTimeout bounds the wait for a key store to connect.
const connectTimeout = 30 * time.Second

// Store is a custom key store as it was found or made.
type Store struct {
	ID, Name, State, ErrorCode string
}

// Key is a KMS key and the alias that leads to it.
type Key struct {
	Alias, ID string
}

// populate makes through the public API what is not there yet.
func (s *Server) populate(ctx context.Context, hsm bool) error {
	credentials := sigv4.Credentials{AccessKeyID: AccessKeyID, Secret: secret.NewText(SecretAccessKey)}
	o := operator{kmsclient.New(s.Endpoint, s.Region, credentials)}
	if err := s.addKey(ctx, o, softAlias, map[string]any{"Description": "A key in the software store"}); err != nil {
		return err
	}
	if hsm {
		err := s.addStore(ctx, o, hsmStore, hsmAlias, map[string]any{
			"CloudHsmClusterId":      clusterID,
			"TrustAnchorCertificate": s.state.CustomerCA,
			"KeyStorePassword":       s.state.Password,
		}, map[string]any{
			"Origin":      kmsapi.OriginAWSCloudHSM,
			"Description": "A key in the HSMs behind the key store " + hsmStore,
		})
		if err != nil {
			return err
		}
	}
	return s.addStore(ctx, o, externalStore, externalAlias, map[string]any{
		"CustomKeyStoreType":   kmsapi.ExternalKeyStore,
		"XksProxyConnectivity": kmsapi.PublicEndpoint,
		"XksProxyUriEndpoint":  "https://" + proxyHost,
		"XksProxyUriPath":      "/kms/xks/v1",
		"XksProxyAuthenticationCredential": map[string]string{
			"AccessKeyId": s.state.Credential.AccessKeyID, "RawSecretAccessKey": s.state.Credential.Secret,
		},
	}, map[string]any{
		"Origin":      kmsapi.OriginExternalKeyStore,
		"XksKeyId":    proxyKey,
		"Description": "A key behind the XKS proxy of the key store " + externalStore,
	})
}

// addStore makes a key store, connects it, and makes a key in it. If it does
// not connect there is no key, and the store's state says why.
func (s *Server) addStore(ctx context.Context, o operator, name, alias string, store, key map[string]any) error {
	found, err := o.connectedStore(ctx, name, alias, store)
	if err != nil {
		return s.notMade(ctx, "the key store "+name, err)
	}
	s.Stores = append(s.Stores, found)
	if found.State != string(kmsapi.Connected) {
		return nil
	}
	key["CustomKeyStoreId"] = found.ID
	return s.addKey(ctx, o, alias, key)
}

func (s *Server) addKey(ctx context.Context, o operator, alias string, create map[string]any) error {
	key, err := o.key(ctx, alias, create)
	if err != nil {
		return s.notMade(ctx, "the key "+alias, err)
	}
	s.Keys = append(s.Keys, key)
	return nil
}

// notMade leaves out what the API refuses: somebody may have renamed or deleted things in data that
// is kept, and the rest is still of use. Every other error ends the start.
func (s *Server) notMade(ctx context.Context, what string, err error) error {
	var refusal *kmsapi.Error
	if ctx.Err() == nil && errors.As(err, &refusal) {
		s.leaveOut(what, err.Error())
		return nil
	}
	return fmt.Errorf("making %s: %w", what, err)
}

// operator does through the public API what an operator would.
type operator struct{ api *kmsclient.Client }

func (o operator) call(ctx context.Context, operation string, in, out any) error {
	if err := o.api.Call(ctx, kmsclient.KMS+operation, in, out); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return nil
}

// wire shapes of the few answers that are looked at.
type (
	storesAnswer struct {
		CustomKeyStores []struct {
			CustomKeyStoreID, CustomKeyStoreName, ConnectionState, ConnectionErrorCode string
		}
	}
	keysAnswer struct {
		Keys       []struct{ KeyID string }
		NextMarker string
	}
	keyAnswer struct {
		KeyMetadata struct{ KeyID, Description, KeyState string }
	}
	aliasesAnswer struct {
		Aliases    []struct{ AliasName, TargetKeyID string }
		NextMarker string
	}
)

// connectedStore finds the store by name, or creates it, and connects it. A store that
// somebody has disconnected since it had a key stays so; without a key, its
// start was interrupted.
func (o operator) connectedStore(ctx context.Context, name, alias string, create map[string]any) (Store, error) {
	found, err := o.keyStore(ctx, name, create)
	if err != nil {
		return found, err
	}
	target, err := o.target(ctx, alias)
	if err != nil {
		return found, err
	}
	if found.State == string(kmsapi.Disconnected) && target == "" {
		if err := o.call(ctx, "ConnectCustomKeyStore", map[string]any{"CustomKeyStoreId": found.ID}, nil); err != nil {
			return found, err
		}
	}
	return o.settled(ctx, name)
}

// keyStore finds the store by name, or creates it.
func (o operator) keyStore(ctx context.Context, name string, create map[string]any) (Store, error) {
	found, err := o.describe(ctx, name)
	if kmsapi.CodeOf(err) != kmsapi.CustomKeyStoreNotFound {
		return found, err
	}
	create["CustomKeyStoreName"] = name
	if err := o.call(ctx, "CreateCustomKeyStore", create, nil); err != nil {
		return found, err
	}
	return o.describe(ctx, name)
}

func (o operator) describe(ctx context.Context, name string) (Store, error) {
	var answer storesAnswer
	if err := o.call(ctx, "DescribeCustomKeyStores", map[string]any{"CustomKeyStoreName": name}, &answer); err != nil {
		return Store{}, err
	}
	if len(answer.CustomKeyStores) != 1 {
		return Store{}, fmt.Errorf("%d key stores are called %s", len(answer.CustomKeyStores), name)
	}
	s := answer.CustomKeyStores[0]
	return Store{ID: s.CustomKeyStoreID, Name: s.CustomKeyStoreName, State: s.ConnectionState, ErrorCode: s.ConnectionErrorCode}, nil
}

// settled waits until the store is no longer on its way, but not for ever.
func (o operator) settled(ctx context.Context, name string) (Store, error) {
	enough := time.NewTimer(connectTimeout)
	defer enough.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := o.describe(ctx, name)
		if err != nil || s.State != string(kmsapi.Connecting) && s.State != string(kmsapi.Disconnecting) {
			return s, err
		}
		select {
		case <-tick.C:
		case <-enough.C:
			return s, nil
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// key finds the key behind the alias, or makes both.
func (o operator) key(ctx context.Context, alias string, create map[string]any) (Key, error) {
	id, err := o.target(ctx, alias)
	if err != nil || id != "" {
		return Key{Alias: alias, ID: id}, err
	}
	if id, err = o.orphan(ctx, create["Description"]); err != nil {
		return Key{}, err
	}
	if id == "" {
		var made keyAnswer
		if err := o.call(ctx, "CreateKey", create, &made); err != nil {
			return Key{}, err
		}
		id = made.KeyMetadata.KeyID
	}
	return Key{Alias: alias, ID: id}, o.call(ctx, "CreateAlias", map[string]any{"AliasName": alias, "TargetKeyId": id}, nil)
}

// orphan finds the key that an interrupted start made and gave no alias, by its description, or gives "".
func (o operator) orphan(ctx context.Context, description any) (string, error) {
	in := map[string]any{}
	for {
		var answer keysAnswer
		if err := o.call(ctx, "ListKeys", in, &answer); err != nil {
			return "", err
		}
		for _, k := range answer.Keys {
			var key keyAnswer
			if err := o.call(ctx, "DescribeKey", map[string]any{"KeyId": k.KeyID}, &key); err != nil {
				return "", err
			}
			if m := key.KeyMetadata; m.Description == description && m.KeyState == string(kmsapi.StateEnabled) {
				return k.KeyID, nil
			}
		}
		if answer.NextMarker == "" {
			return "", nil
		}
		in["Marker"] = answer.NextMarker
	}
}

// target gives the key that an alias leads to, or "".
func (o operator) target(ctx context.Context, alias string) (string, error) {
	in := map[string]any{}
	for {
		var answer aliasesAnswer
		if err := o.call(ctx, "ListAliases", in, &answer); err != nil {
			return "", err
		}
		for _, a := range answer.Aliases {
			if a.AliasName == alias {
				return a.TargetKeyID, nil
			}
		}
		if answer.NextMarker == "" {
			return "", nil
		}
		in["Marker"] = answer.NextMarker
	}
}
