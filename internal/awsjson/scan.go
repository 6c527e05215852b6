package awsjson

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how many objects and arrays may stand in each other. The deepest
// request has three.
const maxDepth = 32

// scanner walks over JSON text by the grammar of RFC 8259. Its methods take
// one value and report whether it was well formed.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && isSpace(s.b[s.i]) {
		s.i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// take steps over c if it is next.
func (s *scanner) take(c byte) bool {
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// value steps over a value; depth is how many more may stand in each other.
func (s *scanner) value(depth int) bool {
	if s.i >= len(s.b) {
		return false
	}
	switch s.b[s.i] {
	case '"':
		return s.text()
	case '{':
		return depth > 0 && s.object(depth-1)
	case '[':
		return depth > 0 && s.array(depth-1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) object(depth int) bool {
	s.i++
	s.space()
	if s.take('}') {
		return true
	}
	for {
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != '"' || !s.text() {
			return false
		}
		s.space()
		if !s.take(':') {
			return false
		}
		s.space()
		if !s.value(depth) {
			return false
		}
		s.space()
		if !s.take(',') {
			return s.take('}')
		}
	}
}

func (s *scanner) array(depth int) bool {
	s.i++
	s.space()
	if s.take(']') {
		return true
	}
	for {
		s.space()
		if !s.value(depth) {
			return false
		}
		s.space()
		if !s.take(',') {
			return s.take(']')
		}
	}
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) text() bool {
	s.i++
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c < ' ':
			return false
		case c == '\\':
			if !s.escape() {
				return false
			}
		default:
			s.i++
		}
	}
	return false
}

// escape steps over one escape sequence, or two that make a surrogate pair.
func (s *scanner) escape() bool {
	if s.i+1 >= len(s.b) {
		return false
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return true
	case 'u':
		_, length := unicodeEscape(s.b[s.i:])
		s.i += length
		return length > 0
	default:
		return false
	}
}

// unicodeEscape reads \uXXXX or a surrogate pair of them, and how long it is:
// zero if it is malformed or half a pair.
func unicodeEscape(b []byte) (rune, int) {
	first, ok := unit(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 6
	}
	second, ok := unit(b[6:])
	if !ok {
		return 0, 0
	}
	r := utf16.DecodeRune(first, second)
	if r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

// The functions below read text that a scanner has found well formed.

// after is the index after the value at b[i].
func after(b []byte, i int) int {
	if b[i] == '"' {
		return afterText(b, i)
	}
	s := scanner{b, i}
	s.value(maxDepth)
	return s.i
}

// afterText is the index after the string at b[i].
func afterText(b []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(b[i:], '"')
		slashes := i
		for b[slashes-1] == '\\' {
			slashes--
		}
		if (i-slashes)%2 == 0 {
			return i + 1
		}
	}
}

// members gives the names of the object at b[i] and where their values begin.
func members(b []byte, i int) iter.Seq2[[]byte, int] {
	return func(yield func([]byte, int) bool) {
		s := scanner{b, i + 1}
		for {
			s.space()
			if s.take('}') {
				return
			}
			end := afterText(b, s.i)
			name := unquote(b[s.i+1 : end-1])
			s.i = end
			s.space()
			s.i++ // the colon
			s.space()
			if !yield(name, s.i) {
				return
			}
			s.i = after(b, s.i)
			s.space()
			s.take(',')
		}
	}
}

// elements gives where the elements of the array at b[i] begin.
func elements(b []byte, i int) iter.Seq[int] {
	return func(yield func(int) bool) {
		s := scanner{b, i + 1}
		for {
			s.space()
			if s.take(']') || !yield(s.i) {
				return
			}
			s.i = after(b, s.i)
			s.space()
			s.take(',')
		}
	}
}

// unquote resolves the escapes of a string's inside. Without any, the result
// is a part of the body.
func unquote(inside []byte) []byte {
	slash := bytes.IndexByte(inside, '\\')
	if slash < 0 {
		return inside
	}
	out := make([]byte, 0, len(inside))
	for slash >= 0 {
		out = append(out, inside[:slash]...)
		if inside[slash+1] == 'u' {
			r, length := unicodeEscape(inside[slash:])
			out = utf8.AppendRune(out, r)
			inside = inside[slash+length:]
		} else {
			out = append(out, unescaped(inside[slash+1]))
			inside = inside[slash+2:]
		}
		slash = bytes.IndexByte(inside, '\\')
	}
	return append(out, inside...)
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return c
	}
}
