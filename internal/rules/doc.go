// Package rules holds tests only: what is true of the whole house and of no
// single package. Imports go one way, every package says what it is, files
// stay small, and secrets reach no log, no record, no message and no disk.
package rules
