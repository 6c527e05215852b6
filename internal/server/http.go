package server

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"net/netip"
	"slices"
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
	case path == "/metrics" && s.maySeeMetrics(r):
		s.serveGet(w, r, s.metrics.ServeHTTP)
	case s.cfg.Console != nil && (path == "/console" || strings.HasPrefix(path, "/console/")):
		s.cfg.Console.ServeHTTP(w, r)
	default:
		refuse(w, http.StatusNotFound, "")
	}
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	form := s.protocolOf(r)
	switch {
	case form != nil:
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "")
		return
	default:
		refuse(w, http.StatusNotFound, "The Content-Type of a request is application/x-amz-json-1.1.")
		return
	}
	x := exchange{s: s, w: w, r: r, id: newRequestID(), began: time.Now(), scratch: scratches.Get().(*scratch), protocol: form}
	defer x.scratch.release()
	defer x.body.release()
	defer s.open.Add(-1)
	x.serve()
}

// maySeeMetrics is for this machine and those whom the configuration names:
// metrics tell which key stores there are and how much they are used.
func (s *Server) maySeeMetrics(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr == "@" || r.RemoteAddr == "" // a Unix socket's
	}
	ip := at.Addr().Unmap().WithZone("")
	return ip.IsLoopback() || slices.ContainsFunc(s.cfg.MetricsFrom, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "")
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
func refuse(w http.ResponseWriter, status int, text string) {
	write(w, newRequestID(), status, jsonType, awsjson.AppendError(nil, kmsapi.Errorf(kmsapi.UnknownOperation, "%s", text)))
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
