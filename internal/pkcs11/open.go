package pkcs11

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// WorkerEnv is the environment variable that makes this program a module's
// child process.
const WorkerEnv = "KASTELLAN_PKCS11_WORKER"

// What Config's zero values mean, and the largest values it takes.
const (
	defaultSessions    = 16
	defaultQueue       = 1024
	defaultCallTimeout = 5 * time.Second
	maxSessions        = 1024
	maxQueue           = 1 << 16
)

// settings are what the engine needs of Config, zero values filled in.
type settings struct {
	sessions, queue int
	timeout         time.Duration
	iv              IVSource
}

func (c *Config) settings() settings {
	s := settings{sessions: c.Sessions, queue: c.Queue, timeout: c.CallTimeout, iv: c.IV}
	if s.sessions == 0 {
		s.sessions = defaultSessions
	}
	if s.queue == 0 {
		s.queue = defaultQueue
	}
	if s.timeout == 0 {
		s.timeout = defaultCallTimeout
	}
	return s
}

// check refuses what cannot work whatever the module.
func (c *Config) check() error {
	switch c.IV {
	case IVByCaller, IVByModule, IVInOutput, IVFromTokenRNG:
	default:
		return fmt.Errorf("pkcs11: unknown source of IVs %q", c.IV)
	}
	switch {
	case c.URI.ModulePath == "":
		return errors.New("pkcs11: the URI has no module-path")
	case c.Sessions < 0 || c.Sessions > maxSessions:
		return fmt.Errorf("pkcs11: the number of sessions is not between 1 and %d", maxSessions)
	case c.Queue < 0 || c.Queue > maxQueue:
		return fmt.Errorf("pkcs11: the length of the queue is not between 1 and %d", maxQueue)
	case c.CallTimeout < 0 || c.CallTimeout > time.Hour:
		return errors.New("pkcs11: the call timeout is not between 0 and 1h")
	}
	return checkEnv(c.Env)
}

func checkEnv(env []string) error {
	for _, entry := range env {
		name, _, ok := strings.Cut(entry, "=")
		switch {
		case !ok || name == "" || strings.ContainsRune(entry, 0):
			return errors.New("pkcs11: an entry of the environment is not NAME=value")
		case name == WorkerEnv:
			return errors.New("pkcs11: the environment of a module cannot have " + WorkerEnv)
		}
	}
	return nil
}
