package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"kastellan.dev/internal/store"
	"kastellan.dev/internal/store/bolt"
)

const killedStore = "KASTELLAN_TEST_KILLED_STORE" // the path; set in the child only

func TestMain(m *testing.M) {
	if path := os.Getenv(killedStore); path != "" {
		writeForEver(path)
	}
	os.Exit(m.Run())
}

// writeForEver commits from several goroutines and acknowledges each commit on
// standard output, until the process is killed.
func writeForEver(path string) {
	s, err := bolt.Open(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for worker := range 4 {
		go func() {
			for n := 1; ; n++ {
				_, err := s.Update(context.Background(), func(tx store.Tx) error {
					for _, half := range []string{"left", "right"} { // never one without the other
						if err := tx.Put(fmt.Sprintf("%s/%d", half, worker), []byte(strconv.Itoa(n))); err != nil {
							return err
						}
					}
					return tx.Put(fmt.Sprintf("all/%d/%d", worker, n), make([]byte, 100*(n%50)))
				})
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println(worker, n)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestEveryAcknowledgedCommitSurvivesKill(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if err := create(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		acknowledged := writeAndKill(t, path, 50+37*round)
		s := open(t, path)
		for worker, n := range acknowledged {
			checkSurvivor(t, s, worker, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeAndKill kills the writing process after some commits, in the middle of
// others, and gives the last acknowledged number of each of its workers.
func writeAndKill(t *testing.T, path string, commits int) map[int]int {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), killedStore+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := make(map[int]int)
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ { // also what was still in the pipe at the kill
		var worker, n int
		if _, err := fmt.Sscan(lines.Text(), &worker, &n); err != nil {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Errorf("the writing process says: %s", lines.Text())
			}
			continue // a line that the kill cut short
		}
		acknowledged[worker] = n
		if i == commits {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed: an error in any case
	if len(acknowledged) == 0 {
		t.Fatal("the writing process acknowledged nothing")
	}
	return acknowledged
}

func checkSurvivor(t *testing.T, s store.Store, worker, acknowledged int) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		left, _, err := r.Get(fmt.Sprintf("left/%d", worker))
		if err != nil {
			return err
		}
		right, _, err := r.Get(fmt.Sprintf("right/%d", worker))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(left))
		if err != nil || n < acknowledged || string(left) != string(right) {
			t.Errorf("worker %d acknowledged %d; the file has %q and %q (%v)", worker, acknowledged, left, right, err)
		}
		for i := 1; i <= acknowledged; i++ {
			if v, ok, err := r.Get(fmt.Sprintf("all/%d/%d", worker, i)); err != nil || !ok || len(v) != 100*(i%50) {
				t.Errorf("commit %d of worker %d is gone (there: %v, %d bytes, %v)", i, worker, ok, len(v), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
