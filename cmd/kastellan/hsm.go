package main

type hsmCmd struct {
	Probe hsmProbeCmd `cmd:"" help:"Find out what can be done with a PKCS#11 module and a token of it. The exit status is 1 if the token cannot be used."`
}
