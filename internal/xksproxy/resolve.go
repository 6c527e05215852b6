package xksproxy

import (
	"fmt"

	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/rootkey"
	"kastellan.dev/internal/xksproxy/keyfile"
)

// Resolve reads everything that the file refers to, secrets and key files, and
// checks it all. Logger, Registry and Version of the result are the caller's to set.
// Calling it again sees what has changed meanwhile: that is how to reload.
func (f *File) Resolve() (ServerConfig, error) {
	out := ServerConfig{
		Listen: f.Listen, PlainHTTP: f.PlainHTTP, MetricsListen: f.MetricsListen, ShutdownTimeout: f.ShutdownTimeout,
		Proxy: Config{
			FleetSize: f.FleetSize, HealthCache: f.HealthCache, MaxBody: f.MaxBody,
			MaxRequests: f.MaxRequests, LivenessPath: f.LivenessPath,
		},
	}
	if err := f.resolve(&out); err != nil {
		return ServerConfig{}, f.locate(err)
	}
	return out, nil
}

func (f *File) resolve(out *ServerConfig) error {
	switch {
	case f.Listen == "":
		return &FieldError{"listen", "is missing"}
	case f.TLS == nil && !f.PlainHTTP:
		return &FieldError{"tls", "is missing; a proxy on the loopback interface may say plain_http: true"}
	case f.TLS != nil && f.PlainHTTP:
		return &FieldError{"plain_http", "contradicts tls"}
	case f.ShutdownTimeout < 0:
		return &FieldError{"shutdown_timeout", "must be above zero"}
	}
	if f.TLS != nil {
		out.TLS = &TLSConfig{
			CertFile: f.TLS.Certificate, KeyFile: f.TLS.Key,
			ClientCAFile: f.TLS.ClientCA, ClientNames: f.TLS.ClientNames,
		}
		if _, err := out.TLS.load(); err != nil {
			return &FieldError{"tls", err.Error()}
		}
	}
	if f.Tracing != nil {
		var err error
		if out.Tracing, err = f.Tracing.resolve(); err != nil {
			return err
		}
	}
	for i, r := range f.Rings {
		ring, err := r.resolve(fmt.Sprintf("rings[%d]", i))
		if err != nil {
			return err
		}
		out.Proxy.Rings = append(out.Proxy.Rings, ring)
	}
	for i, s := range f.Stores {
		store, err := s.resolve(fmt.Sprintf("stores[%d]", i))
		if err != nil {
			return err
		}
		out.Proxy.Stores = append(out.Proxy.Stores, store)
	}
	_, err := out.Proxy.withDefaults()
	return err
}

func (r FileRing) resolve(path string) (RingConfig, error) {
	out := RingConfig{Name: r.Name, Timeout: r.Timeout, Vendor: r.Vendor}
	if r.KeyFile != "" {
		if len(r.Tokens) > 0 || r.HealthKey != "" || r.SlowAfter != 0 || r.LoginTimeout != 0 {
			return out, &FieldError{path + ".key_file", "contradicts the settings for tokens"}
		}
		key, err := rootkey.Load(rootkey.Source{File: r.FileKey})
		if err != nil {
			return out, &FieldError{path + ".file_key", err.Error()}
		}
		if out.Keys, err = keyfile.Load(r.KeyFile, key.Direct()); err != nil {
			return out, &FieldError{path + ".key_file", err.Error()}
		}
		return out, nil
	}
	if r.FileKey != "" {
		return out, &FieldError{path + ".file_key", "is for a key_file"}
	}
	out.Tokens = &TokenRing{HealthKey: r.HealthKey, SlowAfter: r.SlowAfter, LoginTimeout: r.LoginTimeout}
	for i, t := range r.Tokens {
		member, err := t.resolve(fmt.Sprintf("%s.tokens[%d]", path, i))
		if err != nil {
			return out, err
		}
		out.Tokens.Members = append(out.Tokens.Members, member)
	}
	return out, nil
}

func (t FileToken) resolve(path string) (TokenMember, error) {
	uri, err := pkcs11.ParseURI(t.URI)
	if err != nil {
		return TokenMember{}, &FieldError{path + ".uri", err.Error()}
	}
	pin, err := t.PIN.read()
	if err != nil {
		return TokenMember{}, &FieldError{path + ".pin", err.Error()}
	}
	iv := pkcs11.IVSource(t.IV)
	switch iv {
	case pkcs11.IVByCaller, pkcs11.IVByModule, pkcs11.IVInOutput, pkcs11.IVFromTokenRNG:
	default:
		return TokenMember{}, &FieldError{path + ".iv", "must be module, module-append, token-random or absent"}
	}
	return TokenMember{
		Name: t.Name, PIN: pin, Concurrent: t.Concurrent,
		PKCS11: pkcs11.Config{
			URI: uri, Env: t.Env, InProcess: t.InProcess, Sessions: t.Sessions,
			Queue: t.Queue, CallTimeout: t.CallTimeout, IV: iv,
		},
	}, nil
}

func (s FileStore) resolve(path string) (StoreConfig, error) {
	out := StoreConfig{
		Prefix: s.Prefix, Ring: s.Ring, Regions: s.Regions, AllKeys: s.AllKeys, Default: s.Default, Limits: Limits(s.Limits),
	}
	for i, c := range s.Credentials {
		text, err := c.Secret.read()
		if err != nil {
			return out, &FieldError{fmt.Sprintf("%s.credentials[%d].secret", path, i), err.Error()}
		}
		out.Credentials = append(out.Credentials, Credential{AccessKeyID: c.AccessKeyID, Secret: text})
	}
	for _, k := range s.Keys {
		out.Keys = append(out.Keys, KeyConfig(k))
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, Rule(r))
	}
	return out, nil
}
