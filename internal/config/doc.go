// Package config reads the one configuration file of the server and puts the
// server together from it.
//
// [Load] is strict: a setting that is unknown, given twice, of the wrong kind or in
// contradiction to another is an error that names the file, the line and the
// setting, and all such errors are told at once. Relative paths are
// relative to the file. Secrets never stand in the file: it names files,
// whose mode must keep others out, or environment variables.
//
// [Config.Open] is the only place where the parts of a server meet: the
// metadata store, the root key, the kinds of key stores, the domain and HTTP.
// Package kms knows none of these kinds; they are named here.
package config
