package keyspec

import (
	"crypto/fips140"
	"slices"
	"strings"

	"kastellan.dev/internal/kmsapi"
)

// Spec is a row of the table. Rows are made here only and never change.
type Spec struct {
	Name kmsapi.KeySpec

	family   family
	uses     []use // in the order of kmsapi.KeyUsageType
	wraps    []wrapping
	place    place
	pair     bool // may be the spec of a data key pair
	approved bool // Go's FIPS 140-3 module has it
}

// use is one of the usages of a spec, with the algorithms for it.
type use struct {
	usage         kmsapi.KeyUsageType
	encryption    []kmsapi.EncryptionAlgorithmSpec
	signing       []kmsapi.SigningAlgorithmSpec
	mac           []kmsapi.MacAlgorithmSpec
	agreement     []kmsapi.KeyAgreementAlgorithmSpec
	encapsulation []kmsapi.EncapsulationAlgorithmSpec
}

// wrapping is an algorithm that material may arrive under, and the keys for it.
type wrapping struct {
	algorithm kmsapi.AlgorithmSpec
	keys      []kmsapi.WrappingKeySpec
	place     place
}

// place is a part of the world, of where keys of a spec may be made or wrapped.
type place int

const (
	everywhere place = iota
	chinaOnly
	notChina
)

// has tells whether a Region is there.
func (p place) has(region string) bool {
	china := strings.HasPrefix(region, "cn-")
	return p == everywhere || china == (p == chinaOnly)
}

// family is the cryptography of specs that differ in sizes only.
type family interface {
	// generate makes fresh material.
	generate() ([]byte, error)
	// open reads material of any origin. It does not keep it. Its errors are misfits.
	open(material []byte) (opened, error)
	// openPublic reads a SubjectPublicKeyInfo of any origin. Its errors are misfits.
	openPublic(spki []byte) (opened, error)
	// group is what requests with such keys are counted as.
	group() Group
}

// Group is what AWS's request quotas tell apart.
type Group string

// The groups.
const (
	GroupSymmetric Group = "symmetric" // HMAC keys too
	GroupRSA       Group = "RSA"
	GroupECC       Group = "ECC" // SM2 too
	GroupMLDSA     Group = "ML_DSA"
	GroupMLKEM     Group = "ML_KEM"
)

// Group is the group of the spec's keys.
func (s *Spec) Group() Group { return s.family.group() }

// Of is the row of a key spec, nil if there is none.
func Of(name kmsapi.KeySpec) *Spec { return byName[name] }

// All lists the table in the order in which the API lists key specs.
func All() []*Spec { return slices.Clone(table) }

// AllowedIn tells whether keys of the spec may be made in a Region: SM2 is for
// the Regions in China alone, ML-KEM for all others.
func (s *Spec) AllowedIn(region string) bool { return s.place.has(region) }

// Usages lists what keys of the spec may be used for; a key has one of them.
func (s *Spec) Usages() []kmsapi.KeyUsageType {
	usages := make([]kmsapi.KeyUsageType, len(s.uses))
	for i, u := range s.uses {
		usages[i] = u.usage
	}
	return usages
}

// Allows tells whether a usage is one of the spec's.
func (s *Spec) Allows(u kmsapi.KeyUsageType) bool { return slices.Contains(s.Usages(), u) }

// use is the row of a usage, an empty one if the spec does not allow it.
func (s *Spec) use(u kmsapi.KeyUsageType) use {
	for _, row := range s.uses {
		if row.usage == u {
			return row
		}
	}
	return use{}
}

// EncryptionAlgorithms lists the algorithms of keys with usage u, nil if they do not encrypt.
func (s *Spec) EncryptionAlgorithms(u kmsapi.KeyUsageType) []kmsapi.EncryptionAlgorithmSpec {
	return slices.Clone(s.use(u).encryption)
}

// SigningAlgorithms lists the algorithms of keys with usage u, nil if they do not sign.
func (s *Spec) SigningAlgorithms(u kmsapi.KeyUsageType) []kmsapi.SigningAlgorithmSpec {
	return slices.Clone(s.use(u).signing)
}

