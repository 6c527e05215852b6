package policy

import (
	"cmp"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func equals(o *operand, text string, values Values) bool {
	if o.pattern.parts == nil {
		return o.pattern.text == text
	}
	var array [variableLength]byte
	expanded, ok := o.pattern.expand(array[:0], values)
	return ok && string(expanded) == text
}

func equalsIgnoreCase(o *operand, text string, values Values) bool {
	if o.pattern.parts == nil {
		return strings.EqualFold(o.pattern.text, text)
	}
	var array [variableLength]byte
	expanded, ok := o.pattern.expand(array[:0], values)
	return ok && strings.EqualFold(string(expanded), text)
}

func like(o *operand, text string, values Values) bool {
	matches, _ := o.pattern.matches(text, values)
	return matches
}

// likeARN compares the six parts of an ARN, each by itself.
func likeARN(o *operand, text string, values Values) bool {
	if o.pattern.parts == nil {
		return matchARN(o.pattern.text, text)
	}
	var array [variableLength]byte
	expanded, ok := o.pattern.expand(array[:0], values)
	return ok && matchARN(expanded, text)
}

// arnParts is how many parts an ARN has; the last may have colons itself.
const arnParts = 6

func matchARN[P string | []byte](pattern P, text string) bool {
	if len(pattern) == 1 && pattern[0] == anyText {
		return strings.HasPrefix(text, "arn:") && strings.Count(text, ":") >= arnParts-1
	}
	for range arnParts - 1 {
		p, t := indexColon(pattern), indexColon(text)
		if p < 0 || t < 0 || !wildcardMatch(pattern[:p], text[:t]) {
			return false
		}
		pattern, text = pattern[p+1:], text[t+1:]
	}
	return wildcardMatch(pattern, text)
}

func indexColon[T string | []byte](text T) int {
	for i := range len(text) {
		if text[i] == ':' {
			return i
		}
	}
	return -1
}

func compareNumbers(accept func(int) bool) func(*operand, string, Values) bool {
	return func(o *operand, text string, _ Values) bool {
		n, ok := parseNumber(text)
		return ok && accept(cmp.Compare(n, o.number))
	}
}

func compareDates(accept func(int) bool) func(*operand, string, Values) bool {
	return func(o *operand, text string, _ Values) bool {
		d, ok := parseDate(text)
		return ok && accept(d.Compare(o.date))
	}
}

func sameTruth(o *operand, text string, _ Values) bool {
	b, ok := parseBool(text)
	return ok && b == o.truth
}

// sameBytes compares base64, which has one form for the same bytes but for its padding bits.
func sameBytes(o *operand, text string, _ Values) bool { return o.pattern.text == text }

func withinNetwork(o *operand, text string, _ Values) bool {
	if len(text) > maxAddress {
		return false
	}
	address, err := netip.ParseAddr(text)
	return err == nil && o.network.Contains(address.Unmap())
}

// maxAddress is the longest text of an IP address, which ends in one of IPv4.
const maxAddress = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")

// parseNetwork reads a range in CIDR notation or a single address.
func parseNetwork(text string) (netip.Prefix, bool) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return p, false
		}
		const mapped = 96 // bits before an IPv4 address within IPv6
		if p.Addr().Is4In6() && p.Bits() >= mapped {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
		}
		return p, true
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

func parseBool(text string) (value, ok bool) {
	switch {
	case strings.EqualFold(text, "true"):
		return true, true
	case strings.EqualFold(text, "false"):
		return false, true
	}
	return false, false
}

// maxNumber is the longest text that is read as a number.
const maxNumber = 64

// parseNumber reads a decimal number.
func parseNumber(text string) (float64, bool) {
	if len(text) > maxNumber || strings.Trim(text, "0123456789+-.eE") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// dateLayouts are the forms of ISO 8601 that the W3C's note on dates has. A
// time without a zone is taken as UTC.
var dateLayouts = [...]string{
	time.RFC3339, // also takes fractions of a second
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05",
	"2006-01-02T15:04",
	time.DateOnly,
	"2006-01",
	"2006",
}

const lettersOfYear = 4

// parseDate reads ISO 8601 or seconds since 1970; four digits are a year.
func parseDate(text string) (time.Time, bool) {
	if seconds, ok := parseNumber(text); ok && (len(text) != lettersOfYear || strings.Trim(text, "0123456789") != "") {
		whole, fraction := math.Modf(seconds)
		if math.Abs(whole) > 1<<40 {
			return time.Time{}, false
		}
		return time.Unix(int64(whole), int64(fraction*float64(time.Second))), true
	}
	for _, layout := range dateLayouts {
		if d, err := time.Parse(layout, text); err == nil {
			return d, true
		}
	}
	return time.Time{}, false
}
