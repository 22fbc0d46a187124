package volumes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// client speaks to a helper that runs in this process.
type client struct {
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
	next  int64
	ended chan error
}

func startHelper(t *testing.T) *client {
	t.Helper()
	requestsOut, requestsIn := io.Pipe()
	answersOut, answersIn := io.Pipe()
	c := &client{t: t, in: requestsIn, lines: bufio.NewScanner(answersOut), ended: make(chan error, 1)}
	c.lines.Buffer(make([]byte, 64<<10), 16<<20)
	go func() {
		c.ended <- newServer(answersIn).serve(requestsOut)
		answersIn.Close()
	}()
	if !c.lines.Scan() || c.lines.Text() != `{"ready":{"protocol":1}}` {
		t.Fatalf("first line: %q", c.lines.Text())
	}
	t.Cleanup(func() {
		requestsIn.Close()
		for c.lines.Scan() {
		}
		if err := <-c.ended; err != nil {
			t.Errorf("helper ended with %v", err)
		}
	})
	return c
}

type fields = map[string]any

func (c *client) send(op string, more fields) int64 {
	c.t.Helper()
	c.next++
	request := fields{"id": c.next, "op": op}
	for name, value := range more {
		request[name] = value
	}
	line, err := json.Marshal(request)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	return c.next
}