// MacAlgorithms lists the algorithms of keys with usage u, nil if they do not make MACs.
func (s *Spec) MacAlgorithms(u kmsapi.KeyUsageType) []kmsapi.MacAlgorithmSpec {
	return slices.Clone(s.use(u).mac)
}

// KeyAgreementAlgorithms lists the algorithms of keys with usage u, nil if they do not agree on secrets.
func (s *Spec) KeyAgreementAlgorithms(u kmsapi.KeyUsageType) []kmsapi.KeyAgreementAlgorithmSpec {
	return slices.Clone(s.use(u).agreement)
}

// EncapsulationAlgorithms lists the algorithms of keys with usage u, nil if they do not encapsulate.
func (s *Spec) EncapsulationAlgorithms(u kmsapi.KeyUsageType) []kmsapi.EncapsulationAlgorithmSpec {
	return slices.Clone(s.use(u).encapsulation)
}

// Symmetric tells whether keys are symmetric encryption keys: SYMMETRIC_DEFAULT.
func (s *Spec) Symmetric() bool { return s.family == symmetricFamily{} }

// HMAC tells whether keys make MACs.
func (s *Spec) HMAC() bool {
	_, ok := s.family.(hmacFamily)
	return ok
}

// Asymmetric tells whether keys have a public half.
func (s *Spec) Asymmetric() bool { return !s.Symmetric() && !s.HMAC() }

// DataKeyPair tells whether the spec may be that of a data key pair.
func (s *Spec) DataKeyPair() bool { return s.pair }

// Importable tells whether keys may have the origin EXTERNAL.
func (s *Spec) Importable() bool { return len(s.wraps) > 0 }

// Wraps tells whether material of the spec may be imported wrapped by alg under
// a key of spec key in a Region: SM2 wraps in China alone. An algorithm that such
// a key does not know never fits.
func (s *Spec) Wraps(alg kmsapi.AlgorithmSpec, key kmsapi.WrappingKeySpec, region string) bool {
	return slices.ContainsFunc(s.wraps, func(w wrapping) bool {
		return w.algorithm == alg && slices.Contains(w.keys, key) && w.place.has(region)
	})
}

// Generate makes fresh key material, in the form that the package comment
// tells. The caller clears it. The error is an UnsupportedOperationException if
// only approved cryptography is allowed and the spec is none of it.
func (s *Spec) Generate() ([]byte, error) {
	if err := s.Permitted(); err != nil {
		return nil, err
	}
	return s.family.generate()
}

// Open reads key material and keeps no part of the slice. Material that is not
// of this very spec is an IncorrectKeyMaterialException, whatever its bytes are.
// Keys of SYMMETRIC_DEFAULT refuse every operation.
func (s *Spec) Open(material []byte) (Key, error) {
	if err := s.Permitted(); err != nil {
		return nil, err
	}
	halves, err := s.family.open(material)
	if err != nil {
		return nil, kmsapi.Errorf(kmsapi.IncorrectKeyMaterial, "The key material does not fit key spec %s: %v.", s.Name, err)
	}
	return &key{publicKey: publicKey{spec: s, spki: halves.spki, public: halves.public}, private: halves.private}, nil
}

// OpenPublic reads a DER SubjectPublicKeyInfo. One that is not of this very
// spec is a ValidationException; specs without public keys have none that fits.
func (s *Spec) OpenPublic(spki []byte) (PublicKey, error) {
	if err := s.Permitted(); err != nil {
		return nil, err
	}
	halves, err := s.family.openPublic(spki)
	if err != nil {
		return nil, kmsapi.Errorf(kmsapi.Validation, "The public key does not fit key spec %s: %v.", s.Name, err)
	}
	return &publicKey{spec: s, spki: halves.spki, public: halves.public}, nil
}

// Permitted refuses a spec that is not approved where only approved ones are, with
// UnsupportedOperationException.
func (s *Spec) Permitted() error {
	if s.approved || !fips140.Enforced() {
		return nil
	}
	return unapproved("Key spec", s.Name)
}
