package server

import (
	"net/http"
	"strconv"
)

// noStore is in every answer.
var noStore = []string{"no-store"}

// write sends an answer whose body is complete. Date is net/http's to add:
// SDKs correct their clocks by it.
func write(w http.ResponseWriter, requestID string, status int, contentType []string, body []byte) {
	h := w.Header()
	h["X-Amzn-Requestid"] = []string{requestID}
	h["Content-Type"] = contentType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone away
}
