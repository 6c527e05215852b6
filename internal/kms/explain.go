package kms

import (
	"context"
	"encoding/json"

	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/store"
)

// explainCustomKeyStore shows the evidence of the last attempt to connect.
func (c *call) explainCustomKeyStore(ctx context.Context, in *kmsapi.ExplainCustomKeyStoreRequest) (*kmsapi.ExplainCustomKeyStoreResponse, error) {
	if err := c.permit(); err != nil {
		return nil, err
	}
	rec, err := c.keyStore(in.CustomKeyStoreID)
	if err != nil {
		return nil, err
	}
	entry := rec.entry()
	out := &kmsapi.ExplainCustomKeyStoreResponse{
		CustomKeyStoreID: rec.ID, CustomKeyStoreName: rec.Name, CustomKeyStoreType: rec.Type,
		ConnectionState: rec.State, ConnectionErrorCode: entry.ConnectionErrorCode,
	}
	err = c.s.db.View(ctx, func(r store.Reader) error {
		evidence, ok, err := r.Get(rec.evidencePath())
		if ok {
			out.Evidence = string(evidence)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if conn := c.s.conns.reach(rec.ID); conn != nil {
		out.Health = health(conn.Connection)
	}
	return out, nil
}

// health asks a connection how it is, if it can tell.
func health(conn keystore.Connection) string {
	reporter, ok := conn.(keystore.Reporter)
	if !ok {
		return ""
	}
	text, err := json.Marshal(reporter.Health())
	if err != nil {
		return ""
	}
	return string(text)
}
