package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	testscript.Main(m, map[string]func(){"kastellan": main})
}

// hasAWSCLI tells whether there is an AWS CLI that reads AWS_ENDPOINT_URL; older ones would call
// AWS. It is asked on many lines, and the CLI takes a second for an answer.
var hasAWSCLI = sync.OnceValue(func() bool {
	text, err := exec.Command("aws", "--version").Output()
	if err != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(text), "aws-cli/%d.%d", &major, &minor); err != nil {
		return false
	}
	return major == 1 && minor >= 29 || major == 2 && minor >= 13 || major > 2
})

// TestScripts runs the program as people do. Conditions: [softhsm] is true where HSM
// key stores work, [awscli] where the AWS CLI is installed and not too old.
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
				return hasAWSCLI(), nil
			}
			return false, os.ErrInvalid
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await, "freeport": freePort, "expand": expand, "paste": paste,
		},
	})
}
