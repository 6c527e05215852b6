package awsjson_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
	"kastellan.dev/internal/secret"
)

// everything has a member of each kind.
type everything struct {
	Text     string              `aws:"Text"`
	Enum     color               `aws:"Enum"`
	Blob     []byte              `aws:"Blob"`
	Secret   secret.Bytes        `aws:"Secret"`
	Password secret.Text         `aws:"Password"`
	Number   *int32              `aws:"Number"`
	Flag     bool                `aws:"Flag"`
	Choice   *bool               `aws:"Choice"`
	At       *kmsapi.Time        `aws:"At"`
	Pairs    map[string]string   `aws:"Pairs"`
	Lists    map[string][]string `aws:"Lists"`
	Texts    []string            `aws:"Texts"`
	Enums    []color             `aws:"Enums"`
	Tags     []kmsapi.Tag        `aws:"Tags"`
	Inner    *inner              `aws:"Inner"`
	Value    inner               `aws:"Value"`
	ABCName  string              `aws:"ABCName"`
}

type inner struct {
	Text string `aws:"Text"`
}

type color string

func (color) Values() []string { return []string{"RED", "GREEN"} }

var secrets = cmp.Options{
	cmp.Comparer(func(a, b secret.Bytes) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b secret.Text) bool { return a.Equal(b) }),
}

