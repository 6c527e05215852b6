package kms

import (
	"context"
	"slices"
	"strings"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// keyStore gives a custom key store of the caller's account and Region.
// Another account's store does not exist for the caller.
func (c *call) keyStore(id string) (*keyStoreRecord, error) {
	rec := c.s.mirror.keyStore(c.caller.Account, c.caller.Region, id)
	if rec == nil {
		return nil, keyStoreNotFound()
	}
	return rec, nil
}

// noteStore puts what AWS records of a custom key store into the call's record.
func (c *call) noteStore(rec *keyStoreRecord) {
	c.note("customKeyStoreName", rec.Name)
	if rec.HSM != nil {
		c.note("clusterId", rec.HSM.ClusterID)
	}
}

// kind gives what connects stores of a type, if this process can.
func (s *Service) kind(t kmsapi.CustomKeyStoreType) (keystore.Kind, error) {
	kind := s.kinds[t]
	if kind == nil {
		return nil, kmsapi.Errorf(kmsapi.UnsupportedOperation, "This server is not set up for custom key stores of the type %s.", t)
	}
	return kind, nil
}

func (c *call) createCustomKeyStore(ctx context.Context, in *kmsapi.CreateCustomKeyStoreRequest) (*kmsapi.CreateCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreType == "" {
		in.CustomKeyStoreType = kmsapi.AWSCloudHSM
	}
	if err := checkStoreParameters(in); err != nil {
		return nil, err
	}
	if id := c.sameStore(in); id != "" {
		return &kmsapi.CreateCustomKeyStoreResponse{CustomKeyStoreID: id}, nil
	}
	rec, err := c.newKeyStore(in)
	if err != nil {
		return nil, err
	}
	if err := c.checkNewStore(ctx, rec); err != nil {
		return nil, err
	}
	err = c.s.update(ctx, func(tx store.Tx) error {
		stores, err := allKeyStores(tx)
		if err != nil {
			return err
		}
		if err := c.admits(rec, stores); err != nil {
			return err
		}
		if err := c.conflicts(rec, stores); err != nil {
			return err
		}
		return save(tx, rec.path(), rec)
	})
	if err != nil {
		return nil, err
	}
	c.noteStore(rec)
	return &kmsapi.CreateCustomKeyStoreResponse{CustomKeyStoreID: rec.ID}, nil
}

// newKeyStore makes the record of the store that was asked for.
func (c *call) newKeyStore(in *kmsapi.CreateCustomKeyStoreRequest) (*keyStoreRecord, error) {
	now := c.s.now().UTC()
	rec := &keyStoreRecord{
		ID: "cks-" + randomHex(9)[:17], Account: c.caller.Account, Region: c.caller.Region,
		Name: in.CustomKeyStoreName, Type: in.CustomKeyStoreType, Created: now, Version: 1, State: kmsapi.Disconnected,
	}
	if rec.Type == kmsapi.AWSCloudHSM {
		rec.HSM = &hsmRecord{ClusterID: in.CloudHsmClusterID, TrustAnchor: in.TrustAnchorCertificate}
		return rec, c.s.setPassword(rec, in.KeyStorePassword)
	}
	rec.XKS = &xksRecord{
		Connectivity: in.XksProxyConnectivity, URIEndpoint: in.XksProxyURIEndpoint, URIPath: in.XksProxyURIPath,
		ServiceName: in.XksProxyVpcEndpointServiceName, ServiceOwner: in.XksProxyVpcEndpointServiceOwner,
	}
	if rec.XKS.Connectivity == kmsapi.VPCEndpointService && rec.XKS.ServiceOwner == "" {
		rec.XKS.ServiceOwner = c.caller.Account
	}
	return rec, c.s.setCredential(rec, in.XksProxyAuthenticationCredential)
}

// checkNewStore runs all checks on a store that is to be created, in the
// order of the documentation in docs/decisions. The ones that need nobody else are
// repeated when the record is written.
func (c *call) checkNewStore(ctx context.Context, rec *keyStoreRecord) error {
	stores := c.s.mirror.keyStores(func(*keyStoreRecord) bool { return true })
	if err := c.admits(rec, stores); err != nil {
		return err
	}
	kind, cfg, err := c.s.kindAndConfig(rec)
	if err != nil {
		return err
	}
	if err := kind.Locate(ctx, cfg); err != nil {
		return err
	}
	if err := c.conflicts(rec, stores); err != nil {
		return err
	}
	return kind.Verify(ctx, c.onBehalf(), cfg)
}

// admits checks what concerns the account alone: the name and the quota.
func (c *call) admits(rec *keyStoreRecord, stores []*keyStoreRecord) error {
	count := 0
	for _, other := range stores {
		if other.Account != rec.Account || other.Region != rec.Region || other.ID == rec.ID {
			continue
		}
		if other.Name == rec.Name {
			return kmsapi.Errorf(kmsapi.CustomKeyStoreNameInUse, "Another custom key store in this account and Region has this name.")
		}
		count++
	}
	if count >= c.s.quotas.KeyStores {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The account has %d custom key stores in this Region, which is the limit.", count)
	}
	return nil
}

// conflicts checks the rules of the store's type against every other store of the Region.
func (c *call) conflicts(rec *keyStoreRecord, stores []*keyStoreRecord) error {
	kind, cfg, err := c.s.kindAndConfig(rec)
	if err != nil {
		return err
	}
	for _, other := range stores {
		if other.Region != rec.Region || other.ID == rec.ID {
			continue
		}
		if err := kind.Conflict(cfg, other.shape()); err != nil {
			return err
		}
	}
	return nil
}

// allKeyStores reads the records of all custom key stores.
func allKeyStores(r store.Reader) ([]*keyStoreRecord, error) {
	var out []*keyStoreRecord
	for entry, err := range r.Scan(keyStorePrefix) {
		if err != nil {
			return nil, err
		}
		rec, err := decode[keyStoreRecord](entry.Key, entry.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	return out, nil
}

// describeCustomKeyStores lists stores in the order of their ids.
func (c *call) describeCustomKeyStores(_ context.Context, in *kmsapi.DescribeCustomKeyStoresRequest) (*kmsapi.DescribeCustomKeyStoresResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreID != "" && in.CustomKeyStoreName != "" {
		return nil, invalid("Use either CustomKeyStoreId or CustomKeyStoreName, not both.")
	}
	s, err := spanOf(c.below(keyStorePrefix), in.Limit, 1000, 1000, in.Marker)
	if err != nil {
		return nil, err
	}
	all := c.s.mirror.keyStores(func(r *keyStoreRecord) bool {
		return r.Account == c.caller.Account && r.Region == c.caller.Region &&
			(in.CustomKeyStoreID == "" || r.ID == in.CustomKeyStoreID) && (in.CustomKeyStoreName == "" || r.Name == in.CustomKeyStoreName)
	})
	stores, next := page(all, s)
	if len(stores) == 0 && (in.CustomKeyStoreID != "" || in.CustomKeyStoreName != "") {
		return nil, keyStoreNotFound()
	}
	out := &kmsapi.DescribeCustomKeyStoresResponse{NextMarker: next, Truncated: next != ""}
	for _, rec := range stores {
		out.CustomKeyStores = append(out.CustomKeyStores, rec.entry())
	}
	return out, nil
}

// entry shows the record as DescribeCustomKeyStores does: without secrets.
func (r *keyStoreRecord) entry() kmsapi.CustomKeyStoresListEntry {
	e := kmsapi.CustomKeyStoresListEntry{
		CustomKeyStoreID: r.ID, CustomKeyStoreName: r.Name, CustomKeyStoreType: r.Type,
		ConnectionState: r.State, CreationDate: kmsapi.At(r.Created),
	}
	if r.State == kmsapi.Failed {
		e.ConnectionErrorCode = r.ErrorCode
	}
	if r.HSM != nil {
		e.CloudHsmClusterID, e.TrustAnchorCertificate = r.HSM.ClusterID, r.HSM.TrustAnchor
	}
	if r.XKS != nil {
		e.XksProxyConfiguration = &kmsapi.XksProxyConfigurationType{
			Connectivity: r.XKS.Connectivity, AccessKeyID: r.XKS.AccessKeyID, URIEndpoint: r.XKS.URIEndpoint, URIPath: r.XKS.URIPath,
			VpcEndpointServiceName: r.XKS.ServiceName, VpcEndpointServiceOwner: r.XKS.ServiceOwner,
		}
	}
	return e
}

func (c *call) deleteCustomKeyStore(ctx context.Context, in *kmsapi.DeleteCustomKeyStoreRequest) (*kmsapi.DeleteCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	rec, err := c.keyStore(in.CustomKeyStoreID)
	if err != nil {
		return nil, err
	}
	c.noteStore(rec)
	return &kmsapi.DeleteCustomKeyStoreResponse{}, c.s.update(ctx, func(tx store.Tx) error {
		rec, err := load[keyStoreRecord](tx, rec.path())
		if err != nil {
			return err
		}
		if rec == nil {
			return keyStoreNotFound()
		}
		if rec.State != kmsapi.Disconnected {
			return keyStoreState(rec, "DISCONNECTED")
		}
		if err := hasNoKeys(tx, rec); err != nil {
			return err
		}
		if err := tx.Delete(rec.evidencePath()); err != nil {
			return err
		}
		return tx.Delete(rec.path())
	})
}

// hasNoKeys refuses while a KMS key is in the store, in whatever state.
func hasNoKeys(r store.Reader, rec *keyStoreRecord) error {
	for entry, err := range r.Scan(path(keyPrefix, rec.Account, rec.Region, "")) {
		if err != nil {
			return err
		}
		k, err := decode[keyRecord](entry.Key, entry.Value)
		if err != nil {
			return err
		}
		if k.StoreID == rec.ID {
			return kmsapi.Errorf(kmsapi.CustomKeyStoreHasCMKs, "The custom key store %s contains KMS keys. Schedule their deletion, and wait until they are deleted.", rec.ID)
		}
	}
	return nil
}

// checkStoreParameters checks which members of CreateCustomKeyStore go together.
func checkStoreParameters(in *kmsapi.CreateCustomKeyStoreRequest) error {
	hsm := map[string]bool{
		"CloudHsmClusterId":      in.CloudHsmClusterID != "",
		"TrustAnchorCertificate": in.TrustAnchorCertificate != "",
		"KeyStorePassword":       !in.KeyStorePassword.IsEmpty(),
	}
	xks := map[string]bool{
		"XksProxyConnectivity":             in.XksProxyConnectivity != "",
		"XksProxyUriEndpoint":              in.XksProxyURIEndpoint != "",
		"XksProxyUriPath":                  in.XksProxyURIPath != "",
		"XksProxyAuthenticationCredential": in.XksProxyAuthenticationCredential != nil,
	}
	vpc := map[string]bool{
		"XksProxyVpcEndpointServiceName":  in.XksProxyVpcEndpointServiceName != "",
		"XksProxyVpcEndpointServiceOwner": in.XksProxyVpcEndpointServiceOwner != "",
	}
	needed, foreign := hsm, []map[string]bool{xks, vpc}
	if in.CustomKeyStoreType == kmsapi.ExternalKeyStore {
		needed, foreign = xks, []map[string]bool{hsm}
		if in.XksProxyConnectivity == kmsapi.PublicEndpoint {
			foreign = append(foreign, vpc)
		}
	}
	if missing := names(needed, false); missing != "" {
		return invalid("A custom key store of the type %s needs %s.", in.CustomKeyStoreType, missing)
	}
	for _, group := range foreign {
		if surplus := names(group, true); surplus != "" {
			return invalid("%s is not valid for this custom key store.", surplus)
		}
	}
	if in.XksProxyConnectivity == kmsapi.VPCEndpointService && !vpc["XksProxyVpcEndpointServiceName"] {
		return invalid("XksProxyVpcEndpointServiceName is required with the connectivity %s.", in.XksProxyConnectivity)
	}
	return nil
}

// names lists the members that are given, or are not.
func names(members map[string]bool, given bool) string {
	var out []string
	for name, there := range members {
		if there == given {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// sameStore finds a disconnected store that was created with the very same
// values: the caller repeats a request whose answer was lost.
func (c *call) sameStore(in *kmsapi.CreateCustomKeyStoreRequest) string {
	same := c.s.mirror.keyStores(func(r *keyStoreRecord) bool {
		return r.Account == c.caller.Account && r.Region == c.caller.Region && r.Name == in.CustomKeyStoreName &&
			r.Type == in.CustomKeyStoreType && r.State == kmsapi.Disconnected && c.sameValues(r, in)
	})
	if len(same) == 0 {
		return ""
	}
	return same[0].ID
}

func (c *call) sameValues(r *keyStoreRecord, in *kmsapi.CreateCustomKeyStoreRequest) bool {
	cfg, err := c.s.config(r)
	if err != nil {
		return false
	}
	if r.HSM != nil {
		current, err := c.s.currentPassword(r)
		return err == nil && cfg.HSM.ClusterID == in.CloudHsmClusterID && cfg.HSM.TrustAnchor == in.TrustAnchorCertificate &&
			current.Equal(in.KeyStorePassword)
	}
	owner := in.XksProxyVpcEndpointServiceOwner
	if owner == "" && in.XksProxyConnectivity == kmsapi.VPCEndpointService {
		owner = c.caller.Account
	}
	credential := in.XksProxyAuthenticationCredential
	return cfg.XKS.Connectivity == in.XksProxyConnectivity && cfg.XKS.URIEndpoint == in.XksProxyURIEndpoint &&
		cfg.XKS.URIPath == in.XksProxyURIPath && cfg.XKS.ServiceName == in.XksProxyVpcEndpointServiceName &&
		cfg.XKS.ServiceOwner == owner && cfg.XKS.AccessKeyID == credential.AccessKeyID &&
		cfg.XKS.SecretAccessKey.Equal(credential.RawSecretAccessKey)
}
