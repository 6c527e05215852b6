package nitrotest

import (
	"errors"
	"fmt"
	"slices"
)

// element is one element of BER: of definite length, or constructed and of
// indefinite length. Tag numbers above 30 are not known here.
type element struct {
	identifier byte
	indefinite bool
	content    []byte    // of a primitive element
	children   []element // of a constructed one
}

const (
	constructedBit = 0x20
	tagNumberBits  = 0x1f
	indefiniteForm = 0x80
	maxDepth       = 16
)

var errTruncated = errors.New("an element is longer than what is there")

// parseBER reads one element that must be all of b.
func parseBER(b []byte) (element, error) {
	e, rest, err := nextElement(b, maxDepth)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow the end", len(rest))
	}
	return e, err
}

func nextElement(b []byte, depth int) (e element, rest []byte, err error) {
	if depth == 0 {
		return element{}, nil, errors.New("elements are nested too deeply")
	}
	if len(b) < 2 {
		return element{}, nil, errTruncated
	}
	e.identifier = b[0]
	if e.identifier&tagNumberBits == tagNumberBits || e.identifier == 0 {
		return element{}, nil, fmt.Errorf("there is an element with the identifier %#x", e.identifier)
	}
	if b[1] == indefiniteForm {
		e.indefinite = true
		e.children, rest, err = untilEnd(b[2:], e.identifier, depth)
		return e, rest, err
	}
	length, b, err := definiteLength(b[1:])
	if err != nil {
		return element{}, nil, err
	}
	if length > len(b) {
		return element{}, nil, errTruncated
	}
	content, rest := b[:length], b[length:]
	if e.identifier&constructedBit == 0 {
		e.content = content
		return e, rest, nil
	}
	for len(content) > 0 {
		var child element
		if child, content, err = nextElement(content, depth-1); err != nil {
			return element{}, nil, err
		}
		e.children = append(e.children, child)
	}
	return e, rest, nil
}

// untilEnd reads elements up to the two octets that end an indefinite length.
func untilEnd(b []byte, identifier byte, depth int) (children []element, rest []byte, err error) {
	if identifier&constructedBit == 0 {
		return nil, nil, errors.New("a primitive element has an indefinite length")
	}
	for {
		if len(b) < 2 {
			return nil, nil, errTruncated
		}
		if b[0] == 0 && b[1] == 0 {
			return children, b[2:], nil
		}
		var child element
		if child, b, err = nextElement(b, depth-1); err != nil {
			return nil, nil, err
		}
		children = append(children, child)
	}
}

// definiteLength reads a length of at most three octets, in the fewest that hold it.
func definiteLength(b []byte) (length int, rest []byte, err error) {
	if b[0] < indefiniteForm {
		return int(b[0]), b[1:], nil
	}
	octets := int(b[0] &^ indefiniteForm)
	if octets > 3 || len(b) < 1+octets {
		return 0, nil, errTruncated
	}
	for _, o := range b[1 : 1+octets] {
		length = length<<8 | int(o)
	}
	if length < indefiniteForm || b[1] == 0 {
		return 0, nil, errors.New("a length has more octets than it needs")
	}
	return length, b[1+octets:], nil
}

// encode is the inverse of parseBER.
func (e element) encode() []byte {
	content := e.content
	for _, child := range e.children {
		content = append(content, child.encode()...)
	}
	if e.indefinite {
		return slices.Concat([]byte{e.identifier, indefiniteForm}, content, []byte{0, 0})
	}
	n := len(content)
	head := []byte{e.identifier}
	switch {
	case n < indefiniteForm:
		head = append(head, byte(n))
	case n < 1<<8:
		head = append(head, indefiniteForm|1, byte(n))
	case n < 1<<16:
		head = append(head, indefiniteForm|2, byte(n>>8), byte(n))
	default:
		head = append(head, indefiniteForm|3, byte(n>>16), byte(n>>8), byte(n))
	}
	return slices.Concat(head, content)
}
