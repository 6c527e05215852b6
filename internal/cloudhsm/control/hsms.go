package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"kastellan.dev/internal/cloudhsm"
	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/cloudhsmapi"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
	"kastellan.dev/internal/store"
)

func (c *call) createHsm(ctx context.Context, in *cloudhsmapi.CreateHsmRequest) (*cloudhsmapi.CreateHsmResponse, error) {
	c.s.addresses.Lock()
	defer c.s.addresses.Unlock()
	var made hsmRecord
	rec, err := c.change(ctx, in.ClusterID, func(tx store.Tx, rec *clusterRecord) error {
		wanted, err := wantedAddress(in.IPAddress)
		if err != nil {
			return err
		}
		if err := c.roomForHSM(tx, rec, in.AvailabilityZone); err != nil {
			return err
		}
		made = hsmRecord{
			ID: newID(cloudhsmapi.ResourceHSM), Zone: in.AvailabilityZone, Subnet: rec.Subnets[in.AvailabilityZone], ENI: newHexID("eni"),
			Type: rec.HsmType, State: cloudhsmapi.HsmCreateInProgress, Created: c.s.now().UTC(),
		}
		address, err := c.s.address(tx, made.Subnet, wanted)
		if err != nil {
			return err
		}
		made.IP = address.String()
		if made.Token, err = c.s.takeToken(tx, rec, &made); err != nil {
			return err
		}
		rec.HSMs = append(rec.HSMs, made)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.CreateHsmResponse{Hsm: made.shown(rec.ID)}, nil
}

// wantedAddress is the zero address if the request names none.
func wantedAddress(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return address, invalid("%s is not an IP address.", text)
	}
	return address, nil
}

// roomForHSM fails when the cluster cannot get one more HSM in a zone.
func (c *call) roomForHSM(r store.Reader, rec *clusterRecord, zone string) error {
	switch rec.State {
	case cloudhsmapi.ClusterUninitialized, cloudhsmapi.ClusterInitialized, cloudhsmapi.ClusterActive:
	default:
		return rec.wrongState("UNINITIALIZED, INITIALIZED or ACTIVE")
	}
	if rec.Subnets[zone] == "" {
		return invalid("Cluster %s has no subnet in the Availability Zone %s.", rec.ID, zone)
	}
	if len(rec.HSMs) >= cloudhsm.MaxMembers {
		return invalid("Cluster %s has %d HSMs; the limit is %d.", rec.ID, len(rec.HSMs), cloudhsm.MaxMembers)
	}
	all, err := scan[clusterRecord](r, path(clusterPrefix, rec.Account, rec.Region, ""))
	if err != nil {
		return err
	}
	n := 0
	for _, other := range all {
		n += len(other.HSMs)
	}
	if n >= c.s.quotas.HSMs {
		return invalid("The account has %d HSMs in this Region; the limit is %d.", n, c.s.quotas.HSMs)
	}
	return nil
}

// address gives a free address of a subnet: the wanted one, if that is valid, or the lowest.
func (s *Service) address(r store.Reader, subnet string, wanted netip.Addr) (netip.Addr, error) {
	taken, err := takenIn(r, subnet)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := s.declared.Address(subnet, taken, wanted)
	switch {
	case errors.Is(err, cloudhsm.ErrSubnetNotFound):
		return address, invalid("The subnet %s does not exist.", subnet)
	case errors.Is(err, cloudhsm.ErrNoFreeAddresses):
		return address, invalid("The subnet %s has no free address.", subnet)
	case err != nil:
		return address, invalid("The address %s cannot be given to an HSM in the subnet %s.", wanted, subnet).Because(err)
	}
	return address, nil
}

// takenIn gives the addresses that HSMs of all accounts have in a subnet.
func takenIn(r store.Reader, subnet string) (map[netip.Addr]bool, error) {
	all, err := scan[clusterRecord](r, clusterPrefix)
	if err != nil {
		return nil, err
	}
	taken := make(map[netip.Addr]bool)
	for _, rec := range all {
		for _, h := range rec.HSMs {
			if h.Subnet != subnet {
				continue
			}
			if address, err := netip.ParseAddr(h.IP); err == nil {
				taken[address] = true
			}
		}
	}
	return taken, nil
}

// prepareToken initialises a token, unless it is for certain the device of another one on record: URIs can name one token in
// several ways, and the keys on it would be gone.
func (s *Service) prepareToken(ctx context.Context, token *tokenRecord, label string, pins rack.PINs) (rack.Prepared, error) {
	identity, err := s.pools.Identity(ctx, token.Placement)
	if err != nil {
		return rack.Prepared{}, err
	}
	if identity != "" {
		if err := s.claim(ctx, token, identity); err != nil {
			return rack.Prepared{}, err
		}
	}
	if !token.Begun {
		if err := s.begunWith(ctx, token); err != nil {
			return rack.Prepared{}, err
		}
	}
	return s.pools.Prepare(ctx, token.Placement, label, pins)
}

// begunWith puts on record that a token was found blank: from then on what is on it is ours to destroy.
func (s *Service) begunWith(ctx context.Context, token *tokenRecord) error {
	if err := s.pools.Blank(ctx, token.Placement); err != nil {
		return err
	}
	_, err := s.db.Update(ctx, func(tx store.Tx) error {
		return changeToken(tx, token.Placement, func(t *tokenRecord) { t.Begun = true })
	})
	return err
}

func (s *Service) claim(ctx context.Context, token *tokenRecord, identity string) error {
	_, err := s.db.Update(ctx, func(tx store.Tx) error {
		all, err := scan[tokenRecord](tx, tokenPrefix)
		if err != nil {
			return err
		}
		for _, other := range all {
			switch {
			case other.Placement == token.Placement:
				other.Identity = identity
				if err := save(tx, other.path(), other); err != nil {
					return err
				}
			case other.Identity == identity:
				return fmt.Errorf("a token of the pool %s is the one of %s in the pool %s: two URIs name it", token.Placement.Pool, other.HSM, other.Placement.Pool)
			}
		}
		return nil
	})
	return err
}

var errNoPools = errors.New("no pools are configured (hsm.pools)")

// takeToken takes a token of a pool for an HSM. It is that HSM's until it has been wiped.
func (s *Service) takeToken(tx store.Tx, rec *clusterRecord, h *hsmRecord) (rack.Placement, error) {
	none := kmsapi.Errorf(cloudhsmapi.ServiceFailed, "There is no free HSM of the type %s in the Availability Zone %s.", h.Type, h.Zone)
	if s.pools == nil {
		return rack.Placement{}, none.Because(errNoPools)
	}
	taken, err := takenTokens(tx)
	if err != nil {
		return rack.Placement{}, err
	}
	at, err := s.pools.Choose(h.Zone, h.Type, taken)
	if err != nil {
		return at, none.Because(err)
	}
	token := &tokenRecord{Placement: at, Cluster: rec.path(), HSM: h.ID}
	if token.PINs, err = s.sealPINs(at, rack.PINs{SO: randomPIN(), User: randomPIN()}); err != nil {
		return at, err
	}
	return at, save(tx, token.path(), token)
}

// takenTokens are those that are not free, in all pools.
func takenTokens(r store.Reader) ([]rack.Placement, error) {
	all, err := scan[tokenRecord](r, tokenPrefix)
	taken := make([]rack.Placement, 0, len(all))
	for _, t := range all {
		taken = append(taken, t.Placement)
	}
	return taken, err
}

// pinPurpose says what is sealed.
const pinPurpose = "cloudhsm token pins"

// sealedPINs are PINs as they are sealed.
type sealedPINs struct{ SO, User string }

func (s *Service) sealPINs(at rack.Placement, pins rack.PINs) ([]byte, error) {
	text, err := json.Marshal(sealedPINs{SO: pins.SO.Reveal(), User: pins.User.Reveal()})
	if err != nil {
		return nil, errors.New("writing the PINs of a token failed")
	}
	return s.sealer.Seal(pinPurpose, tokenPath(at), text)
}

func (s *Service) openPINs(t *tokenRecord) (rack.PINs, error) {
	text, err := s.sealer.Open(pinPurpose, t.path(), t.PINs)
	if err != nil {
		return rack.PINs{}, fmt.Errorf("opening the PINs of a token of the pool %s: %w", t.Placement.Pool, err)
	}
	var pins sealedPINs
	if err := json.Unmarshal(text, &pins); err != nil {
		return rack.PINs{}, errors.New("the PINs of a token cannot be read")
	}
	return rack.PINs{SO: secret.NewText(pins.SO), User: secret.NewText(pins.User)}, nil
}

// randomPIN has 32 letters and digits of 5 bits each: PKCS#11 leaves it to tokens how long a
// PIN may be, and all that are known take so many.
func randomPIN() secret.Text { return secret.NewText(randomText(32)) }

func (c *call) deleteHsm(ctx context.Context, in *cloudhsmapi.DeleteHsmRequest) (*cloudhsmapi.DeleteHsmResponse, error) {
	var id string
	_, err := c.change(ctx, in.ClusterID, func(_ store.Tx, rec *clusterRecord) error {
		h, err := rec.named(in)
		if err != nil {
			return err
		}
		if h.State == cloudhsmapi.HsmDeleteInProgress {
			return invalid("HSM %s is being deleted already.", h.ID)
		}
		wasActive := h.State == cloudhsmapi.HsmActive
		id, h.State, h.Message = h.ID, cloudhsmapi.HsmDeleteInProgress, ""
		if wasActive {
			rec.wane()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudhsmapi.DeleteHsmResponse{HsmID: id}, nil
}

// named finds the HSM that a request names in one of three ways.
func (c *clusterRecord) named(in *cloudhsmapi.DeleteHsmRequest) (*hsmRecord, error) {
	given := 0
	for _, name := range []string{in.HsmID, in.EniID, in.EniIP} {
		if name != "" {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("Name the HSM by exactly one of HsmId, EniId and EniIp.")
	}
	i := slices.IndexFunc(c.HSMs, func(h hsmRecord) bool {
		return h.ID == in.HsmID || h.ENI == in.EniID || h.IP == in.EniIP
	})
	if i < 0 {
		return nil, kmsapi.Errorf(cloudhsmapi.ResourceNotFound, "Cluster %s has no HSM %s.", c.ID, in.HsmID+in.EniID+in.EniIP)
	}
	return &c.HSMs[i], nil
}

// shown is the HSM as the API describes it.
func (h *hsmRecord) shown(clusterID string) *cloudhsmapi.Hsm {
	return &cloudhsmapi.Hsm{
		AvailabilityZone: h.Zone, ClusterID: clusterID, SubnetID: h.Subnet, EniID: h.ENI, EniIP: h.IP,
		HsmID: h.ID, HsmType: h.Type, State: h.State, StateMessage: cut(h.Message, maxStateMessage),
	}
}
