package devmode

import (
	"fmt"
	"path/filepath"

	"kastellan.dev/internal/config"
)

// poolZones are the availability zones, behind the Region's name, in which there are HSMs for clusters that are made
// through the CloudHSM API.
var poolZones = []string{"a", "b", "c"}

// subnetID is the id of the subnet in a zone: the same everywhere, as the credentials are, so that lines can be pasted.
func subnetID(letter string) string { return "subnet-0000de0" + letter }

// addPools declares what clusters are made of: a subnet and a pool of tokens in each zone, and a backup HSM. No token
// is made before it is needed. Pools are called by their zones: a start for another Region leaves the tokens
// of this one alone.
func (s *Server) addPools(hsm *config.HSM, module string) {
	for i, letter := range poolZones {
		zone := s.Region + letter
		hsm.Subnets = append(hsm.Subnets, config.Subnet{
			ID: subnetID(letter), VPC: "vpc-0000de00", AvailabilityZone: zone, CIDR: fmt.Sprintf("10.0.%d.0/24", i+1),
		})
		hsm.Pools = append(hsm.Pools, config.Pool{Name: zone, AvailabilityZone: zone, SoftHSM2: s.madeTokens(module, zone)})
		s.Subnets = append(s.Subnets, subnetID(letter))
	}
	hsm.Vault = &config.Vault{SoftHSM2: s.madeTokens(module, "backup")}
}

func (s *Server) madeTokens(module, pool string) *config.SoftHSM2 {
	return &config.SoftHSM2{Module: module, Directory: s.path(filepath.Join("pools", pool))}
}
