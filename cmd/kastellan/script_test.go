package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	testscript.Main(m, map[string]func(){"kastellan": main})
}

// TestScripts runs the program as people do. Conditions: [softhsm] is true where HSM
// key stores work, [awscli] where the AWS CLI is installed.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			switch name {
			case "softhsm":
				_, err := os.Stat("/usr/lib/softhsm/libsofthsm2.so")
				return err == nil && pkcs11.Available(), nil
			case "awscli":
				return exec.Command("aws", "--version").Run() == nil, nil
			}
			return false, os.ErrInvalid
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await, "freeport": freePort, "expand": expand, "paste": paste,
		},
	})
}
