// Package rules holds tests only: what is true of the whole house and of no
// single package. Imports go one way, every package and every exported name says
// what it is, files stay small, tests do not sleep, packages do not print, and
// nothing is put off or names a registry. Secrets are given to no log and to no
// text, as far as types and names tell (secrets_test.go), and are in no log, no
// record, no message and no file of a server that was given some
// (markers_test.go).
//
// A rule that cannot fail is none: each has planted files that break it.
package rules
