// Package kmsapi holds the wire types of the AWS KMS API (version 2014-11-01):
// requests, responses, enumerations, ARNs and error codes. It knows neither
// HTTP nor keys, and imports nothing of the project but package secret.
//
// A field's tags state what AWS's model says of the member:
//
//	aws:"Name"            the member's name on the wire, case-sensitive
//	aws:"Name,required"   absent or null is a ValidationException
//	aws:"Name,sensitive"  its value never appears in an error, a log or an audit record
//	aws:"Name,empty"      "" is the same as absent, whatever the other constraints say
//	aws:"Name,always"     written in responses even when it is the zero value
//	len:"min,max"         length of a string (characters) or blob (bytes); either side may be empty;
//	                      of a list or map, the number of elements
//	each:"min,max"        length of every string in a list
//	range:"min,max"       value of an integer
//	pattern:"re"          regular expression, RE2 syntax, that the whole string, or every string in a list, must match
//
// Kinds of members: string, []byte (blob: base64), secret.Bytes (blob that is
// sensitive), secret.Text (string that is sensitive), *int32, *bool or bool,
// Time (epoch seconds), lists, maps of strings or of lists of strings, structures and pointers to them. A type with
// a Values method is an enumeration. Optional string members are plain
// strings: where absent and "" differ in meaning, the minimum length forbids
// "" or the field is a pointer.
package kmsapi

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// Time is a timestamp: epoch seconds with a millisecond fraction on the wire.
type Time struct{ time.Time }

// At makes a Time of t, cut to the millisecond that the wire can carry.
func At(t time.Time) *Time { return &Time{t.Truncate(time.Millisecond)} }

// UnmarshalJSON reads what the wire carries: seconds since 1970, with a fraction.
func (t *Time) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.Abs(seconds) > maxSeconds {
		return errors.New("a time is not a number of seconds")
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}

// maxSeconds is the end of the year 9999.
const maxSeconds = 253402300799
