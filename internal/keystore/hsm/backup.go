package hsm

import (
	"context"
	"fmt"
	"log/slog"
)

// Export gives every extractable secret key of an HSM, wrapped under the cluster
// key, and takes the cluster key itself to the vault: a token that keeps cluster keys of
// clusters which may be gone by the time their keys are wanted. It changes nothing on from.
func Export(ctx context.Context, clusterID string, from, vault Site, log *slog.Logger) ([]WrappedKey, error) {
	source, safe := stayAt(from, clusterID, log), stayAt(vault, clusterID, log)
	if err := source.mustHave(ctx); err != nil {
		return nil, fmt.Errorf("exporting keys of %s: %w", clusterID, err)
	}
	if err := safe.align(ctx, source); err != nil {
		return nil, fmt.Errorf("taking the cluster key of %s to the vault: %w", clusterID, err)
	}
	var keys []WrappedKey
	err := source.sealEach(ctx, func(key WrappedKey) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("exporting keys of %s: %w", clusterID, err)
	}
	return keys, nil
}

// Import makes an HSM of cluster clusterID out of what Export gave of
// sourceCluster: the cluster key comes from the vault and gets the label of the new
// cluster, and the keys come as they were. What the HSM has already
// stays and is not made twice, so that Import may be repeated. It fails
// at the first key that was not wrapped by that cluster or is not what Export gave,
// and when the HSM has another cluster key.
func Import(ctx context.Context, sourceCluster, clusterID string, vault Site, keys []WrappedKey, to Site, log *slog.Logger) error {
	safe, target := stayAt(vault, sourceCluster, log), stayAt(to, clusterID, log)
	if err := safe.mustHave(ctx); err != nil {
		return fmt.Errorf("asking the vault for the cluster key of %s: %w", sourceCluster, err)
	}
	if err := target.align(ctx, safe); err != nil {
		return fmt.Errorf("giving %s the cluster key of %s: %w", to.ID, sourceCluster, err)
	}
	have, err := target.inventory(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := target.admit(ctx, key, have); err != nil {
			return fmt.Errorf("importing the key %q: %w", key.Label, err)
		}
	}
	return nil
}

// Forget destroys the vault's copy of a cluster key. What was wrapped under
// it opens no more once no HSM of the cluster is left. It may be repeated.
func Forget(ctx context.Context, clusterID string, vault Site) error {
	safe := stayAt(vault, clusterID, nil)
	if err := safe.destroyAll(ctx, safe.keyLabel, nil); err != nil {
		return fmt.Errorf("destroying the vault's copy of the cluster key of %s: %w", clusterID, err)
	}
	return nil
}

// mustHave takes the cluster key into use, which must be there.
func (s *stay) mustHave(ctx context.Context) error {
	if err := s.align(ctx, nil); err != nil {
		return err
	}
	if s.cluster.Load() == nil {
		return errNoCluster
	}
	return nil
}
