package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"kastellan.dev/internal/pkcs11"
)

func TestMain(m *testing.M) {
	pkcs11.WorkerMain()
	testscript.Main(m, map[string]func(){"kastellan": main})
}

// awsCLI finds the AWS CLI.
var awsCLI = sync.OnceValues(func() (string, error) { return exec.LookPath("aws") })

// readsEndpoint tells whether the AWS CLI reads AWS_ENDPOINT_URL, which counts where it calls a service by
// itself. It is asked on several lines, and the CLI takes a second for an answer.
var readsEndpoint = sync.OnceValue(func() bool {
	aws, err := awsCLI()
	if err != nil {
		return false
	}
	text, err := exec.Command(aws, "--version").Output()
	if err != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(text), "aws-cli/%d.%d", &major, &minor); err != nil {
		return false
	}
	return major == 1 && minor >= 29 || major == 2 && minor >= 13 || major > 2
})

// toldEndpoint is an AWS CLI of which every version asks the server: those before 1.29 and 2.13, Debian's among them, do
// not read the variable and would call AWS.
const toldEndpoint = "#!/bin/sh\nexec %q --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"\n"

// addAWSCLI puts the AWS CLI on the path of a script, where it is installed.
func addAWSCLI(env *testscript.Env) error {
	aws, err := awsCLI()
	if err != nil {
		return nil
	}
	dir := filepath.Join(env.WorkDir, ".bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
	return os.WriteFile(filepath.Join(dir, "aws"), fmt.Appendf(nil, toldEndpoint, aws), 0o700)
}

// TestScripts runs the program as people do. Conditions: [softhsm] is true where HSM
// key stores work, [awscli] where the AWS CLI is installed, [newawscli] where it reads AWS_ENDPOINT_URL.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               addAWSCLI,
		Condition: func(name string) (bool, error) {
			switch name {
			case "softhsm":
				_, err := os.Stat("/usr/lib/softhsm/libsofthsm2.so")
				return err == nil && pkcs11.Available(), nil
			case "awscli":
				_, err := awsCLI()
				if os.Getenv("KASTELLAN_REQUIRE_AWS") != "" {
					return true, err
				}
				return err == nil, nil
			case "newawscli":
				return readsEndpoint(), nil
			}
			return false, os.ErrInvalid
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await, "freeport": freePort, "expand": expand, "paste": paste, "follow": follow,
		},
	})
}
