// Package awsjson speaks AWS JSON 1.1: it decodes request bodies into the
// structures of the API packages, checks the constraints of their tags, and
// encodes responses and errors.
//
// A type is compiled once into a plan (plan.go) by the tag language that
// package kmsapi documents. Decoding has two steps. [Parse] checks that a body
// is a JSON object, which a server does before it knows who asks.
// [Document.Decode] fills a structure and then tells all constraints that do
// not hold at once, in AWS's words.
//
// The package refuses more than encoding/json does, since what it decodes ends
// up in signatures and additional authenticated data, where two readings of
// one body are two answers: invalid UTF-8, unpaired surrogates, null inside
// lists and maps, base64 with line breaks or stray bits. Member names are
// case-sensitive. Of a member given twice the last one counts, null is absent,
// and unknown members are ignored, as AWS has it.
//
// What was sent appears in an error only where AWS echoes it, cut to 1,024
// characters, and never if the member is sensitive or a blob.
package awsjson
