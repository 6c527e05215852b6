package hsm

// What the tests of the formats need.
var (
	AppendBody = appendBody
	ParseBody  = parseBody
)

// ReencodeMaterial parses a key's record and encodes it again.
func ReencodeMaterial(data []byte) ([]byte, error) {
	m, err := parseMaterial(data)
	if err != nil {
		return nil, err
	}
	return m.encode()
}
