package monitor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALogKeepsTheNewestWithinItsLimit(t *testing.T) {
	const limit = 4096
	path := filepath.Join(t.TempDir(), "log")
	fd, log, err := pipeToLog(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	into := os.NewFile(uintptr(fd), "pipe")
	for line := range 10_000 {
		if _, err := fmt.Fprintf(into, "line %d\n", line); err != nil {
			t.Fatal(err)
		}
	}
	into.Close()
	log.drain()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > limit || len(text) < limit/2 || !bytes.HasSuffix(text, []byte("line 9998\nline 9999\n")) {
		t.Errorf("%d bytes, ending with %q", len(text), text[max(0, len(text)-40):])
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for at := 2; at < len(lines); at++ {
		var before, here int
		fmt.Sscanf(lines[at-1], "line %d", &before)
		fmt.Sscanf(lines[at], "line %d", &here)
		if here != before+1 {
			t.Fatalf("after %q comes %q", lines[at-1], lines[at])
		}
	}
}

func TestALogOnAFullDiskDoesNotHoldUpWhoeverWrites(t *testing.T) {
	fd, log, err := pipeToLog("/dev/full", 4096)
	if err != nil {
		t.Fatal(err)
	}
	into := os.NewFile(uintptr(fd), "pipe")
	if _, err := into.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	into.Close()
	log.drain()
	select {
	case <-log.drained:
	default:
		t.Error("it still reads")
	}
}
