package config

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"time"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/audit/syslog"
	"kastellan.dev/internal/audit/trail"
)

// Audit says where records go: to all that are named here. At least one of them
// is one that calls depend on.
type Audit struct {
	Directory string `yaml:"directory"` // of the tamper-evident log
	File      string `yaml:"file"`      // of plain lines
	Stdout    bool   `yaml:"stdout"`
	Syslog    Syslog `yaml:"syslog"`

	// Optional names those whose failure is logged and refuses no call: "directory",
	// "file", "stdout", "syslog".
	Optional []string `yaml:"optional"`
	// Sync has the disk take the records of a call before it is answered: those of
	// the directory and of the file.
	Sync bool `yaml:"sync"`

	Segments    Segments    `yaml:"segments"` // of the directory, as the following
	Retention   Retention   `yaml:"retention"`
	Checkpoints Checkpoints `yaml:"checkpoints"`
}

// Syslog says how a syslog server is reached. URL is required if anything is set.
type Syslog struct {
	URL               string        `yaml:"url"`      // "unix:///dev/log", "udp://…", "tcp://…" or "tls://…", with port
	Facility          string        `yaml:"facility"` // empty means authpriv
	Hostname          string        `yaml:"hostname"` // in the messages; empty means this machine's
	CA                string        `yaml:"ca"`       // PEM file; empty means the system's CAs
	ClientCertificate string        `yaml:"client-certificate"`
	ClientKey         string        `yaml:"client-key"`
	Timeout           time.Duration `yaml:"timeout"` // zero means 2 s
}

// Segments says when a file of the directory ends; zero means the default.
type Segments struct {
	MaxBytes int64         `yaml:"max-bytes"` // 64 MiB
	MaxAge   time.Duration `yaml:"max-age"`   // 24 h
}

// Retention says what is kept in the directory; zero means everything.
type Retention struct {
	MaxBytes int64         `yaml:"max-bytes"`
	MaxAge   time.Duration `yaml:"max-age"`
}

// Checkpoints says how often the directory's log is signed; zero means the default.
type Checkpoints struct {
	Records  int           `yaml:"records"`  // 1000
	Interval time.Duration `yaml:"interval"` // 1 min
}

// defaultSegment is the size at which a segment ends by default, in bytes.
const defaultSegment = 64 << 20

// sinks tells which ones there are.
func (a *Audit) sinks() (names []string) {
	for _, s := range []struct {
		name  string
		there bool
	}{{"directory", a.Directory != ""}, {"file", a.File != ""}, {"stdout", a.Stdout}, {"syslog", a.Syslog.URL != ""}} {
		if s.there {
			names = append(names, s.name)
		}
	}
	return names
}

func (c *Config) checkAudit(p *problems) {
	w, a := where{"audit"}, &c.Audit
	there := a.sinks()
	if len(there) == 0 && a.Syslog == (Syslog{}) {
		p.add(w, "needs at least one of directory, file, stdout: true and syslog")
	}
	required := len(there)
	for i, name := range a.Optional {
		switch {
		case !slices.Contains(there, name):
			p.add(w.at("optional", i), "names none of the sinks that are set here: %v", there)
		case slices.Index(a.Optional, name) < i:
			p.add(w.at("optional", i), "is named twice")
		default:
			required--
		}
	}
	if len(there) > 0 && required == 0 {
		p.add(w.at("optional"), "leaves no sink that calls depend on: one at least must be required")
	}
	if a.Sync && a.Directory == "" && a.File == "" {
		p.add(w.at("sync"), "needs directory or file")
	}
	c.checkTrail(p, w)
	c.checkSyslog(p, w.at("syslog"))
}

// checkTrail checks what belongs to the directory.
func (c *Config) checkTrail(p *problems, w where) {
	a := &c.Audit
	for name, set := range map[string]bool{
		"segments": a.Segments != Segments{}, "retention": a.Retention != Retention{}, "checkpoints": a.Checkpoints != Checkpoints{},
	} {
		if set && a.Directory == "" {
			p.add(w.at(name), "needs directory")
		}
	}
	for _, n := range []struct {
		w     where
		value int64
	}{
		{w.at("segments", "max-bytes"), a.Segments.MaxBytes}, {w.at("segments", "max-age"), int64(a.Segments.MaxAge)},
		{w.at("retention", "max-bytes"), a.Retention.MaxBytes}, {w.at("retention", "max-age"), int64(a.Retention.MaxAge)},
		{w.at("checkpoints", "records"), int64(a.Checkpoints.Records)}, {w.at("checkpoints", "interval"), int64(a.Checkpoints.Interval)},
		{w.at("syslog", "timeout"), int64(a.Syslog.Timeout)},
	} {
		if n.value < 0 {
			p.add(n.w, "is negative")
		}
	}
	segment := a.Segments.MaxBytes
	if segment == 0 {
		segment = defaultSegment
	}
	if kept := a.Retention.MaxBytes; kept > 0 && kept < 2*segment {
		p.add(w.at("retention", "max-bytes"), "is less than two segments, which have %d bytes each (segments.max-bytes)", segment)
	}
}

