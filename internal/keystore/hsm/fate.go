package hsm

import "sync"

// fate is why a key is not copied between members.
type fate int

const (
	unmade  fate = iota + 1 // it is being made, and gets to the members by that
	undone                  // it could not be made
	deleted                 // it was deleted, for good
)

// fates are the keys that are not copied between members, by label.
type fates struct {
	mu      sync.Mutex
	byLabel map[string]fate
}

// decree says what becomes of a key. What was deleted stays so.
func (f *fates) decree(label string, is fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byLabel == nil {
		f.byLabel = make(map[string]fate)
	}
	if f.byLabel[label] != deleted {
		f.byLabel[label] = is
	}
}

// spare lets a key be copied that was not deleted.
func (f *fates) spare(label string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byLabel[label] != deleted {
		delete(f.byLabel, label)
	}
}

// of gives zero for a key that may be copied.
func (f *fates) of(label string) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byLabel[label]
}
