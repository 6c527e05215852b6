package trail

import "bytes"

// Forge makes an entry behind the last one of a segment, as somebody can who
// has no key.
func Forge(segment []byte, object string) string {
	text := bytes.TrimSuffix(segment, []byte("\n"))
	last, err := parseEntry(text[bytes.LastIndexByte(text, '\n')+1:])
	if err != nil {
		panic(err)
	}
	c := chain{position: last.position}
	return string(c.append(nil, []byte(object)))
}

// Rechain computes all hashes and sequence numbers of a segment anew, as somebody
// can who has no key.
func Rechain(segment []byte) []byte {
	var out []byte
	var c chain
	for line := range lines(segment) {
		e, err := parseEntry(line)
		if err != nil {
			panic(err)
		}
		if e.is(segmentMember) {
			var s segmentEntry
			if err := e.decode(&s); err != nil {
				panic(err)
			}
			c = s.before()
		}
		before, _, _ := cutLast(e.hashed, sequenceMember)
		out = c.append(out, append(before[:len(before):len(before)], '}'))
	}
	return out
}
