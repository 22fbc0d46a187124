package inspect

import (
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// pool is a btrfs of its own for one test.
type pool struct {
	t    *testing.T
	root string
}

func newPool(t *testing.T) pool {
	t.Helper()
	p := pool{t, t.TempDir()}
	file := p.root + ".btrfs"
	p.run("truncate", "--size", "1G", file)
	p.run("mkfs.btrfs", "--quiet", file)
	p.run("mount", "-o", "loop,noatime", file, p.root)
	t.Cleanup(func() { p.run("umount", p.root) })
	return p
}

func (p pool) run(name string, args ...string) {
	p.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func (p pool) path(name string) string { return filepath.Join(p.root, name) }

func (p pool) clone(from, to string) {
	p.run("btrfs", "subvolume", "snapshot", p.path(from), p.path(to))
}

func (p pool) freeze(from, to string) {
	p.run("btrfs", "subvolume", "snapshot", "-r", p.path(from), p.path(to))
}

func (p pool) remove(name string) { p.run("btrfs", "subvolume", "delete", p.path(name)) }

// mutate makes random changes of every kind below root, by names of a few.
func mutate(t *testing.T, random *rand.Rand, root string) {
	t.Helper()
	names := []string{"a", "b", "a-b", "c"}
	path := func() string {
		path := root
		for range 1 + random.Intn(3) {
			path = filepath.Join(path, names[random.Intn(len(names))])
		}
		return path
	}
	for range 1 + random.Intn(25) {
		one, other := path(), path()
		// Nothing waits for the other end of a FIFO.
		if above, err := os.Lstat(filepath.Dir(one)); err != nil || !above.IsDir() {
			continue
		}
		// Most fail now and then, as what they need is not there: that is as good a state as any.
		switch random.Intn(13) {
		case 0, 1, 2:
			writeWithoutWaiting(one, randomText(random))
		case 3, 4:
			os.Mkdir(one, 0o755)
		case 5:
			os.Rename(one, other)
		case 6:
			os.RemoveAll(one)
		case 7:
			os.Link(one, other)
		case 8:
			os.Symlink(names[random.Intn(len(names))], one)
		case 9:
			unix.Chmod(one, uint32(0o600+random.Intn(0o200)))
		case 10:
			unix.Lsetxattr(one, "user.x", []byte{byte(random.Intn(3))}, 0)
		case 11:
			unix.Mkfifo(one, 0o644)
		case 12:
			rewriteInPlace(one, random)
		}
	}
}

// writeWithoutWaiting writes no FIFO.
func writeWithoutWaiting(path, content string) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return
	}
	defer file.Close()
	file.WriteString(content)
}

// rewriteInPlace keeps size and modification time, as somebody would who wants a change to stay unseen.
func rewriteInPlace(path string, random *rand.Rand) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer file.Close()
	file.WriteAt([]byte{byte('a' + random.Intn(26))}, random.Int63n(info.Size()))
	os.Chtimes(path, info.ModTime(), info.ModTime())
}

// TestWhatTheFilesystemKnowsNeverChangesTheAnswer compares every pair of snapshots of a random history, with resets and
// forgotten generations, in full, by times and by transactions.
func TestWhatTheFilesystemKnowsNeverChangesTheAnswer(t *testing.T) {
	p := newPool(t)
	narrow, settled := 0, 0
	for seed := range int64(6) {
		random := rand.New(rand.NewSource(seed))
		name := func(kind string, n int) string { return fmt.Sprintf("%d-%s%d", seed, kind, n) }
		p.run("btrfs", "subvolume", "create", p.path(name("g", 0)))
		mutate(t, random, p.path(name("g", 0)))
		p.freeze(name("g", 0), name("s", 0))
		generation, frozen := 0, []string{name("s", 0)}
		for step := 1; step < 7; step++ {
			if random.Intn(3) == 0 {
				from := frozen[random.Intn(len(frozen))]
				p.clone(from, name("g", generation+1))
				p.remove(name("g", generation))
				generation++
			}
			mutate(t, random, p.path(name("g", generation)))
			p.freeze(name("g", generation), name("s", step))
			frozen = append(frozen, name("s", step))
			if len(frozen) > 3 && random.Intn(4) == 0 {
				at := 1 + random.Intn(len(frozen)-1)
				p.remove(frozen[at])
				frozen = slices.Delete(frozen, at, at+1)
			}
		}
		for _, from := range frozen {
			for _, to := range frozen {
				at := places{from: p.path(from), to: p.path(to), ignoreFrom: p.path(frozen[0])}
				in := Input{Patch: true, Ignored: true}
				proof := prove(at.from, at.to)
				full, err := compare(t, in, at, Proof{})
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range []Proof{proof, {SettledBefore: proof.SettledBefore}} {
					quick, err := compare(t, in, at, one)
					if err != nil || !slices.EqualFunc(full.entries, quick.entries, equalEntries) || string(full.patch) != string(quick.patch) {
						t.Fatalf("%s → %s, %v: %v\n%s\nnot\n%s", from, to, one.Narrow, err, describe(quick), describe(full))
					}
				}
				if proof.Narrow {
					narrow++
				}
				if proof.SettledBefore > 0 {
					settled++
				}
			}
		}
	}
	if settled == 0 || narrow < settled/2 {
		t.Errorf("of %d comparisons %d were narrow", settled, narrow)
	}
}

