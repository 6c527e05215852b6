package devmode

import (
	"context"
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
	found, err := o.keyStore(ctx, name, store)
	if err != nil {
		return fmt.Errorf("making the key store %s: %w", name, err)
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
		return fmt.Errorf("making the key %s: %w", alias, err)
	}
	s.Keys = append(s.Keys, key)
	return nil
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
	aliasesAnswer struct {
		Aliases    []struct{ AliasName, TargetKeyID string }
		NextMarker string
	}
)

// keyStore finds the store by name, or creates and connects it. A store that
// somebody has disconnected since stays so.
func (o operator) keyStore(ctx context.Context, name string, create map[string]any) (Store, error) {
	existing, err := o.describe(ctx, name)
	if kmsapi.CodeOf(err) == kmsapi.CustomKeyStoreNotFound {
		create["CustomKeyStoreName"] = name
		var made struct{ CustomKeyStoreID string }
		if err := o.call(ctx, "CreateCustomKeyStore", create, &made); err != nil {
			return Store{}, err
		}
		if err := o.call(ctx, "ConnectCustomKeyStore", map[string]any{"CustomKeyStoreId": made.CustomKeyStoreID}, nil); err != nil {
			return Store{}, err
		}
	} else if err != nil {
		return existing, err
	}
	return o.settled(ctx, name)
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

// settled waits until the store is no longer on its way.
func (o operator) settled(ctx context.Context, name string) (Store, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := o.describe(ctx, name)
		if err != nil || s.State != string(kmsapi.Connecting) && s.State != string(kmsapi.Disconnecting) {
			return s, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("key store %s is still %s after %s", name, s.State, connectTimeout)
		}
	}
}

// key finds the key behind the alias, or makes both.
func (o operator) key(ctx context.Context, alias string, create map[string]any) (Key, error) {
	id, err := o.target(ctx, alias)
	if err != nil || id != "" {
		return Key{Alias: alias, ID: id}, err
	}
	var made struct{ KeyMetadata struct{ KeyID string } }
	if err := o.call(ctx, "CreateKey", create, &made); err != nil {
		return Key{}, err
	}
	id = made.KeyMetadata.KeyID
	return Key{Alias: alias, ID: id}, o.call(ctx, "CreateAlias", map[string]any{"AliasName": alias, "TargetKeyId": id}, nil)
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
