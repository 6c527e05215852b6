package clients_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kastellan.dev/internal/kastellantest"
)

// program finds a program, or skips the test where it is not installed.
func program(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("KASTELLAN_REQUIRE_"+strings.ToUpper(name)) != "" {
			t.Fatal(err)
		}
		t.Skip(name + " is not installed")
	}
}

// TestJavaScript runs the official SDK and the AWS Encryption SDK for JavaScript.
func TestJavaScript(t *testing.T) {
	program(t, "node")
	if _, err := os.Stat("js/node_modules"); err != nil {
		if os.Getenv("KASTELLAN_REQUIRE_NODE") != "" {
			t.Fatal(err)
		}
		t.Skip("its packages are not installed: npm ci in clients/js")
	}
	start(t)
	out, err := exec.CommandContext(t.Context(), "node", "js/story.mjs").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "all of it works\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// cli runs the AWS CLI and gives what it prints.
func cli(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "aws", append([]string{"kms"}, args...)...)
	cmd.Env = append(os.Environ(), "AWS_MAX_ATTEMPTS=1", "AWS_CLI_AUTO_PROMPT=off")
	b, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

// TestAWSCLI goes through a day of an administrator's with the command line.
func TestAWSCLI(t *testing.T) {
	program(t, "aws")
	s := start(t)
	// Versions before 1.29 and 2.13 do not read AWS_ENDPOINT_URL.
	endpoint := []string{"--endpoint-url", s.Endpoint, "--output", "json"}
	run := func(args ...string) map[string]any {
		t.Helper()
		out, err := cli(t, append(args, endpoint...)...)
		if err != nil {
			t.Fatalf("aws kms %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		answer := map[string]any{}
		if out != "" {
			if err := json.Unmarshal([]byte(out), &answer); err != nil {
				t.Fatalf("aws kms %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		return answer
	}
	fails := func(code string, args ...string) {
		t.Helper()
		if out, err := cli(t, append(args, endpoint...)...); err == nil || !strings.Contains(out, "("+code+")") {
			t.Errorf("aws kms %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	metadata := run("create-key", "--description", "day", "--tags", "TagKey=a,TagValue=b")["KeyMetadata"].(map[string]any)
	id := metadata["KeyId"].(string)
	run("create-alias", "--alias-name", "alias/day", "--target-key-id", id)
	sealed := run("encrypt", "--key-id", "alias/day", "--plaintext", "fileb://"+file("plain", "the day"), "--encryption-context", "a=b")
	blob, err := base64.StdEncoding.DecodeString(sealed["CiphertextBlob"].(string))
	if err != nil {
		t.Fatal(err)
	}
	opened := run("decrypt", "--ciphertext-blob", "fileb://"+file("sealed", string(blob)), "--encryption-context", "a=b")
	if opened["Plaintext"] != base64.StdEncoding.EncodeToString([]byte("the day")) || opened["KeyId"] != metadata["Arn"] {
		t.Errorf("%v", opened)
	}
	fails("InvalidCiphertextException", "decrypt", "--ciphertext-blob", "fileb://"+file("again", string(blob)))
	if tags := run("list-resource-tags", "--key-id", id)["Tags"].([]any); len(tags) != 1 {
		t.Errorf("%v", tags)
	}
	grant := run("create-grant", "--key-id", id, "--grantee-principal", "arn:aws:iam::"+kastellantest.Account+":role/app", "--operations", "Decrypt", "Encrypt")
	if grants := run("list-grants", "--key-id", id)["Grants"].([]any); len(grants) != 1 || grants[0].(map[string]any)["GrantId"] != grant["GrantId"] {
		t.Errorf("%v", grants)
	}
	run("retire-grant", "--grant-token", grant["GrantToken"].(string))
	run("enable-key-rotation", "--key-id", id) // of periods Debian's version knows nothing
	if status := run("get-key-rotation-status", "--key-id", id); status["KeyRotationEnabled"] != true {
		t.Errorf("%v", status)
	}
	if use := run("describe-key", "--key-id", "alias/day")["KeyMetadata"].(map[string]any); use["KeyState"] != "Enabled" {
		t.Errorf("%v", use)
	}
	run("put-key-policy", "--key-id", id, "--policy-name", "default", "--policy", run("get-key-policy", "--key-id", id, "--policy-name", "default")["Policy"].(string))
	run("schedule-key-deletion", "--key-id", id, "--pending-window-in-days", "7")
	fails("KMSInvalidStateException", "encrypt", "--key-id", "alias/day", "--plaintext", "fileb://"+file("more", "x"))
	run("cancel-key-deletion", "--key-id", id)
	run("delete-alias", "--alias-name", "alias/day")
	fails("NotFoundException", "describe-key", "--key-id", "alias/day")
}