// TestAChangeInTheTickOfTheSnapshotIsSeen writes as soon as the snapshot is there, and puts the times back.
func TestAChangeInTheTickOfTheSnapshotIsSeen(t *testing.T) {
	p := newPool(t)
	p.run("btrfs", "subvolume", "create", p.path("g"))
	for round := range 10 {
		path := p.path("g/f")
		if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		from, to := fmt.Sprintf("from%d", round), fmt.Sprintf("to%d", round)
		p.freeze("g", from)
		if err := os.WriteFile(path, []byte("after!"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		p.freeze("g", to)
		at := places{from: p.path(from), to: p.path(to), ignoreFrom: p.path(from)}
		proof := prove(at.from, at.to)
		if !proof.Narrow || proof.SettledBefore == 0 {
			t.Fatalf("%+v", proof)
		}
		for _, one := range []Proof{proof, {SettledBefore: proof.SettledBefore}} {
			if a, err := compare(t, Input{}, at, one); err != nil || len(a.entries) != 1 {
				t.Errorf("round %d, narrow %v: %v %s", round, one.Narrow, err, describe(a))
			}
		}
	}
}

func TestTheWalkGoesOnlyWhereSomethingChanged(t *testing.T) {
	p := newPool(t)
	p.run("btrfs", "subvolume", "create", p.path("g"))
	for folder := range 50 {
		if err := os.MkdirAll(p.path(fmt.Sprintf("g/w/%d/deep", folder)), 0o755); err != nil {
			t.Fatal(err)
		}
		for file := range 20 {
			if err := os.WriteFile(p.path(fmt.Sprintf("g/w/%d/deep/%d", folder, file)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.freeze("g", "base")
	// The baseline of a workspace is what its first generation was made from, or a snapshot of it; both are lines.
	p.clone("base", "g2")
	if err := os.WriteFile(p.path("g2/w/7/deep/3"), []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.freeze("g2", "now")
	proof := prove(p.path("base"), p.path("now"))
	// The file, the three folders above it and the top.
	if !proof.Narrow || len(proof.Touched) != 5*8 {
		t.Errorf("narrow: %v, touched: %d", proof.Narrow, len(proof.Touched)/8)
	}
	a, err := compare(t, Input{Root: "/w"}, places{from: p.path("base"), to: p.path("now"), ignoreFrom: p.path("base")}, proof)
	if err != nil || len(a.entries) != 1 || a.entries[0].path() != "7/deep/3" {
		t.Errorf("%v %s", err, describe(a))
	}
	// A subvolume that may still be written to proves nothing.
	if proof := prove(p.path("base"), p.path("g2")); proof.Narrow {
		t.Error("narrow for a writable subvolume")
	}
	if proof := prove(p.path("base"), t.TempDir()); proof.Narrow || proof.SettledBefore != 0 {
		t.Errorf("a folder elsewhere: %+v", proof)
	}
	if proof := prove(p.path("base/w"), p.path("now/w")); proof.Narrow || proof.SettledBefore != 0 {
		t.Errorf("no tops of subvolumes: %+v", proof)
	}
}
