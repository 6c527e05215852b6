package policy

import "slices"

// statement is one compiled statement. Where it stands in a Document's index
// tells its Action.
type statement struct {
	effect     Effect
	principals *principals // nil: whoever the document is attached to
	resources  resources
	conditions []condition

	// Of those that stand among the others: patterns in lower case, with their
	// wildcards compiled.
	actions    []string
	notActions bool
}

// resources is a compiled Resource or NotResource.
type resources struct {
	not, all bool // all: whatever it is
	patterns []pattern
}

// add compiles a statement that is well formed and puts it in the index.
func (d *Document) add(source *sourceStatement, rules *rules) (err error) {
	s := &statement{effect: source.effect}
	variables := d.Version == Version2012
	if source.principal != nil {
		if s.principals, err = compilePrincipals(source.principal); err != nil {
			return err
		}
	}
	if s.resources, err = compileResources(source.resource, rules, variables); err != nil {
		return err
	}
	for i := range source.conditions {
		c, err := compileCondition(&source.conditions[i], variables)
		if err != nil {
			return err
		}
		s.conditions = append(s.conditions, c)
	}
	if source.action != nil && (s.resources.all || s.resources.patterns != nil) {
		d.index(s, source.action)
	}
	return nil
}

func compileResources(source *sourceList, rules *rules, variables bool) (r resources, err error) {
	if source == nil {
		return resources{all: !rules.resources}, nil
	}
	if !source.not && slices.Contains(source.patterns, "*") {
		return resources{all: true}, nil
	}
	r.not = source.not
	for _, text := range source.patterns {
		p, err := dialect{wildcards: true, variables: variables}.compile(text)
		if err != nil {
			return r, err
		}
		r.patterns = append(r.patterns, p)
	}
	return r, nil
}

// index files a statement under its actions. If some have wildcards, it is also
// one of the others, with those.
func (d *Document) index(s *statement, actions *sourceList) {
	for _, text := range actions.patterns {
		action := dialect{wildcards: true}.literal(lower(text))
		if actions.not || action != lower(text) {
			s.actions = append(s.actions, action)
			continue
		}
		d.exact[action] = append(d.exact[action], s)
	}
	if s.notActions = actions.not; s.actions != nil {
		d.others = append(d.others, s)
	}
}

// ask gives the document's verdict on a request, whose action is given in lower case,
// and whose subject may be bounded by a permissions boundary.
func (d *Document) ask(r *Request, action []byte, bounded bool) verdict {
	if d == nil {
		return silent
	}
	v := silent
	for _, s := range d.exact[string(action)] {
		if v = max(v, s.ask(r, v, bounded)); v == denied {
			return v
		}
	}
	for _, s := range d.others {
		if !s.isAbout(action) {
			continue
		}
		if v = max(v, s.ask(r, v, bounded)); v == denied {
			return v
		}
	}
	return v
}

// askAll gives the verdict of several documents.
func askAll(docs []*Document, r *Request, action []byte) verdict {
	v := silent
	for _, d := range docs {
		v = max(v, d.ask(r, action, false))
	}
	return v
}

func (s *statement) isAbout(action []byte) bool {
	for _, p := range s.actions {
		if wildcardMatch(p, action) {
			return !s.notActions
		}
	}
	return s.notActions
}

// ask gives the statement's verdict on a request that it is about. It takes no
// trouble over an Allow that would say no more than what is known already.
func (s *statement) ask(r *Request, known verdict, bounded bool) verdict {
	v := direct
	if s.principals != nil {
		v = s.principals.covers(r.Subject, bounded, s.effect)
	}
	if s.effect == EffectAllow && v <= known || v == silent || !s.resources.cover(r, s.effect) {
		return silent
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Values) {
			return silent
		}
	}
	if s.effect == EffectDeny {
		return denied
	}
	return v
}

// cover tells whether the request's resource is one of those. A pattern whose variables
// have no value is like no resource. What NotResource should leave out is then not
// known: a Deny is about everything and an Allow about nothing.
func (l *resources) cover(r *Request, e Effect) bool {
	if l.all {
		return true
	}
	for i := range l.patterns {
		matches, known := l.patterns[i].matches(r.Resource, r.Values)
		switch {
		case matches:
			return !l.not
		case !known && l.not && e == EffectAllow:
			return false
		}
	}
	return l.not
}