func TestDecode(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1537582718431).UTC()
	tests := map[string]struct {
		body string
		want everything
	}{
		"nothing is the empty object":                 {"", everything{}},
		"blanks are the empty object":                 {" \r\n\t", everything{}},
		"the empty object":                            {"{}", everything{}},
		"blanks between everything":                   {" { \"Text\" :\t\"a\" ,\n\"Texts\" : [ \"b\" , \"c\" ] , \"Pairs\" : { \"d\" : \"e\" } } ", everything{Text: "a", Texts: []string{"b", "c"}, Pairs: map[string]string{"d": "e"}}},
		"a string":                                    {`{"Text":"abc"}`, everything{Text: "abc"}},
		"a string with every escape":                  {`{"Text":"\"\\\/\b\f\n\r\té\u20AC\ud83d\ude00é"}`, everything{Text: "\"\\/\b\f\n\r\té€😀é"}},
		"a string that ends in a backslash":           {`{"Text":"a\\","ABCName":"\\\\"}`, everything{Text: `a\`, ABCName: `\\`}},
		"an enumeration":                              {`{"Enum":"GREEN"}`, everything{Enum: "GREEN"}},
		"a blob":                                      {`{"Blob":"AAEC/w=="}`, everything{Blob: []byte{0, 1, 2, 255}}},
		"a blob with escaped slashes":                 {`{"Blob":"AAEC\/w=="}`, everything{Blob: []byte{0, 1, 2, 255}}},
		"secrets":                                     {`{"Secret":"AAEC","Password":"hunter2"}`, everything{Secret: secret.New([]byte{0, 1, 2}), Password: secret.NewText("hunter2")}},
		"the smallest integer":                        {`{"Number":-2147483648}`, everything{Number: new(int32(-2147483648))}},
		"zero is a value":                             {`{"Number":0,"Choice":false}`, everything{Number: new(int32(0)), Choice: new(bool)}},
		"booleans":                                    {`{"Flag":true,"Choice":true}`, everything{Flag: true, Choice: new(true)}},
		"a timestamp":                                 {`{"At":1537582718.431}`, everything{At: &kmsapi.Time{Time: at}}},
		"a timestamp with an exponent":                {`{"At":1.537582718431e9}`, everything{At: &kmsapi.Time{Time: at}}},
		"an empty map and empty lists":                {`{"Pairs":{},"Texts":[],"Tags":[]}`, everything{Pairs: map[string]string{}, Texts: []string{}, Tags: []kmsapi.Tag{}}},
		"numbers and booleans in a map":               {`{"Pairs":{"a":1.50,"b": -2e3 ,"c":true,"d":false}}`, everything{Pairs: map[string]string{"a": "1.50", "b": "-2e3", "c": "true", "d": "false"}}},
		"a map's last duplicate counts":               {`{"Pairs":{"a":"1","a":"2"}}`, everything{Pairs: map[string]string{"a": "2"}}},
		"a map of lists":                              {`{"Lists":{"a":["b","\u0063"],"d":[]}}`, everything{Lists: map[string][]string{"a": {"b", "c"}, "d": {}}}},
		"an empty map of lists":                       {`{"Lists":{}}`, everything{Lists: map[string][]string{}}},
		"enumerations in a list":                      {`{"Enums":["RED","GREEN"]}`, everything{Enums: []color{"RED", "GREEN"}}},
		"structures":                                  {`{"Inner":{"Text":"a"},"Value":{"Text":"b"},"Tags":[{"TagKey":"k","TagValue":""}]}`, everything{Inner: &inner{"a"}, Value: inner{"b"}, Tags: []kmsapi.Tag{{TagKey: "k"}}}},
		"null is absent":                              {`{"Text":null,"Number":null,"Inner":null,"Texts":null,"Pairs":null,"Secret":null}`, everything{}},
		"the last duplicate counts":                   {`{"Text":"a","Number":1,"Text":"b","Number":null}`, everything{Text: "b"}},
		"an earlier duplicate's type does not matter": {`{"Text":1,"Text":"b"}`, everything{Text: "b"}},
		"names are case-sensitive":                    {`{"text":"a","TEXT":1}`, everything{}},
		"names may be escaped":                        {`{"\u0054ext":"a"}`, everything{Text: "a"}},
		"unknown members are ignored":                 {`{"X":{"a":[1,-2.5e+3,true,false,null,"\\"]},"":[],"Text":"a","Y":0}`, everything{Text: "a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got everything
			if err := awsjson.Decode([]byte(test.body), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, secrets); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// canary stands where a value is sent that no error may show.
const canary = "CANARY"

func TestDecodeRefusesWhatIsNotOfTheForm(t *testing.T) {
	t.Parallel()
	const notJSON, notObject = "is not valid JSON", "must be a JSON object"
	tests := map[string]struct{ body, want string }{
		"a string for a body":                {`"CANARY"`, notObject},
		"a list for a body":                  {`[]`, notObject},
		"null for a body":                    {`null`, notObject},
		"a byte order mark":                  {"\ufeff{}", notObject},
		"an object that does not end":        {`{"Text":"CANARY"`, notJSON},
		"only its beginning":                 {`{`, notJSON},
		"two values":                         {`{} {"CANARY":1}`, "more than one"},
		"a comma too many in an object":      {`{"Text":"CANARY",}`, notJSON},
		"a comma too many in a list":         {`{"Texts":["CANARY",]}`, notJSON},
		"a list that does not end":           {`{"Texts":["CANARY"`, notJSON},
		"a list that ends as an object":      {`{"Texts":["CANARY"}`, notJSON},
		"a name without quotes":              {`{CANARY:1}`, notJSON},
		"a name without a value":             {`{"CANARY"}`, notJSON},
		"a name without its end":             {`{"CANARY`, notJSON},
		"a value that is missing":            {`{"CANARY":}`, notJSON},
		"a value that is missing at the end": {`{"CANARY":`, notJSON},
		"single quotes":                      {`{'CANARY':1}`, notJSON},
		"a comment":                          {`{/*CANARY*/}`, notJSON},
		"a word that is none":                {`{"X":CANARY}`, notJSON},
		"a word that is too short":           {`{"X":tru}`, notJSON},
		"a word that is too long":            {`{"X":nullCANARY}`, notJSON},
		"NaN":                                {`{"X":NaN}`, notJSON},
		"a leading zero":                     {`{"X":012}`, notJSON},
		"a leading plus":                     {`{"X":+1}`, notJSON},
		"a lone minus":                       {`{"X":-}`, notJSON},
		"a lone point":                       {`{"X":1.}`, notJSON},
		"a fraction without a whole":         {`{"X":.5}`, notJSON},
		"an exponent that is missing":        {`{"X":1e}`, notJSON},
		"an exponent with two signs":         {`{"X":1e+-1}`, notJSON},
		"hexadecimal":                        {`{"X":0x10}`, notJSON},
		"a control character in a string":    {"{\"X\":\"CANARY\x00\"}", notJSON},
		"a line break in a string":           {"{\"X\":\"CANARY\n\"}", notJSON},
		"an escape that is none":             {`{"X":"CANARY\x41"}`, notJSON},
		"an escape that is cut":              {`{"X":"CANARY\`, notJSON},
		"a unicode escape that is cut":       {`{"X":"\u12"}`, notJSON},
		"a unicode escape with a sign":       {`{"X":"\u+123"}`, notJSON},
		"a first surrogate alone":            {`{"X":"\ud83d"}`, notJSON},
		"a first surrogate before another":   {`{"X":"\ud83d\ud83d"}`, notJSON},
		"a first surrogate before a letter":  {`{"X":"\ud83dA"}`, notJSON},
		"a second surrogate alone":           {`{"X":"\ude00"}`, notJSON},
		"invalid UTF-8 in a value":           {"{\"X\":\"CANARY\xff\"}", "not valid UTF-8"},
		"invalid UTF-8 in a name":            {"{\"\xc0\x80\":1}", "not valid UTF-8"},
		"an encoded surrogate":               {"{\"X\":\"\xed\xa0\x80\"}", "not valid UTF-8"},
		"objects too deep":                   {strings.Repeat(`{"X":`, 33) + "1" + strings.Repeat("}", 33), notJSON},
		"lists too deep":                     {`{"X":` + strings.Repeat("[", 1e6), notJSON},

		"a number for a string":             {`{"Text":4711}`, "The member Text must be a string."},
		"an object for a string":            {`{"Text":{"CANARY":1}}`, "The member Text must be a string."},
		"a boolean for a string":            {`{"Text":true}`, "The member Text must be a string."},
		"a list for a map of lists":         {`{"Lists":["CANARY"]}`, "The member Lists must be an object."},
		"a string in a map of lists":        {`{"Lists":{"a":"CANARY"}}`, "The member Lists must have lists of strings as values."},
		"a number in a list of a map":       {`{"Lists":{"a":["CANARY",5]}}`, "The member Lists must have lists of strings as values."},
		"null in a map of lists":            {`{"Lists":{"CANARY":null}}`, "The member Lists must have lists of strings as values."},
		"a number for an enumeration":       {`{"Enum":4711}`, "The member Enum must be a string."},
		"a number for a secret string":      {`{"Password":4711}`, "The member Password must be a string."},
		"a string for an integer":           {`{"Number":"4711"}`, "The member Number must be an integer"},
		"a fraction for an integer":         {`{"Number":4711.5}`, "The member Number must be an integer"},
		"a fraction of zero for an integer": {`{"Number":4711.0}`, "The member Number must be an integer"},
		"an exponent for an integer":        {`{"Number":4711e1}`, "The member Number must be an integer"},
		"an integer of 33 bits":             {`{"Number":2147483648}`, "The member Number must be an integer"},
		"an integer of many digits":         {`{"Number":` + strings.Repeat("9", 400) + `}`, "The member Number must be an integer"},
		"a string for a boolean":            {`{"Flag":"true"}`, "The member Flag must be true or false."},
		"a number for a boolean":            {`{"Choice":1}`, "The member Choice must be true or false."},
		"a string for a timestamp":          {`{"At":"2024-08-20"}`, "The member At must be a timestamp"},
		"a timestamp before 1970":           {`{"At":-1}`, "The member At must be a timestamp"},
		"a timestamp after 9999":            {`{"At":253402300800}`, "The member At must be a timestamp"},
		"a timestamp beyond all bounds":     {`{"At":1e999}`, "The member At must be a timestamp"},
		"a number for a blob":               {`{"Blob":4711}`, "The member Blob must be a string in base64."},
		"a blob that is not base64":         {`{"Blob":"CANARY!!"}`, "The member Blob must be a string in base64."},
		"a blob without padding":            {`{"Blob":"AAEC/w"}`, "The member Blob must be a string in base64."},
		"a blob in the alphabet of URLs":    {`{"Blob":"AAEC_w=="}`, "The member Blob must be a string in base64."},
		"a blob with stray bits":            {`{"Blob":"AAEC/x=="}`, "The member Blob must be a string in base64."},
		"a blob with a line break":          {`{"Blob":"AAEC\nAAEC"}`, "The member Blob must be a string in base64."},
		"a secret that is not base64":       {`{"Secret":"CANARY!!"}`, "The member Secret must be a string in base64."},
		"a list for a map":                  {`{"Pairs":["CANARY"]}`, "The member Pairs must be an object."},
		"a list in a map":                   {`{"Pairs":{"CANARY":["CANARY"]}}`, "The member Pairs must have strings as values."},
		"null in a map":                     {`{"Pairs":{"CANARY":null}}`, "The member Pairs must have strings as values."},
		"a map in a map":                    {`{"Pairs":{"CANARY":{}}}`, "The member Pairs must have strings as values."},
		"a string for a list":               {`{"Texts":"CANARY"}`, "The member Texts must be a list."},
		"a number in a list of strings":     {`{"Texts":["CANARY",4711]}`, "The member Texts must be a list of strings."},
		"null in a list of strings":         {`{"Texts":[null]}`, "The member Texts must be a list of strings."},
		"a string in a list of structures":  {`{"Tags":["CANARY"]}`, "The member Tags must be a list of objects."},
		"null in a list of structures":      {`{"Tags":[null]}`, "The member Tags must be a list of objects."},
		"a number in a structure in a list": {`{"Tags":[{"TagKey":4711}]}`, "The member TagKey must be a string."},
		"a list for a structure":            {`{"Inner":["CANARY"]}`, "The member Inner must be an object."},
		"a string for a structure":          {`{"Value":"CANARY"}`, "The member Value must be an object."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := awsjson.Decode([]byte(test.body), new(everything))
			if kmsapi.CodeOf(err) != kmsapi.Serialization {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "4711") {
				t.Errorf("error %q shows what was sent", err)
			}
		})
	}
}

func TestTheWrongTypeIsToldBeforeBrokenConstraints(t *testing.T) {
	t.Parallel()
	err := awsjson.Decode([]byte(`{"Plaintext":5}`), new(kmsapi.EncryptRequest)) // and no KeyId
	if kmsapi.CodeOf(err) != kmsapi.Serialization {
		t.Errorf("error %v", err)
	}
}

func TestDeepButNotTooDeep(t *testing.T) {
	t.Parallel()
	body := strings.Repeat(`{"X":[`, 16) + strings.Repeat("]}", 16)
	if err := awsjson.Decode([]byte(body), new(everything)); err != nil {
		t.Error(err)
	}
}

func TestDecodeKeepsNothingOfTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(`{"Text":"abc","Blob":"AAEC","Secret":"AAEC","Password":"abc","Pairs":{"a":"b"},"Texts":["abc"]}`)
	var got, want everything
	if err := awsjson.Decode(body, &got); err != nil {
		t.Fatal(err)
	}
	if err := awsjson.Decode([]byte(string(body)), &want); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if diff := cmp.Diff(want, got, secrets); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeIntoSomethingElseIsTheProgramsError(t *testing.T) {
	t.Parallel()
	for name, into := range map[string]any{
		"a structure":    everything{},
		"nothing":        nil,
		"a nil pointer":  (*everything)(nil),
		"a number":       new(int),
		"a type untaged": new(struct{ X string }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := awsjson.Decode([]byte("{}"), into)
			if e := (*kmsapi.Error)(nil); err == nil || errors.As(err, &e) {
				t.Errorf("error %v", err)
			}
		})
	}
}
