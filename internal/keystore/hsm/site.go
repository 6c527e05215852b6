package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"kastellan.dev/internal/pkcs11"
)

// Site is a token whose user is logged in already. What is done with it logs
// nobody in or out, and does not close it.
type Site struct {
	ID    string // of the HSM
	Token pkcs11.Token
}

// stayAt makes a stay of a site, as an HSM of a cluster. A nil log is silent.
func stayAt(site Site, clusterID string, log *slog.Logger) *stay {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &stay{
		id: site.ID, token: site.Token, keyLabel: ClusterKeyLabel(clusterID), objects: make(chan struct{}, 1),
		notes: log.With("cluster", clusterID, "member", site.ID),
	}
}

func staysAt(sites []Site, clusterID string, log *slog.Logger) (stays []*stay) {
	for _, site := range sites {
		stays = append(stays, stayAt(site, clusterID, log))
	}
	return stays
}

// agree is unite for all or nothing.
func agree(ctx context.Context, stays []*stay, complete bool) error {
	var failures []error
	united, err := unite(ctx, stays, complete, func(s *stay, _ string, err error) {
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", s.id, err))
		}
	})
	if err != nil {
		return err
	}
	if len(failures) == 0 && len(united) != len(stays) {
		return errors.New("not all HSMs have the cluster key")
	}
	return errors.Join(failures...)
}

// Establish gives all HSMs of a cluster the same cluster key, which the first
// one makes if none of them has one. The caller must name every HSM that may have
// one. It may be repeated, and fails if two HSMs have different cluster keys or if any
// could not be asked.
func Establish(ctx context.Context, clusterID string, sites []Site, log *slog.Logger) error {
	if len(sites) == 0 {
		return errors.New("establishing a cluster key: the cluster has no HSM")
	}
	if err := agree(ctx, staysAt(sites, clusterID, log), true); err != nil {
		return fmt.Errorf("establishing the cluster key of %s: %w", clusterID, err)
	}
	return nil
}

// Fill gives an HSM the cluster key and every extractable secret key that any of
// the others has and it lacks, whatever the key is for. It tells how many keys were
// copied, and fails if one could not be; it may be repeated. A key that may not leave
// its HSM is left where it is.
func Fill(ctx context.Context, clusterID string, from []Site, to Site, log *slog.Logger) (copied int, err error) {
	sources, target := staysAt(from, clusterID, log), stayAt(to, clusterID, log)
	if err := agree(ctx, append(sources[:len(sources):len(sources)], target), false); err != nil {
		return 0, fmt.Errorf("giving %s the cluster key: %w", to.ID, err)
	}
	if target.cluster.Load() == nil {
		return 0, fmt.Errorf("giving %s the cluster key: %w", to.ID, errNoCluster)
	}
	have, err := target.inventory(ctx)
	if err != nil {
		return 0, err
	}
	for _, source := range sources {
		err := source.sealEach(ctx, func(key WrappedKey) error {
			made, err := target.admit(ctx, key, have)
			if made {
				copied++
			}
			return err
		})
		if err != nil {
			return copied, fmt.Errorf("copying keys from %s to %s: %w", source.id, target.id, err)
		}
	}
	target.notes.Info("an HSM was given the keys of its cluster", "copied", copied)
	return copied, nil
}

// Compare tells by the id of each HSM the labels of the keys that it lacks and that
// others have, the cluster key among them; HSMs that lack none are left out. Keys that
// may not leave their HSM are not missed elsewhere. It changes nothing, and fails if two
// HSMs have different cluster keys.
func Compare(ctx context.Context, clusterID string, sites []Site) (map[string][]string, error) {
	stays := staysAt(sites, clusterID, nil)
	lacking := make(map[string][]string)
	if err := compareClusterKeys(ctx, stays, lacking); err != nil {
		return nil, fmt.Errorf("comparing the cluster keys of %s: %w", clusterID, err)
	}
	all := make([]inventory, len(stays))
	for i, s := range stays {
		var err error
		if all[i], err = s.inventory(ctx); err != nil {
			return nil, err
		}
	}
	missed := make(map[keyName]bool) // by who has not got it; told once for each name
	for i, theirs := range all {
		for name, handles := range theirs {
			if _, seen := missed[name]; seen || everyoneHas(all, name) {
				continue
			}
			portable, err := stays[i].anyPortable(ctx, handles)
			if err != nil {
				return nil, err
			}
			missed[name] = portable
		}
	}
	for name, portable := range missed {
		for i, mine := range all {
			if portable && len(mine[name]) == 0 {
				lacking[stays[i].id] = append(lacking[stays[i].id], name.label)
			}
		}
	}
	for _, labels := range lacking {
		slices.Sort(labels)
	}
	return lacking, nil
}

// compareClusterKeys notes who lacks the cluster key, if anybody has it, and sees
// that it is the same one everywhere else.
func compareClusterKeys(ctx context.Context, stays []*stay, lacking map[string][]string) error {
	var donor *stay
	for _, s := range stays {
		if err := s.align(ctx, nil); err != nil {
			return fmt.Errorf("%s: %w", s.id, err)
		}
		if donor == nil && s.cluster.Load() != nil {
			donor = s
		}
	}
	if donor == nil {
		return nil
	}
	for _, s := range stays {
		if s.cluster.Load() == nil {
			lacking[s.id] = append(lacking[s.id], s.keyLabel)
		} else if s != donor {
			if err := s.align(ctx, donor); err != nil {
				return err
			}
		}
	}
	return nil
}
