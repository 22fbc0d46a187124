package machine

import (
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	got, err := awaitResync(port, time.Millisecond)
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

// disk writes the part of an ext4 filesystem that says which one it is, and whose.
func disk(t *testing.T, size int, magic []byte, id, label string) string {
	t.Helper()
	content := make([]byte, size)
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	if size >= superBlockEnd {
		copy(content[magicOffset:], magic)
		copy(content[uuidOffset:], raw)
		copy(content[labelOffset:labelOffset+labelBytes], label)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADiskThatIsNotTheRecordsIsRefused(t *testing.T) {
	ext4 := []byte{0x53, 0xef}
	const label = "ws-abcdefghijklm"
	own := Filesystem{UUID: uuid, Label: label}
	for name, c := range map[string]struct {
		filesystem    Filesystem
		path, problem string
	}{
		"its own":              {own, disk(t, superBlockEnd, ext4, uuid, label), ""},
		"fresh instead of own": {own, disk(t, superBlockEnd, ext4, uuid, ""), `belongs to "" instead of ` + label},
		"another workspace's":  {own, disk(t, superBlockEnd, ext4, uuid, label[:15]), `belongs to "ws-abcdefghijkl" instead`},
		"another filesystem":   {own, disk(t, superBlockEnd, ext4, strings.ReplaceAll(uuid, "5", "6"), label), "holds the filesystem 61b268d6"},
		"no filesystem":        {own, disk(t, superBlockEnd, nil, uuid, label), "no ext4 filesystem"},
		"cut off":              {own, disk(t, 512, nil, uuid, ""), "too short"},
		"empty":                {own, disk(t, 0, nil, uuid, ""), "too short"},
		"missing":              {own, "/nonexistent", "no such file"},
	} {
		err := c.filesystem.verify(c.path)
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: got %v", name, err)
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

// sysOf writes files as the kernel shows devices.
func sysOf(t *testing.T, files map[string]string) string {
	t.Helper()
	sys := t.TempDir()
	for name, text := range files {
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sys
}

func TestAMachineKnowsItsVMMByItsDevices(t *testing.T) {
	withPort := sysOf(t, map[string]string{
		"class/virtio-ports/vport0p1/name": "pyro.link\n", "bus/virtio/devices/virtio0/device": "0x0003\n",
		"block/vda/serial": "pyro-disk0\n", "block/vdb/serial": "pyro-config\n",
	})
	withSocket := sysOf(t, map[string]string{
		"bus/virtio/devices/virtio0/device": "0x0002\n", "bus/virtio/devices/virtio2/device": "0x0013\n",
		"block/vda/serial": "2049123", "block/vdb/serial": "pyro-config",
	})
	for sys, want := range map[string]struct {
		link         link
		config, root string
	}{
		withPort:   {&serialPort{"/dev/vport0p1"}, "/dev/vdb", "/dev/vda"},
		withSocket: {&hostSocket{enginePort}, "/dev/vda", "/dev/vdb"},
	} {
		found, err := lookForVMM(sys)
		if err != nil || !reflect.DeepEqual(found.link, want.link) {
			t.Fatalf("got %v, %v", found, err)
		}
		for name, device := range map[string]string{configDisk: want.config, diskPrefix + "0": want.root} {
			if got, err := found.disk(name); err != nil || got != device {
				t.Errorf("%s: got %s, %v", name, got, err)
			}
		}
	}
	early := sysOf(t, map[string]string{"class/virtio-ports/vport0p1/name": "other\n", "bus/virtio/devices/virtio0/device": "0x0003\n"})
	if found, err := lookForVMM(early); found != nil || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestADiskWithoutAPlaceIsRefused(t *testing.T) {
	if device, err := diskByPlace(t.TempDir(), diskPrefix+"3"); err == nil {
		t.Errorf("got %s", device)
	}
}

func TestTheSocketOfTheHostHasItsAddress(t *testing.T) {
	host := &hostSocket{enginePort}
	if want := (&unix.SockaddrVM{CID: 2, Port: 1024}); !reflect.DeepEqual(host.address(), want) {
		t.Errorf("got %+v", host.address())
	}
	conn := &hostConn{nil, host}
	for _, address := range []net.Addr{conn.LocalAddr(), conn.RemoteAddr()} {
		if address.Network() != "vsock" || address.String() != "host:1024" {
			t.Errorf("got %s %s", address.Network(), address)
		}
	}
}

func TestADialThatNobodyAnswersLeavesNoDescriptor(t *testing.T) {
	before := openFiles(t)
	for range 8 {
		// No port of this number is listened on, if there is a device at all.
		if conn, err := (&hostSocket{1}).dial(); err == nil {
			conn.Close()
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d were", after, before)
	}
}

func TestASessionWithTheHostHasDeadlinesAndAnEnd(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&hostSocket{enginePort}).session(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(ends[1], []byte("PYRO")); err != nil {
		t.Fatal(err)
	}
	unix.Close(ends[1])
	if text, err := io.ReadAll(conn); err != nil || string(text) != "PYRO" {
		t.Errorf("got %q, %v", text, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestModulesAreForAllMachinesOrForOneTypeOfDevice(t *testing.T) {
	m := parseModules("/modules/bus.ko \n/modules/blk.ko 0x0002\n/modules/a.ko 0x0013\n/modules/b.ko 0x0013\n")
	if want := (modules{
		always: []string{"/modules/bus.ko"},
		of:     map[string][]string{"0x0002": {"/modules/blk.ko"}, "0x0013": {"/modules/a.ko", "/modules/b.ko"}},
	}); !reflect.DeepEqual(m, want) {
		t.Errorf("got %v", m)
	}
	sys := t.TempDir()
	for name, device := range map[string]string{"virtio0": "0x0002", "virtio1": "0x0003", "virtio2": "0x0002"} {
		folder := filepath.Join(sys, "bus/virtio/devices", name)
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "device"), []byte(device+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if types, err := deviceTypes(sys); err != nil || !reflect.DeepEqual(types, []string{"0x0002", "0x0003"}) {
		t.Errorf("got %q, %v", types, err)
	}
}

func TestTheProgramOfTheRehearsalEndsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nothing")
	if err := os.WriteFile(path, program(endsAtOnce), 0o755); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(path).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("%v %q", err, output)
	}
}

func TestARehearsalLeavesNothingOpen(t *testing.T) {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := open()
	rehearsal, err := newRehearsal(&commandGroup{fd: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := rehearsal.exec(); err != nil {
		t.Error(err)
	}
	if now := open(); now != before {
		t.Errorf("%d descriptors are open, before %d", now, before)
	}
}
