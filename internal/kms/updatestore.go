package kms

import (
	"context"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// updateCustomKeyStore changes a store after it has tested the new values.
func (c *call) updateCustomKeyStore(ctx context.Context, in *kmsapi.UpdateCustomKeyStoreRequest) (*kmsapi.UpdateCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	seen, err := c.keyStore(in.CustomKeyStoreID)
	if err != nil {
		return nil, err
	}
	c.noteStore(seen)
	next, err := c.edited(seen, in)
	if err != nil {
		return nil, err
	}
	if err := c.checkUpdate(ctx, seen, next, in); err != nil {
		return nil, err
	}
	return &kmsapi.UpdateCustomKeyStoreResponse{}, c.s.update(ctx, func(tx store.Tx) error {
		now, err := load[keyStoreRecord](tx, seen.path())
		if err != nil {
			return err
		}
		if now == nil {
			return keyStoreNotFound()
		}
		next, err := c.edited(now, in)
		if err != nil {
			return err
		}
		stores, err := allKeyStores(tx)
		if err != nil {
			return err
		}
		if err := c.nameIsFree(next, stores); err != nil {
			return err
		}
		if err := c.conflicts(next, stores); err != nil {
			return err
		}
		return save(tx, next.path(), next)
	})
}

// checkUpdate tests the new values against the rest of the world.
func (c *call) checkUpdate(ctx context.Context, seen, next *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	stores := c.s.mirror.keyStores(func(*keyStoreRecord) bool { return true })
	if err := c.nameIsFree(next, stores); err != nil {
		return err
	}
	if !movesStore(in) {
		return nil
	}
	kind, cfg, err := c.s.kindAndConfig(next)
	if err != nil {
		return err
	}
	if err := kind.Locate(ctx, cfg); err != nil {
		return err
	}
	if err := kind.Related(ctx, seen.shape(), cfg); err != nil {
		return err
	}
	if err := c.conflicts(next, stores); err != nil {
		return err
	}
	return kind.Verify(ctx, c.onBehalf(), cfg)
}

// movesStore tells that an update changes what can be tested now. A name
// cannot, and a password shows its worth when the store is connected.
func movesStore(in *kmsapi.UpdateCustomKeyStoreRequest) bool {
	return in.CloudHsmClusterID != "" || touchesProxy(in)
}

func touchesProxy(in *kmsapi.UpdateCustomKeyStoreRequest) bool {
	return movesProxy(in) || in.XksProxyURIPath != "" || in.XksProxyAuthenticationCredential != nil
}

// movesProxy tells that an update changes where the proxy is.
func movesProxy(in *kmsapi.UpdateCustomKeyStoreRequest) bool {
	return in.XksProxyConnectivity != "" || in.XksProxyURIEndpoint != "" ||
		in.XksProxyVpcEndpointServiceName != "" || in.XksProxyVpcEndpointServiceOwner != ""
}

func (c *call) nameIsFree(next *keyStoreRecord, stores []*keyStoreRecord) error {
	for _, other := range stores {
		if other.Account == next.Account && other.Region == next.Region && other.ID != next.ID && other.Name == next.Name {
			return kmsapi.Errorf(kmsapi.CustomKeyStoreNameInUse, "Another custom key store in this account and Region has this name.")
		}
	}
	return nil
}

// edited gives a copy of the record with the new values, if the store's type
// and state admit them.
func (c *call) edited(rec *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) (*keyStoreRecord, error) {
	if err := checkUpdateParameters(rec, in); err != nil {
		return nil, err
	}
	if err := checkUpdateState(rec, in); err != nil {
		return nil, err
	}
	next := *rec
	replace(&next.Name, in.NewCustomKeyStoreName)
	if movesStore(in) || !in.KeyStorePassword.IsEmpty() {
		next.Version++
	}
	if rec.HSM != nil {
		return &next, c.editHSM(&next, in)
	}
	return &next, c.editXKS(&next, in)
}

func (c *call) editHSM(next *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	hsm := *next.HSM
	next.HSM = &hsm
	replace(&hsm.ClusterID, in.CloudHsmClusterID)
	if in.KeyStorePassword.IsEmpty() {
		return nil
	}
	return c.s.setPassword(next, in.KeyStorePassword)
}

func (c *call) editXKS(next *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	xks := *next.XKS
	next.XKS = &xks
	replace(&xks.URIEndpoint, in.XksProxyURIEndpoint)
	replace(&xks.URIPath, in.XksProxyURIPath)
	replace(&xks.ServiceName, in.XksProxyVpcEndpointServiceName)
	replace(&xks.ServiceOwner, in.XksProxyVpcEndpointServiceOwner)
	switch in.XksProxyConnectivity {
	case kmsapi.PublicEndpoint:
		xks.Connectivity, xks.ServiceName, xks.ServiceOwner = in.XksProxyConnectivity, "", ""
	case kmsapi.VPCEndpointService:
		xks.Connectivity = in.XksProxyConnectivity
		if xks.ServiceOwner == "" {
			xks.ServiceOwner = next.Account
		}
	}
	if in.XksProxyAuthenticationCredential == nil {
		return nil
	}
	return c.s.setCredential(next, in.XksProxyAuthenticationCredential)
}

// replace sets a field to a value that was given.
func replace(field *string, value string) {
	if value != "" {
		*field = value
	}
}

// checkUpdateParameters refuses members of the other type, and moves that
// name only half of where the proxy is going.
func checkUpdateParameters(rec *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	if rec.HSM != nil && touchesProxy(in) {
		return invalid("The custom key store is of the type %s and has no external key store proxy.", rec.Type)
	}
	if rec.XKS == nil {
		return nil
	}
	if in.CloudHsmClusterID != "" || !in.KeyStorePassword.IsEmpty() {
		return invalid("The custom key store is of the type %s and has no CloudHSM cluster.", rec.Type)
	}
	service := in.XksProxyVpcEndpointServiceName != "" || in.XksProxyVpcEndpointServiceOwner != ""
	connectivity := rec.XKS.Connectivity
	if in.XksProxyConnectivity != "" {
		connectivity = in.XksProxyConnectivity
	}
	switch changes := connectivity != rec.XKS.Connectivity; {
	case connectivity == kmsapi.PublicEndpoint && service:
		return invalid("A VPC endpoint service is not valid with the connectivity %s.", connectivity)
	case changes && in.XksProxyURIEndpoint == "":
		return invalid("To change the connectivity to %s, give XksProxyUriEndpoint as well.", connectivity)
	case changes && connectivity == kmsapi.VPCEndpointService && in.XksProxyVpcEndpointServiceName == "":
		return invalid("To change the connectivity to %s, give XksProxyVpcEndpointServiceName as well.", connectivity)
	}
	return nil
}

// checkUpdateState admits name, path and credential while the store is
// CONNECTED, and everything while it is DISCONNECTED.
func checkUpdateState(rec *keyStoreRecord, in *kmsapi.UpdateCustomKeyStoreRequest) error {
	needsDisconnected := in.CloudHsmClusterID != "" || !in.KeyStorePassword.IsEmpty() || movesProxy(in)
	switch {
	case rec.State == kmsapi.Disconnected:
		return nil
	case needsDisconnected:
		return keyStoreState(rec, "DISCONNECTED")
	case rec.State == kmsapi.Connected:
		return nil
	default:
		return keyStoreState(rec, "CONNECTED or DISCONNECTED")
	}
}
