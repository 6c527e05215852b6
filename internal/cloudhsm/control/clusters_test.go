package control

import (
	"testing"
	"time"

	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/store"
)

func TestOldestDeletedClustersAreForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	within := path(clusterPrefix, testAccount, testRegion, "")
	now := time.Now().UTC()
	_, err := b.db.Update(t.Context(), func(tx store.Tx) error {
		for i := range mostDeleted + 3 {
			rec := &clusterRecord{
				ID: newID(cloudhsmapi.ResourceCluster), Account: testAccount, Region: testRegion,
				State: cloudhsmapi.ClusterDeleted, Deleted: now.Add(time.Duration(i) * time.Second),
			}
			if err := save(tx, rec.path(), rec); err != nil {
				return err
			}
		}
		all, err := scan[clusterRecord](tx, within)
		if err != nil {
			return err
		}
		return forgetOldest(tx, deleted(all))
	})
	must(t, err)
	must(t, b.db.View(t.Context(), func(r store.Reader) error {
		left, err := scan[clusterRecord](r, within)
		if len(left) != mostDeleted {
			t.Errorf("%d are left", len(left))
		}
		for _, rec := range left {
			if rec.Deleted.Before(now.Add(3 * time.Second)) {
				t.Errorf("%s is older than those that were forgotten", rec.ID)
			}
		}
		return err
	}))
}
