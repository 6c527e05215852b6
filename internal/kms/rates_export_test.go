package kms

// For tests from outside.
var NewRates = newRates

// Take is take.
func (r *rates) Take(account, region, quota string) error { return r.take(account, region, quota) }

// CountRatePlaces counts the accounts and Regions whose rates are held.
func (s *Service) CountRatePlaces() int {
	s.rates.mu.RLock()
	defer s.rates.mu.RUnlock()
	return len(s.rates.places)
}
