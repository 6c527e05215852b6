package server

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"time"

	"kastellan.dev/internal/awsjson"
	"kastellan.dev/internal/kmsapi"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/":
		s.serveAPI(w, r)
	case path == "/healthz":
		s.serveGet(w, r, s.serveHealth)
	case path == "/metrics":
		s.serveGet(w, r, s.metrics.ServeHTTP)
	case s.cfg.Console != nil && (path == "/console" || strings.HasPrefix(path, "/console/")):
		s.cfg.Console.ServeHTTP(w, r)
	default:
		refuse(w, http.StatusNotFound)
	}
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	x := exchange{s: s, w: w, r: r, id: newRequestID(), began: time.Now(), scratch: scratches.Get().(*scratch)}
	defer x.scratch.release()
	x.serve()
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	serve(w, r)
}

// serveHealth says no more than whether requests should be sent here.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header()["Cache-Control"] = noStore
	if s.stopping.Load() || s.cfg.Ready != nil && !s.cfg.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "unavailable\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// refuse answers what is not a request to an API in the form that one would expect.
func refuse(w http.ResponseWriter, status int) {
	write(w, newRequestID(), status, awsjson.AppendError(nil, kmsapi.Errorf(kmsapi.UnknownOperation, "")))
}

// newRequestID makes a random UUID.
func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:], id[0:4])
	hex.Encode(text[9:], id[4:6])
	hex.Encode(text[14:], id[6:8])
	hex.Encode(text[19:], id[8:10])
	hex.Encode(text[24:], id[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
