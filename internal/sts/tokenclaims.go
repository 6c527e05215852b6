package sts

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/stsapi"
)

// tokenClaims are what an OpenID Connect token says.
type tokenClaims map[string]json.RawMessage

// The claims by which an identity provider gives a session tags and a source
// identity, as one object or one claim for each part.
const (
	tagsClaim       = "https://aws.amazon.com/tags"
	sourceClaim     = "https://aws.amazon.com/source_identity"
	principalPrefix = tagsClaim + "/principal_tags/"
	transitiveClaim = tagsClaim + "/transitive_tag_keys"
)

// texts gives the values of a claim that is a text, a number, a Boolean or a list of such.
func (c tokenClaims) texts(name string) ([]string, bool) {
	raw, ok := c[name]
	if !ok {
		return nil, false
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		list = []json.RawMessage{raw}
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := scalar(item)
		if !ok {
			return nil, false
		}
		out = append(out, text)
	}
	return out, true
}

func scalar(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil && raw[0] == '"' {
		return text, true
	}
	var flag bool
	if json.Unmarshal(raw, &flag) == nil && raw[0] != 'n' {
		return strconv.FormatBool(flag), true
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil && raw[0] != 'n' {
		return number.String(), true
	}
	return "", false
}

var (
	tagText    = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
	sourceText = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

func rejected(format string, args ...any) error {
	return kmsapi.Errorf(stsapi.IDPRejectedClaim, format, args...)
}

// sourceIdentity is the one that the token gives; empty if it gives none.
func (c tokenClaims) sourceIdentity() (string, error) {
	given, ok := c.texts(sourceClaim)
	if _, there := c[sourceClaim]; !there {
		return "", nil
	}
	if !ok || len(given) != 1 || !sourceText.MatchString(given[0]) {
		return "", rejected("The source identity in the token is not 2 to 64 letters, digits or _ + = , . @ -")
	}
	return given[0], nil
}

// sessionTags are the tags that the token gives, and which of their keys are transitive.
func (c tokenClaims) sessionTags() (tags map[string]string, transitive []string, err error) {
	lists := make(map[string]json.RawMessage)
	var keys json.RawMessage
	if raw, ok := c[tagsClaim]; ok {
		var object struct {
			Tags       map[string]json.RawMessage `json:"principal_tags"`
			Transitive json.RawMessage            `json:"transitive_tag_keys"`
		}
		if json.Unmarshal(raw, &object) != nil {
			return nil, nil, rejected("The tags in the token are not an object as it should be.")
		}
		keys = object.Transitive
		for key, value := range object.Tags {
			lists[key] = value
		}
	}
	for name, raw := range c {
		if key, ok := strings.CutPrefix(name, principalPrefix); ok {
			lists[key] = raw
		}
	}
	if raw, ok := c[transitiveClaim]; ok {
		keys = raw
	}
	if tags, err = tagsIn(lists); err != nil {
		return nil, nil, err
	}
	if keys == nil {
		return tags, nil, nil
	}
	if json.Unmarshal(keys, &transitive) != nil {
		return nil, nil, rejected("The transitive tag keys in the token are not a list of texts.")
	}
	for _, key := range transitive {
		if _, ok := folded(tags, key); !ok {
			return nil, nil, rejected("A transitive tag key in the token is not one of its tags.")
		}
	}
	return tags, transitive, nil
}

// tagsIn reads tags whose values are lists of one text, or texts.
func tagsIn(lists map[string]json.RawMessage) (map[string]string, error) {
	if len(lists) == 0 {
		return nil, nil
	}
	if len(lists) > maxTags {
		return nil, rejected("The token has more than %d tags.", maxTags)
	}
	tags := make(map[string]string, len(lists))
	for key, raw := range lists {
		given, ok := tokenClaims{"": raw}.texts("")
		_, twice := folded(tags, key)
		switch {
		case !ok || len(given) != 1 || twice,
			key == "" || utf8.RuneCountInString(key) > 128 || !tagText.MatchString(key) || strings.HasPrefix(strings.ToLower(key), "aws:"),
			utf8.RuneCountInString(given[0]) > 256 || !tagText.MatchString(given[0]):
			return nil, rejected("A tag in the token is not a key of up to 128 and one value of up to 256 letters, digits, spaces or _ . : / = + - @, or its key is there twice.")
		}
		tags[key] = given[0]
	}
	return tags, nil
}

// algorithms are those that tokens can be signed with: never a shared secret, never none.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
