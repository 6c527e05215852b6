package pkcs11

// Frame makes a whole frame.
func Frame(id uint32, patience uint64, c byte, epoch uint32, numbers []uint64, blobs [][]byte) []byte {
	return appendFrame(nil, id, patience, &message{code: code(c), epoch: epoch, numbers: numbers, blobs: blobs})
}

// ParseFrame reads what follows a frame's size.
func ParseFrame(body []byte) (id uint32, patience uint64, c byte, epoch uint32, numbers []uint64, blobs [][]byte, err error) {
	var m message
	id, patience, err = parseFrame(body, &m)
	return id, patience, byte(m.code), m.epoch, m.numbers, m.blobs, err
}
