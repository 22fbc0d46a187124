package machine

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pyro.dev/agent/internal/goldentest"
)

const uuid = "51b258d5-bca4-492f-9c99-24ccdbf58cac"

func TestMessagesAreThoseOfTheProtocol(t *testing.T) {
	goldentest.Decodes[Config](t, "machine-config", "agent.protocol is a number")
	goldentest.Decodes[Filesystem](t, "machine-filesystem")
}

func line(letter string) string { return "PYRO " + strings.Repeat(letter, 32) + "\n" }

// hostPort answers reads as a port does: in pieces, and with an end whenever nobody is connected.
type hostPort struct{ pieces []string }

func (h *hostPort) Read(p []byte) (int, error) {
	if len(h.pieces) == 0 {
		return 0, io.ErrClosedPipe
	}
	if h.pieces[0] == "" {
		h.pieces = h.pieces[1:]
		return 0, io.EOF
	}
	n := copy(p, h.pieces[0])
	if h.pieces[0] = h.pieces[0][n:]; h.pieces[0] == "" {
		h.pieces = h.pieces[1:]
	}
	return n, nil
}

func TestAPortWaitsForItsEngineAndDropsWhatWasMeantForAnother(t *testing.T) {
	rest := "frames of the new session"
	port := &hostPort{pieces: []string{"", "", "half an old fr", "", "ame PYRO ", "not it\n", line("a")[:7], line("a")[7:] + rest}}
	got, err := awaitResync(port)
	if err != nil || string(got) != line("a") {
		t.Fatalf("got %q, %v", got, err)
	}
	left, err := io.ReadAll(port)
	if !errors.Is(err, io.ErrClosedPipe) || string(left) != rest {
		t.Errorf("left %q, %v", left, err)
	}
}

func TestWhatWasReadAheadComesFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "port")
	if err := os.WriteFile(path, []byte("then"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	conn := &portConn{File: file, ahead: []byte("first ")}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "first then" {
		t.Errorf("got %q, %v", text, err)
	}
}

// disk writes the part of an ext4 filesystem that says which one it is.
func disk(t *testing.T, size int, magic []byte, id string) string {
	t.Helper()
	content := make([]byte, size)
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	if size >= superBlockEnd {
		copy(content[magicOffset:], magic)
		copy(content[uuidOffset:], raw)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADiskThatIsNotTheRecordsIsRefused(t *testing.T) {
	ext4 := []byte{0x53, 0xef}
	if err := verifyFilesystem(disk(t, superBlockEnd, ext4, uuid), uuid); err != nil {
		t.Error(err)
	}
	for name, path := range map[string]string{
		"another filesystem": disk(t, superBlockEnd, ext4, strings.ReplaceAll(uuid, "5", "6")),
		"no filesystem":      disk(t, superBlockEnd, nil, uuid),
		"cut off":            disk(t, 512, nil, uuid),
		"missing":            "/nonexistent",
	} {
		if err := verifyFilesystem(path, uuid); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestEntropyThatIsTooLittleIsRefused(t *testing.T) {
	for _, encoded := range []string{"", "AAAA", "not base64", strings.Repeat("A", 43) + "="} {
		if err := reseed(encoded); (err == nil) != (len(encoded) == 44) {
			t.Errorf("%q: %v", encoded, err)
		}
	}
}

func TestAConnectionThatIsThereIsUsedOnce(t *testing.T) {
	first := &portConn{ahead: []byte("x")}
	dial := startingWith(first, func() (net.Conn, error) { return nil, io.EOF })
	if conn, err := dial(); conn != first || err != nil {
		t.Errorf("got %v, %v", conn, err)
	}
	if _, err := dial(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}
