package kastellantest

import (
	"encoding/json"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/kmsclient"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/sigv4"
)

// Explain asks as Admin for what is known of a key store's connection.
func (s *Server) Explain(id string) kmsapi.ExplainCustomKeyStoreResponse {
	s.t.Helper()
	accessKey, text := Credentials(Admin)
	client := kmsclient.New(s.Endpoint, Region, sigv4.Credentials{AccessKeyID: accessKey, Secret: secret.NewText(text)})
	var out kmsapi.ExplainCustomKeyStoreResponse
	in := map[string]string{"CustomKeyStoreId": id}
	if err := client.Call(s.t.Context(), kmsclient.Kastellan+"ExplainCustomKeyStore", in, &out); err != nil {
		s.t.Fatalf("explaining %s: %v", id, err)
	}
	return out
}

// EvidenceOf gives the record of the last attempt to connect the key store.
func (s *Server) EvidenceOf(id string) keystore.Evidence {
	s.t.Helper()
	var ev keystore.Evidence
	if text := s.Explain(id).Evidence; text != "" {
		if err := json.Unmarshal([]byte(text), &ev); err != nil {
			s.t.Fatalf("decoding the evidence of %s: %v", id, err)
		}
	}
	return ev
}
