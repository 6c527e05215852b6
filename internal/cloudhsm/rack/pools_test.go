package rack_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kastellan.dev/internal/cloudhsm/rack"
	"kastellan.dev/internal/pkcs11"
	"kastellan.dev/internal/secret"
)

func declared(label string) rack.DeclaredToken {
	return rack.DeclaredToken{Config: pkcs11.Config{URI: pkcs11.URI{ModulePath: "/lib/p11.so", Token: label}}, PIN: secret.NewText("PIN-OF-IT")}
}

func TestPoolsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := func() rack.Pool {
		return rack.Pool{Name: "a", AvailabilityZone: "z", SoftHSM2: &rack.SoftHSM2{Module: "/lib/soft.so", Directory: "/var/hsm", Tokens: 1}}
	}
	with := func(change func(p *rack.Pool)) []rack.Pool {
		p := good()
		change(&p)
		return []rack.Pool{p}
	}
	second := func(change func(p *rack.Pool)) []rack.Pool {
		p := good()
		p.Name = "b"
		change(&p)
		return append([]rack.Pool{good()}, p)
	}
	token := func(change func(d *rack.DeclaredToken)) []rack.Pool {
		d := declared("x")
		change(&d)
		return with(func(p *rack.Pool) { p.Tokens = []rack.DeclaredToken{d} })
	}
	for name, c := range map[string]struct {
		pools []rack.Pool
		want  string
	}{
		"a pool without a name":                 {with(func(p *rack.Pool) { p.Name = "" }), "name"},
		"a name with a slash":                   {with(func(p *rack.Pool) { p.Name = "a/b" }), "name"},
		"two pools of one name":                 {second(func(p *rack.Pool) { p.Name = "a" }), "two pools"},
		"no zone":                               {with(func(p *rack.Pool) { p.AvailabilityZone = "" }), "zone"},
		"no tokens":                             {with(func(p *rack.Pool) { p.SoftHSM2 = nil }), "no tokens"},
		"a relative module":                     {with(func(p *rack.Pool) { p.SoftHSM2.Module = "soft.so" }), "module"},
		"a relative directory":                  {with(func(p *rack.Pool) { p.SoftHSM2.Directory = "hsm" }), "directory"},
		"the root directory":                    {with(func(p *rack.Pool) { p.SoftHSM2.Directory = "/" }), "directory"},
		"a directory with a comment in it":      {with(func(p *rack.Pool) { p.SoftHSM2.Directory = "/a#b" }), "character"},
		"room for no token":                     {with(func(p *rack.Pool) { p.SoftHSM2.Tokens = 0 }), "not positive"},
		"a negative number of sessions":         {with(func(p *rack.Pool) { p.SoftHSM2.Sessions = -1 }), "negative"},
		"two pools in one directory":            {second(func(*rack.Pool) {}), "another pool's"},
		"a pool within another one's directory": {second(func(p *rack.Pool) { p.SoftHSM2.Directory = "/var/hsm/b" }), "another pool's"},
		"a pool around another one's directory": {second(func(p *rack.Pool) { p.SoftHSM2.Directory = "/var" }), "another pool's"},
		"a token without a module":              {token(func(d *rack.DeclaredToken) { d.Config.URI.ModulePath = "" }), "module-path"},
		"a token that is any":                   {token(func(d *rack.DeclaredToken) { d.Config.URI.Token = "" }), "neither label"},
		"a slot instead of a token": {token(func(d *rack.DeclaredToken) {
			d.Config.URI = pkcs11.URI{SlotID: 1, HasSlotID: true, ModulePath: "/m"}
		}), "slots can change"},
		"an object for a token":  {token(func(d *rack.DeclaredToken) { d.Config.URI.Object = "o" }), "object"},
		"a token without a PIN":  {token(func(d *rack.DeclaredToken) { d.PIN = secret.Text{} }), "one of"},
		"a token with both PINs": {token(func(d *rack.DeclaredToken) { d.SOPIN = d.PIN }), "one of"},
		"a token that is in a pool twice": {with(func(p *rack.Pool) {
			p.Tokens = []rack.DeclaredToken{declared("x"), declared("x")}
		}), "twice"},
		"a token that is in two pools": {append(token(func(*rack.DeclaredToken) {}), rack.Pool{
			Name: "b", AvailabilityZone: "z", Tokens: []rack.DeclaredToken{declared("x")},
		}), "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rack.NewPools(c.pools)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "PIN-OF-IT") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := rack.NewPools(second(func(p *rack.Pool) { p.SoftHSM2.Directory = "/var/hsm-b" })); err != nil {
		t.Errorf("two good pools: %v", err)
	}
}

