package kms

import (
	"fmt"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// Purposes under which secrets of custom key stores are sealed. The context
// is the record's storage key.
const (
	passwordPurpose   = "custom key store password"
	credentialPurpose = "external key store proxy credential"
)

// shape is the configuration of a store without its secrets.
func (r *keyStoreRecord) shape() keystore.Config {
	cfg := keystore.Config{ID: r.ID, Account: r.Account, Region: r.Region, Name: r.Name}
	if r.HSM != nil {
		cfg.HSM = &keystore.HSMConfig{ClusterID: r.HSM.ClusterID, TrustAnchor: r.HSM.TrustAnchor}
	}
	if r.XKS != nil {
		cfg.XKS = &keystore.XKSConfig{
			Connectivity: r.XKS.Connectivity, URIEndpoint: r.XKS.URIEndpoint, URIPath: r.XKS.URIPath,
			ServiceName: r.XKS.ServiceName, ServiceOwner: r.XKS.ServiceOwner, AccessKeyID: r.XKS.AccessKeyID,
		}
	}
	return cfg
}

// config is the configuration of a store as its kind needs it.
func (s *Service) config(r *keyStoreRecord) (keystore.Config, error) {
	cfg := r.shape()
	if cfg.XKS == nil {
		return cfg, nil
	}
	credential, err := s.sealer.Open(credentialPurpose, r.path(), r.XKS.Secret)
	if err != nil {
		return cfg, fmt.Errorf("opening the credential of %s: %w", r.ID, err)
	}
	cfg.XKS.SecretAccessKey = secret.NewText(string(credential))
	return cfg, nil
}

func (s *Service) kindAndConfig(r *keyStoreRecord) (keystore.Kind, keystore.Config, error) {
	kind, err := s.kind(r.Type)
	if err != nil {
		return nil, keystore.Config{}, err
	}
	cfg, err := s.config(r)
	return kind, cfg, err
}

// setCredential puts the proxy's credential into the record.
func (s *Service) setCredential(r *keyStoreRecord, credential *kmsapi.XksProxyAuthenticationCredential) error {
	sealed, err := s.sealer.Seal(credentialPurpose, r.path(), []byte(credential.RawSecretAccessKey.Reveal()))
	if err != nil {
		return fmt.Errorf("sealing the credential of %s: %w", r.ID, err)
	}
	r.XKS.AccessKeyID, r.XKS.Secret, r.XKS.CredentialSet = credential.AccessKeyID, sealed, s.now().UTC()
	return nil
}

// setPassword makes password the only one that the record knows.
func (s *Service) setPassword(r *keyStoreRecord, password secret.Text) error {
	sealed, err := s.sealPassword(r, password)
	if err != nil {
		return err
	}
	r.HSM.Passwords = passwordsRecord{Current: sealed}
	return nil
}

func (s *Service) sealPassword(r *keyStoreRecord, password secret.Text) ([]byte, error) {
	sealed, err := s.sealer.Seal(passwordPurpose, r.path(), []byte(password.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("sealing the password of %s: %w", r.ID, err)
	}
	return sealed, nil
}

func (s *Service) openPassword(r *keyStoreRecord, sealed []byte) (secret.Text, error) {
	password, err := s.sealer.Open(passwordPurpose, r.path(), sealed)
	if err != nil {
		return secret.Text{}, fmt.Errorf("opening a password of %s: %w", r.ID, err)
	}
	return secret.NewText(string(password)), nil
}

func (s *Service) currentPassword(r *keyStoreRecord) (secret.Text, error) {
	return s.openPassword(r, r.HSM.Passwords.Current)
}
