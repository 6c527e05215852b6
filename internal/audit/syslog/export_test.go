package syslog

// Lost tells whether a sink has noticed that its connection has ended.
func Lost(s *Sink) bool { return s.conn.lost() }