type reply struct {
	ID     int64           `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *opError        `json:"error"`
}

func (c *client) receive() reply {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatal("the helper ended")
	}
	var r reply
	if err := json.Unmarshal(c.lines.Bytes(), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *client) try(op string, more fields) (fields, *opError) {
	c.t.Helper()
	id := c.send(op, more)
	r := c.receive()
	if r.ID != id {
		c.t.Fatalf("answer to %d, not %d", r.ID, id)
	}
	if r.Error != nil {
		return nil, r.Error
	}
	var result fields
	if err := json.Unmarshal(r.Result, &result); err != nil {
		c.t.Fatal(err)
	}
	return result, nil
}

func (c *client) must(op string, more fields) fields {
	c.t.Helper()
	result, err := c.try(op, more)
	if err != nil {
		c.t.Fatalf("%s: %s (%s)", op, err.Message, err.Code)
	}
	return result
}

func (c *client) refused(code, op string, more fields) {
	c.t.Helper()
	result, err := c.try(op, more)
	if err == nil {
		c.t.Fatalf("%s %v was answered with %v, not refused", op, more, result)
	}
	if err.Code != code {
		c.t.Fatalf("%s: code %s (%s), not %s", op, err.Code, err.Message, code)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests need root: they mount and make subvolumes")
	}
}

const gib = 1 << 30

// mountedPool makes a pool as the engine does: allocate, format, attach, mount.
func mountedPool(t *testing.T, c *client, sizeBytes int) (mount, file, device string) {
	t.Helper()
	needRoot(t)
	home := t.TempDir()
	file, mount = filepath.Join(home, "pool.btrfs"), filepath.Join(home, "mnt")
	c.must("file.allocate", fields{"path": file, "sizeBytes": sizeBytes})
	if out, err := exec.Command("mkfs.btrfs", "-q", "-m", "single", file).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, out)
	}
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	device = c.must("loop.attach", fields{"path": file, "directIo": true})["device"].(string)
	c.must("mount", fields{"source": device, "target": mount, "type": "btrfs", "options": []string{"noatime", "nodiscard"}})
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			t.Errorf("unmount: %v", err)
		}
	})
	return mount, file, device
}

func TestPoolLivesFromFileToMountAndLeavesNothing(t *testing.T) {
	c := startHelper(t)
	mount, file, device := mountedPool(t, c, gib/2)
	again := c.must("loop.attach", fields{"path": file, "directIo": true})
	if again["device"] != device || again["reused"] != true {
		t.Fatalf("second attach: %v, first was %s", again, device)
	}
	if list := c.must("loop.find", fields{"path": file})["devices"].([]any); len(list) != 1 || list[0] != device {
		t.Fatalf("loop.find: %v", list)
	}
	if kind := c.must("statfs", fields{"path": mount})["type"]; kind != "btrfs" {
		t.Fatalf("statfs says %v", kind)
	}
	if c.must("reflink.probe", fields{"path": mount})["reflink"] != true {
		t.Fatal("btrfs without reflink")
	}
	before := c.must("filesystem.info", fields{"path": mount})
	grown := c.must("file.allocate", fields{"path": file, "sizeBytes": gib})
	if grown["sizeBytes"] != float64(gib) || grown["allocatedBytes"].(float64) < gib {
		t.Fatalf("grown to %v", grown)
	}
	c.must("loop.resize", fields{"path": file, "device": device})
	c.must("filesystem.resize", fields{"path": mount, "sizeBytes": nil})
	after := c.must("filesystem.info", fields{"path": mount})
	if before["sizeBytes"] != float64(gib/2) || after["sizeBytes"] != float64(gib) {
		t.Fatalf("resized from %v to %v", before["sizeBytes"], after["sizeBytes"])
	}
	c.must("filesystem.sync", fields{"path": mount})
	mounts := c.must("mount.list", fields{"prefix": filepath.Dir(mount)})["mounts"].([]any)
	if len(mounts) != 1 || mounts[0].(fields)["target"] != mount || mounts[0].(fields)["source"] != device {
		t.Fatalf("mount.list: %v", mounts)
	}
	other := filepath.Join(filepath.Dir(mount), "other")
	c.must("file.allocate", fields{"path": other, "sizeBytes": 1 << 20})
	c.refused("mismatch", "loop.detach", fields{"path": other, "device": device})
	c.must("loop.detach", fields{"path": file, "device": device})
	if c.must("umount", fields{"target": mount, "lazy": false})["mounted"] != true {
		t.Fatal("nothing was unmounted")
	}
	if c.must("umount", fields{"target": mount, "lazy": false})["mounted"] != false {
		t.Fatal("unmounted twice")
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(c.must("loop.find", fields{"path": file})["devices"].([]any)) != 0 {
		if time.Now().After(deadline) {
			t.Fatal("autoclear left the loop device attached")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAllocateBeyondTheHostGivesBackWhatItTook(t *testing.T) {
	needRoot(t)
	c := startHelper(t)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	file := filepath.Join(small, "pool")
	c.must("file.allocate", fields{"path": file, "sizeBytes": 1 << 20})
	c.refused("no-space", "file.allocate", fields{"path": file, "sizeBytes": 64 << 20})
	left := c.must("file.identity", fields{"path": file})
	if left["sizeBytes"] != float64(1<<20) || left["allocatedBytes"] != float64(1<<20) {
		t.Fatalf("left %v", left)
	}
}

func TestSubvolumesSnapshotsAndNestedDelete(t *testing.T) {
	c := startHelper(t)
	mount, _, _ := mountedPool(t, c, gib/2)
	a, b, ro := mount+"/a", mount+"/b", mount+"/ro"
	made := c.must("subvolume.create", fields{"path": a, "inherit": []string{}})
	c.refused("exists", "subvolume.create", fields{"path": a, "inherit": []string{}})
	if err := os.WriteFile(a+"/file", []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must("subvolume.snapshot", fields{"source": a, "path": b, "readOnly": false, "inherit": []string{}})
	c.must("subvolume.snapshot", fields{"source": a, "path": ro, "readOnly": true, "inherit": []string{}})
	if err := os.WriteFile(ro+"/file", nil, 0o644); err == nil {
		t.Fatal("a read-only snapshot took a write")
	}
	c.must("subvolume.set-readonly", fields{"path": ro, "readOnly": false})
	if err := os.WriteFile(ro+"/file", []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(b + "/file"); err != nil || string(text) != "one" {
		t.Fatalf("%q %v", text, err)
	}
	if err := os.MkdirAll(b+"/deep/er", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, nested := range []string{"/n", "/deep/er/n", "/deep/er/n/n2"} {
		c.must("subvolume.create", fields{"path": b + nested, "inherit": []string{}})
	}
	shown := c.must("subvolume.show", fields{"path": b})
	if shown["parentUuid"] != made["uuid"] || shown["readOnly"] != false {
		t.Fatalf("show: %v", shown)
	}
	c.refused("not-found", "subvolume.show", fields{"path": b + "/deep"})
	if got := strings.Join(listPaths(c, mount), " "); got != "a b b/deep/er/n b/deep/er/n/n2 b/n ro" {
		t.Fatalf("list: %s", got)
	}
	c.must("subvolume.flush", fields{"path": b})
	gone := c.must("subvolume.delete", fields{"path": b})["subvolumeIds"].([]any)
	if len(gone) != 4 {
		t.Fatalf("deleted %v", gone)
	}
	c.refused("not-found", "subvolume.delete", fields{"path": b})
	started := time.Now()
	c.must("cleaner.wait", fields{"path": mount, "subvolumeIds": gone, "timeoutMs": 20_000})
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("the cleaner took %v: it was not woken", took)
	}
	c.must("cleaner.wait", fields{"path": mount, "subvolumeIds": []int{}, "timeoutMs": 20_000})
	if got := strings.Join(listPaths(c, mount), " "); got != "a ro" {
		t.Fatalf("list: %s", got)
	}
}

func listPaths(c *client, mount string) []string {
	var paths []string
	for _, entry := range c.must("subvolume.list", fields{"path": mount})["subvolumes"].([]any) {
		paths = append(paths, entry.(fields)["path"].(string))
	}
	// In order of ids; sorted to compare.
	for i := range paths {
		for j := i; j > 0 && paths[j] < paths[j-1]; j-- {
			paths[j], paths[j-1] = paths[j-1], paths[j]
		}
	}
	return paths
}

func TestSimpleQuotaStopsTheWriterAndCountsForTheParent(t *testing.T) {
	c := startHelper(t)
	mount, _, _ := mountedPool(t, c, gib/2)
	if mode := c.must("quota.status", fields{"path": mount})["mode"]; mode != "off" {
		t.Fatalf("a new pool has quota mode %v", mode)
	}
	for range 2 {
		if mode := c.must("quota.enable", fields{"path": mount})["mode"]; mode != "simple" {
			t.Fatalf("quota.enable: %v", mode)
		}
	}
	c.must("qgroup.create", fields{"path": mount, "qgroup": "1/7"})
	c.refused("exists", "qgroup.create", fields{"path": mount, "qgroup": "1/7"})
	v := mount + "/v"
	id := c.must("subvolume.create", fields{"path": v, "inherit": []string{"1/7"}})["subvolumeId"].(float64)
	c.must("qgroup.limit", fields{"path": v, "qgroup": nil, "referencedBytes": 16 << 20})
	file, err := os.Create(v + "/big")
	if err != nil {
		t.Fatal(err)
	}
	written, block := 0, make([]byte, 1<<20)
	for written < 64<<20 {
		if _, err = file.Write(block); err == nil {
			err = file.Sync()
		}
		if err != nil {
			break
		}
		written += len(block)
	}
	file.Close()
	if err == nil || written > 16<<20 {
		t.Fatalf("%d bytes went through a limit of 16 MiB", written)
	}
	used := c.must("qgroup.usage", fields{"path": v, "qgroup": nil})
	parent := c.must("qgroup.usage", fields{"path": mount, "qgroup": "1/7"})
	if used["limitBytes"] != float64(16<<20) || used["referencedBytes"].(float64) < float64(written) ||
		parent["referencedBytes"] != used["referencedBytes"] || parent["limitBytes"] != nil {
		t.Fatalf("written %d, used %v, parent %v", written, used, parent)
	}
	c.must("filesystem.sync", fields{"path": mount})
	groups := c.must("qgroup.list", fields{"path": mount})["qgroups"].([]any)
	own := fmt.Sprintf("0/%d", int(id))
	found := false
	for _, entry := range groups {
		group := entry.(fields)
		if group["qgroup"] == own {
			found = true
			if parents := group["parents"].([]any); len(parents) != 1 || parents[0] != "1/7" {
				t.Fatalf("parents: %v", parents)
			}
		}
	}
	if !found {
		t.Fatalf("%s is not in %v", own, groups)
	}
	c.must("qgroup.limit", fields{"path": v, "qgroup": nil, "referencedBytes": nil})
	if err := os.WriteFile(v+"/more", make([]byte, 20<<20), 0o644); err != nil {
		t.Fatalf("after the limit was lifted: %v", err)
	}
	gone := c.must("subvolume.delete", fields{"path": v})["subvolumeIds"]
	c.must("cleaner.wait", fields{"path": mount, "subvolumeIds": gone, "timeoutMs": 20_000})
	c.must("qgroup.remove", fields{"path": mount, "qgroup": "1/7"})
	c.must("filesystem.sync", fields{"path": mount})
	for _, entry := range c.must("qgroup.list", fields{"path": mount})["qgroups"].([]any) {
		if entry.(fields)["qgroup"] == own {
			t.Fatalf("%s outlived its subvolume", own)
		}
	}
}

func TestHelperRefusesWhatItDoesNotUnderstand(t *testing.T) {
	c := startHelper(t)
	c.refused("invalid", "subvolume.explode", nil)
	c.refused("invalid", "statfs", fields{"path": "relative"})
	c.refused("invalid", "statfs", fields{"path": "/", "extra": 1})
	c.refused("invalid", "statfs", fields{"path": 5})
	c.refused("not-found", "statfs", fields{"path": "/nowhere/at/all"})
	c.refused("not-found", "subvolume.show", fields{"path": t.TempDir()})
	if _, err := c.in.Write([]byte("not json\n")); err != nil {
		t.Fatal(err)
	}
	if r := c.receive(); r.ID != 0 || r.Error == nil || r.Error.Code != "invalid" {
		t.Fatalf("answer to garbage: %+v", r)
	}
	if probe := c.must("host.probe", nil); probe["kernel"] == "" {
		t.Fatalf("probe: %v", probe)
	}
}

func TestCancelEndsALongRequest(t *testing.T) {
	c := startHelper(t)
	mount, _, _ := mountedPool(t, c, gib/2)
	long := c.send("cleaner.wait", fields{"path": mount, "subvolumeIds": []int{5}, "timeoutMs": 20_000})
	// Subvolume 5 is never deleted, so it is never waited for; a long wait needs a deleted one that stays.
	if r := c.receive(); r.ID != long || r.Error != nil {
		t.Fatalf("waiting for a live subvolume: %+v", r)
	}
	source, target := mount+"/source", mount+"/target"
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 {
		if err := unix.Symlink("x", fmt.Sprintf("%s/%d", source, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		if err := os.Mkdir(fmt.Sprintf("%s/d%d", source, i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	long = c.send("tree.copy", fields{"source": source, "path": target})
	stop := c.send("cancel", fields{"request": long})
	for range 2 {
		switch r := c.receive(); r.ID {
		case stop:
		case long:
			if r.Error == nil || r.Error.Code != "cancelled" {
				t.Fatalf("cancelled copy: %+v", r)
			}
		}
	}
	if _, err := os.Lstat(target); !os.IsNotExist(err) {
		t.Fatalf("a cancelled copy left its target: %v", err)
	}
}

func TestHelperEndsWithItsInput(t *testing.T) {
	cx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- newServer(io.Discard).serve(in) }()
	out.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-cx.Done():
		t.Fatal("still serving")
	}
}