func TestChooseTakesWhatFitsAndIsFree(t *testing.T) {
	t.Parallel()
	p := newPools(t,
		rack.Pool{Name: "special", AvailabilityZone: "a", HsmTypes: []string{"hsm1.medium"}, Tokens: []rack.DeclaredToken{declared("1")}},
		rack.Pool{Name: "first", AvailabilityZone: "a", Tokens: []rack.DeclaredToken{declared("2"), declared("3")}},
		rack.Pool{Name: "made", AvailabilityZone: "a", SoftHSM2: &rack.SoftHSM2{Module: "/m", Directory: "/d", Tokens: 2}},
		rack.Pool{Name: "else", AvailabilityZone: "b", Tokens: []rack.DeclaredToken{declared("4")}},
	)
	if zones := p.Zones(); !slices.Equal(zones, []string{"a", "b"}) {
		t.Errorf("the zones are %q", zones)
	}
	var taken []rack.Placement
	for _, pool := range []string{"first", "first", "made", "made"} {
		at, err := p.Choose("a", "hsm2m.medium", taken)
		if err != nil || at.Pool != pool || slices.Contains(taken, at) {
			t.Fatalf("%d are taken: %v, %v", len(taken), at, err)
		}
		taken = append(taken, at)
	}
	if taken[0].Token != declared("2").Config.URI.String() {
		t.Errorf("a declared token is called %q", taken[0].Token)
	}
	if _, err := p.Choose("a", "hsm2m.medium", taken); !errors.Is(err, rack.ErrNoToken) {
		t.Errorf("all are taken: %v", err)
	}
	if at, err := p.Choose("a", "hsm1.medium", taken); err != nil || at.Pool != "special" {
		t.Errorf("of a type that one more pool has: %v, %v", at, err)
	}
	if at, err := p.Choose("a", "hsm2m.medium", taken[1:]); err != nil || at != taken[0] {
		t.Errorf("one that became free: %v, %v", at, err)
	}
	if at, err := p.Choose("a", "hsm2m.medium", taken[:3]); err != nil || at.Pool != "made" || at == taken[3] {
		t.Errorf("a made token has the name of one before: %v, %v", at, err)
	}
	if _, err := p.Choose("c", "hsm2m.medium", nil); !errors.Is(err, rack.ErrNoPool) {
		t.Errorf("in a zone without pools: %v", err)
	}
}

// A pool was renamed, or a token was moved to another one, while an HSM has it.
func TestTokenIsTakenWhateverItsPoolIsCalled(t *testing.T) {
	t.Parallel()
	p := newPools(t, rack.Pool{Name: "renamed", AvailabilityZone: "a", Tokens: []rack.DeclaredToken{declared("1"), declared("2")}})
	taken := []rack.Placement{{Pool: "before", Token: declared("1").Config.URI.String()}}
	at, err := p.Choose("a", "hsm2m.medium", taken)
	if err != nil || at.Token != declared("2").Config.URI.String() {
		t.Fatalf("the token of an HSM is given away: %v, %v", at, err)
	}
	if at, err := p.Choose("a", "hsm2m.medium", append(taken, at)); !errors.Is(err, rack.ErrNoToken) {
		t.Errorf("the token of an HSM is given away: %v, %v", at, err)
	}
}

func TestFreeCountsWhatChooseCanGive(t *testing.T) {
	t.Parallel()
	p := newPools(t,
		rack.Pool{Name: "declared", AvailabilityZone: "a", Tokens: []rack.DeclaredToken{declared("1"), declared("2")}},
		rack.Pool{Name: "both", AvailabilityZone: "b", Tokens: []rack.DeclaredToken{declared("3")}, SoftHSM2: &rack.SoftHSM2{Module: "/m", Directory: "/d", Tokens: 2}},
	)
	var taken []rack.Placement
	for left := 3; ; left-- {
		if free := p.Free(taken); free["both"] != left || free["declared"] != 2 || len(free) != 2 {
			t.Errorf("%d are taken: %v", len(taken), free)
		}
		at, err := p.Choose("b", "hsm2m.medium", taken)
		if errors.Is(err, rack.ErrNoToken) {
			break
		}
		taken = append(taken, at)
	}
	if len(taken) != 3 {
		t.Errorf("%d tokens were given", len(taken))
	}
	taken = append(taken, rack.Placement{Pool: "before", Token: declared("1").Config.URI.String()})
	if free := p.Free(taken); free["declared"] != 1 {
		t.Errorf("a token that was taken out of a pool of another name counts as free: %v", free)
	}
}

func TestPlacementsThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	soft := softPool(t, "soft", 1)
	p := newPools(t, soft, rack.Pool{Name: "declared", AvailabilityZone: "a", Tokens: []rack.DeclaredToken{declared("1")}})
	name := choose(t, p).Token
	outside := filepath.Join(filepath.Dir(soft.SoftHSM2.Directory), "outside")
	for _, c := range []struct {
		at   rack.Placement
		want error
	}{
		{rack.Placement{Pool: "gone", Token: name}, rack.ErrNoPool},
		{rack.Placement{Pool: "declared", Token: name}, rack.ErrNoToken},
		{rack.Placement{Pool: "declared", Token: declared("2").Config.URI.String()}, rack.ErrNoToken},
		{rack.Placement{Pool: "soft", Token: "token-../../outside"}, rack.ErrNoToken},
		{rack.Placement{Pool: "soft", Token: "../outside"}, rack.ErrNoToken},
		{rack.Placement{Pool: "soft", Token: ""}, rack.ErrNoToken},
		{rack.Placement{Pool: "soft", Token: name + "a"}, rack.ErrNoToken},
		{rack.Placement{Pool: "soft", Token: strings.ToUpper(name)}, rack.ErrNoToken},
	} {
		_, err := p.Prepare(testContext(t), c.at, "label", pins)
		_, reached := p.Reach(c.at, pins)
		wiped := p.Wipe(testContext(t), c.at, pins)
		if !errors.Is(err, c.want) || !errors.Is(reached, c.want) || !errors.Is(wiped, c.want) {
			t.Errorf("%v: %v, %v, %v", c.at, err, reached, wiped)
		}
	}
	if len(files(t, outside)) > 0 {
		t.Error("something was made outside of the directory")
	}
}