func (c *Config) checkSyslog(p *problems, w where) {
	s := &c.Audit.Syslog
	if *s == (Syslog{}) || !p.need(w.at("url"), s.URL) {
		return
	}
	if err := syslog.Check(s.URL); err != nil {
		p.check(w.at("url"), err)
		return
	}
	if !syslog.Answers(s.URL) && !slices.Contains(c.Audit.Optional, "syslog") {
		p.add(w.at("url"), "is of UDP, which does not tell whether a record arrives: say optional: [syslog], or take tcp or tls")
	}
	if s.Facility != "" && !slices.Contains(syslog.Facilities, s.Facility) {
		p.add(w.at("facility"), "is not one of %v", syslog.Facilities)
	}
	for name, value := range map[string]string{"ca": s.CA, "client-certificate": s.ClientCertificate, "client-key": s.ClientKey} {
		if value != "" && !syslog.Secure(s.URL) {
			p.add(w.at(name), "needs a URL of tls")
		}
	}
	_, err := c.syslogTLS()
	p.check(w, err)
}

// syslogTLS is nil without TLS.
func (c *Config) syslogTLS() (*tls.Config, error) {
	s := &c.Audit.Syslog
	if !syslog.Secure(s.URL) {
		return nil, nil
	}
	out := new(tls.Config)
	var err error
	if s.CA != "" {
		if out.RootCAs, err = readPool(c.path(s.CA)); err != nil {
			return nil, err
		}
	}
	if (s.ClientCertificate == "") != (s.ClientKey == "") {
		return nil, fmt.Errorf("needs client-certificate and client-key, or neither")
	}
	if s.ClientKey == "" {
		return out, nil
	}
	certificate, key := c.path(s.ClientCertificate), c.path(s.ClientKey)
	if err := checkKeyPair(certificate, key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	out.Certificates = []tls.Certificate{pair}
	return out, plain(err)
}

// AuditDirectory is where the tamper-evident log is; empty if there is none.
func (c *Config) AuditDirectory() string { return c.path(c.Audit.Directory) }

// AuditFile is where the plain log is; empty if there is none.
func (c *Config) AuditFile() string { return c.path(c.Audit.File) }

// AuditPublicKey is the key with which the tamper-evident log is verified. It is
// taken from the private half, which nobody can replace who has not the root key.
func (c *Config) AuditPublicKey() (string, error) {
	root, err := c.rootKey()
	if err != nil {
		return "", err
	}
	key, err := trail.LoadKey(c.AuditDirectory(), root.Direct())
	if err != nil {
		return "", plain(err)
	}
	return key.Public(), nil
}

// openAudit opens all sinks.
func (n *Node) openAudit(o Options) (audit.Writer, error) {
	if o.Audit != nil {
		return o.Audit, nil
	}
	var sinks []audit.Sink
	for _, name := range n.cfg.Audit.sinks() {
		sink, err := n.openSink(name)
		if err != nil {
			_ = audit.NewLog(sinks...).Close()
			return nil, err
		}
		if slices.Contains(n.cfg.Audit.Optional, name) {
			sink = audit.Optional(name, sink, n.log)
		}
		sinks = append(sinks, sink)
	}
	log := audit.NewLog(sinks...)
	n.later(func() {
		if err := log.Close(); err != nil {
			n.log.Error("closing the audit log failed", "error", err)
		}
	})
	return log, nil
}

func (n *Node) openSink(name string) (audit.Sink, error) {
	c, a := n.cfg, &n.cfg.Audit
	switch name {
	case "directory":
		return n.openTrail()
	case "file":
		return audit.OpenLines(c.AuditFile(), a.Sync)
	case "stdout":
		return audit.NewLines(os.Stdout), nil
	}
	secure, err := c.syslogTLS()
	if err != nil {
		return nil, fmt.Errorf("audit.syslog: %w", err)
	}
	return syslog.New(syslog.Config{URL: a.Syslog.URL, Facility: a.Syslog.Facility, Hostname: a.Syslog.Hostname, TLS: secure, Timeout: a.Syslog.Timeout})
}

func (n *Node) openTrail() (audit.Sink, error) {
	a := &n.cfg.Audit
	root, err := n.cfg.rootKey()
	if err != nil {
		return nil, fmt.Errorf("reading the root key: %w", err)
	}
	directory := n.cfg.AuditDirectory()
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the audit log: %w", plain(err))
	}
	key, err := trail.LoadOrMakeKey(directory, root.Direct())
	if err != nil {
		return nil, err
	}
	return trail.Open(trail.Config{
		Directory: directory, Key: key, Sync: a.Sync, Logger: n.log,
		SegmentBytes: a.Segments.MaxBytes, SegmentAge: a.Segments.MaxAge,
		RetainBytes: a.Retention.MaxBytes, RetainAge: a.Retention.MaxAge,
		CheckpointRecords: a.Checkpoints.Records, CheckpointInterval: a.Checkpoints.Interval,
	})
}
