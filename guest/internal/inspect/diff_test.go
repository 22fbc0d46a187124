package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// TestThePatchGivesTheSameTreeApartFromWhatEntriesName is the promise of `workspace diff`, on random trees.
func TestThePatchGivesTheSameTreeApartFromWhatEntriesName(t *testing.T) {
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkPromise(t, rand.New(rand.NewSource(seed))) })
	}
}

func checkPromise(t *testing.T, random *rand.Rand) {
	from, to := randomPair(random, ".git", ".GIT")
	at := pair(t, from, to)
	a := mustCompare(t, Input{Patch: true, Ignored: true}, at)
	checkComplete(t, from, to, a)
	checkApplies(t, from, to, a)

	without := mustCompare(t, Input{Ignored: true}, at)
	if !slices.EqualFunc(a.entries, without.entries, equalEntries) || len(without.patch) > 0 {
		t.Errorf("without a patch the entries are\n%s\nnot\n%s", describe(without), describe(a))
	}
	cut := mustCompare(t, Input{Patch: true, Ignored: true, PatchLimitBytes: 1 + int64(random.Intn(1+len(a.patch)))}, at)
	checkComplete(t, from, to, cut)
	checkApplies(t, from, to, cut)
	if cut.summary.PatchTruncated != (len(cut.patch) < len(a.patch)) {
		t.Errorf("truncated: %v, %d of %d bytes", cut.summary.PatchTruncated, len(cut.patch), len(a.patch))
	}
}

func equalEntries(a, b Entry) bool {
	equal := func(x, y *int) bool { return x == nil && y == nil || x != nil && y != nil && *x == *y }
	return a.PathBase64 == b.PathBase64 && a.Status == b.Status && a.InPatch == b.InPatch && a.Binary == b.Binary &&
		a.Ignored == b.Ignored && equal(a.Additions, b.Additions) && equal(a.Deletions, b.Deletions)
}

// FuzzThePatchApplies looks for random trees that break the promise.
func FuzzThePatchApplies(f *testing.F) {
	for seed := range int64(3) {
		f.Add(1000 + seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) { checkPromise(t, rand.New(rand.NewSource(seed))) })
}

func TestTheThreeWayPatchMergesIntoARepositoryThatMovedOn(t *testing.T) {
	lines := func(change string) string {
		return "first\n" + strings.Repeat("between\n", 10) + change + "\n" + strings.Repeat("between\n", 10) + "last\n"
	}
	from := forestOf(map[string]node{"both": text(lines("old")), "gone": text("x\n"), "sp ace/ü": text("1\n"), "mode": text("run\n"), "l": link("a"), "bin": text("\x00\x01")})
	to := maps.Clone(from)
	to["both"] = text(lines("new"))
	to["added"] = text("no end")
	to["sp ace/ü"] = text("2\n")
	to["mode"] = node{mode: unix.S_IFREG | 0o755, content: "run\n"}
	to["l"] = link("b")
	to["bin"] = text("\x00\x02")
	delete(to, "gone")
	a := mustCompare(t, Input{Patch: true}, pair(t, from, to))
	repository := t.TempDir()
	from.write(t, repository)
	git(t, nil, repository, "init", "-q")
	git(t, nil, repository, "add", "-A")
	git(t, nil, repository, "commit", "-qm", "seed")
	moved := "moved on\n" + lines("old")
	if err := os.WriteFile(repository+"/both", []byte(moved), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, nil, repository, "commit", "-qam", "more")
	git(t, a.patch, repository, "apply", "--3way")
	if err := os.RemoveAll(repository + "/.git"); err != nil {
		t.Fatal(err)
	}
	to["both"] = text("moved on\n" + lines("new"))
	if got := read(t, repository); !maps.Equal(got, to) {
		t.Errorf("%v\nnot\n%v", got, to)
	}
}

func TestRandomPatchesApplyInThreeWays(t *testing.T) {
	for seed := range int64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewSource(seed))
			from, to := randomPair(random)
			// What git does not store cannot be in the way of a hand-back: seeds hold none of it.
			for _, one := range []forest{from, to} {
				maps.DeleteFunc(one, func(_ string, n node) bool { return n.kind() == unix.S_IFIFO })
			}
			a := mustCompare(t, Input{Patch: true}, pair(t, from, to))
			repository := t.TempDir()
			from.write(t, repository)
			git(t, nil, repository, "init", "-q")
			git(t, nil, repository, "add", "-A")
			git(t, nil, repository, "commit", "-q", "--allow-empty", "-m", "seed")
			if len(a.patch) > 0 {
				git(t, a.patch, repository, "apply", "--3way", "--whitespace=nowarn")
			}
			if err := os.RemoveAll(repository + "/.git"); err != nil {
				t.Fatal(err)
			}
			checkNamed(t, from, to, read(t, repository), a)
		})
	}
}

func TestBlobIDsAreThoseOfGit(t *testing.T) {
	at := pair(t, forest{}, forestOf(map[string]node{"f": text("content\n"), "b": text("\x00")}))
	a := mustCompare(t, Input{Patch: true}, at)
	for _, name := range []string{"f", "b"} {
		id, err := exec.Command("git", "hash-object", at.to+"/"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(a.patch, append([]byte("index 0000000000000000000000000000000000000000.."), id...)) {
			t.Errorf("%s is not in\n%s", id, a.patch)
		}
	}
}

func TestPathsNarrowTheComparison(t *testing.T) {
	from := forestOf(map[string]node{"a": text("1"), "a-b": text("1"), "d/x": text("1"), "d/y": text("1"), "e/f/g": text("1")})
	to := maps.Clone(from)
	for _, path := range []string{"a", "a-b", "d/x", "d/y", "e/f/g"} {
		to[path] = text("2")
	}
	to["d"] = node{mode: unix.S_IFDIR | 0o700}
	at := pair(t, from, to)
	for _, one := range []struct{ paths, want []string }{
		{[]string{"a"}, []string{"a"}}, {[]string{"d/y", "a-b"}, []string{"a-b", "d/y"}}, {[]string{"d"}, []string{"d", "d/x", "d/y"}},
		{[]string{"d/x", "d"}, []string{"d", "d/x", "d/y"}}, {[]string{"e/f/"}, []string{"e/f/g"}}, {[]string{"./e//f/./g"}, []string{"e/f/g"}},
		{[]string{"."}, []string{"a", "a-b", "d", "d/x", "d/y", "e/f/g"}},
	} {
		if got := mustCompare(t, Input{Paths: one.paths}, at).paths(all); !slices.Equal(got, one.want) {
			t.Errorf("%q: %q, not %q", one.paths, got, one.want)
		}
	}
}

func TestOnlyTimesAreNoChange(t *testing.T) {
	same := forestOf(map[string]node{"f": text("1"), "d/g": text("2"), "l": link("f")})
	at := pair(t, same, same)
	later := time.Now().Add(time.Hour)
	for _, path := range []string{"f", "d", "d/g"} {
		if err := os.Chtimes(filepath.Join(at.to, path), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if a := mustCompare(t, Input{Patch: true}, at); len(a.entries) > 0 {
		t.Error(describe(a))
	}
}

func TestFilesThatAreLinkedOtherwiseAreNamed(t *testing.T) {
	same := forestOf(map[string]node{"a": text("1"), "b": text("1"), "c": text("1"), "d": text("1"), "e": text("1")})
	at := pair(t, same, same)
	relink := func(root, from, to string) {
		if err := os.Remove(filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	relink(at.from, "a", "b")
	relink(at.to, "a", "b")
	relink(at.to, "c", "d")
	// A link from outside of what is compared says nothing about it.
	if err := os.Link(at.to+"/e", at.to+"-outside"); err != nil {
		t.Fatal(err)
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if got := a.paths(all); !slices.Equal(got, []string{"d"}) || a.entries[0].InPatch {
		t.Error(describe(a))
	}
}

func TestAttributesAndCapabilitiesAreChanges(t *testing.T) {
	same := forestOf(map[string]node{"user": text("1"), "capability": text("1"), "acl": text("1"), "d/x": text("1")})
	at := pair(t, same, same)
	capability := append([]byte{1, 0, 0, 2, 0, 4, 0, 0}, make([]byte, 12)...)
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255}
	for path, set := range map[string][]any{
		"user": {"user.x", []byte("1")}, "capability": {"security.capability", capability}, "acl": {"system.posix_acl_access", acl}, "d": {"user.x", []byte("1")},
	} {
		if err := unix.Setxattr(filepath.Join(at.to, path), set[0].(string), set[1].([]byte), 0); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if got := a.paths(func(e Entry) bool { return e.Status == "modified" && !e.InPatch }); !slices.Equal(got, []string{"acl", "capability", "d", "user"}) {
		t.Error(describe(a))
	}
}

func TestIgnoredPathsAreCountedAndListedOnlyOnDemand(t *testing.T) {
	from := forestOf(map[string]node{
		".gitignore": text("*.o\n/build/\n!keep.o\n"), "sub/.gitignore": text("local\n"), ".git/info/exclude": text("private\n"),
		"src/.git/info/exclude": text("nested\n"), "build/old": text("1"), "sub/local": text("1"), "tracked.o": text("1"),
	})
	to := maps.Clone(from)
	to[".gitignore"] = text("everything below is not the baseline's\n*\n")
	for _, path := range []string{"a.o", "keep.o", "build/new", "build/deep/er", "sub/local", "sub/x", "private", "src/nested", "nested", "tracked.o", "new/b.o"} {
		to.put(path, text("2"))
	}
	delete(to, "build/old")
	at := pair(t, from, to)
	ignored := []string{"a.o", "build/deep/er", "build/new", "build/old", "new/b.o", "private", "src/nested", "sub/local", "tracked.o"}
	listed := mustCompare(t, Input{Patch: true, Ignored: true}, at)
	if got := listed.paths(func(e Entry) bool { return e.Ignored }); !slices.Equal(got, ignored) {
		t.Errorf("ignored: %q, not %q", got, ignored)
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if got, want := a.paths(all), []string{".gitignore", "keep.o", "nested", "sub/x"}; !slices.Equal(got, want) {
		t.Errorf("listed: %q, not %q", got, want)
	}
	if a.summary.Ignored != int64(len(ignored)) || a.summary.Changed != a.summary.Ignored+int64(len(a.entries)) || listed.summary.Ignored != a.summary.Ignored {
		t.Errorf("%+v %+v", a.summary, listed.summary)
	}
	checkApplies(t, from, to, listed)
}

// As in git, a folder is nothing beside the files in it.
func TestAFolderOfIgnoredFilesAloneGoesWithoutSaying(t *testing.T) {
	from := forestOf(map[string]node{".gitignore": text("*.pyc\n"), "gone/a.pyc": text("1"), "less/a.pyc": text("1"), "less/b.py": text("1")})
	to := forestOf(map[string]node{
		".gitignore": text("*.pyc\n"), "cache/a.pyc": text("1"), "deep/er/a.pyc": text("1"), "more/a.pyc": text("1"), "more/b.py": text("1"),
		"beside/a.pyc": text("1"), "beside/empty": emptyFolder, "own/a.pyc": text("1"),
	})
	to["own"] = node{mode: unix.S_IFDIR | 0o700}
	at := pair(t, from, to)
	a := mustCompare(t, Input{Patch: true}, at)
	if got, want := a.paths(all), []string{"beside/empty", "less/b.py", "more/b.py", "own"}; !slices.Equal(got, want) {
		t.Errorf("listed: %q, not %q", got, want)
	}
	if a.summary.Ignored != 7 || a.summary.Changed == 0 {
		t.Errorf("%+v", a.summary)
	}
	listed := mustCompare(t, Input{Patch: true, Ignored: true}, at)
	if listed.summary.Ignored != a.summary.Ignored {
		t.Errorf("%+v %+v", a.summary, listed.summary)
	}
	checkApplies(t, from, to, listed)
}

// TestIgnoredIsWhatGitIgnores asks git about every path of random trees with random patterns.
func TestIgnoredIsWhatGitIgnores(t *testing.T) {
	patterns := []string{"a", "/b", "d/", "*.c", "!a.c", "a*", "e/**", "**/b", "a-b", "!d/a", "[ae]", "\\ü", "a/b"}
	for seed := range int64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewSource(seed))
			from, to := forest{}, forest{}
			for range 30 {
				to.put(randomPath(random), text("x"))
			}
			for _, folder := range append([]string{""}, slices.Sorted(maps.Keys(to))...) {
				if folder != "" && (to[folder].kind() != unix.S_IFDIR || random.Intn(3) > 0) {
					continue
				}
				var lines strings.Builder
				for range random.Intn(4) {
					fmt.Fprintln(&lines, patterns[random.Intn(len(patterns))])
				}
				from.put(strings.TrimPrefix(folder+"/.gitignore", "/"), text(lines.String()))
			}
			for path, n := range from {
				to.put(path, n)
			}
			at := pair(t, from, to)
			a := mustCompare(t, Input{Ignored: true}, at)
			counted := mustCompare(t, Input{}, at)
			git(t, nil, at.to, "init", "-q")
			var asked strings.Builder
			for _, path := range a.paths(all) {
				asked.WriteString(path + "\x00")
			}
			command := exec.Command("git", "-C", at.to, "check-ignore", "--no-index", "-z", "--stdin")
			command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
			command.Stdin = strings.NewReader(asked.String())
			out, err := command.Output()
			if err != nil && command.ProcessState.ExitCode() != 1 {
				t.Fatal(err)
			}
			want := slices.Sorted(strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00"))
			got := a.paths(func(e Entry) bool { return e.Ignored })
			if len(got)+len(out) > 0 && !slices.Equal(got, want) {
				t.Errorf("%q, git says %q", got, want)
			}
			if counted.summary.Ignored != int64(len(got)) {
				t.Errorf("%d are counted, %d listed\n%s\n%s", counted.summary.Ignored, len(got), describe(counted), describe(a))
			}
		})
	}
}

func TestManyIgnoredFilesAreCountedQuickly(t *testing.T) {
	at := pair(t, forestOf(map[string]node{".gitignore": text("node_modules\n")}), forestOf(map[string]node{".gitignore": text("node_modules\n")}))
	const folders, files = 200, 500
	for folder := range folders {
		path := fmt.Sprintf("%s/node_modules/%d", at.to, folder)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for file := range files {
			fd, err := unix.Open(fmt.Sprintf("%s/%d", path, file), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
	}
	started := time.Now()
	a := mustCompare(t, Input{Patch: true}, at)
	if a.summary.Ignored != folders*files || len(a.entries) > 0 {
		t.Errorf("%+v", a.summary)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestNoPatternHidesWhatGitWouldRun(t *testing.T) {
	from := forestOf(map[string]node{".gitignore": text("*\nhooks\n.git\n"), ".git/config": text("1"), "sub/.git/config": text("1")})
	to := maps.Clone(from)
	to.put(".git/hooks/post-checkout", node{mode: unix.S_IFREG | 0o755, content: "#!/bin/sh\n"})
	to[".git/config"] = text("2")
	to["sub/.git/config"] = text("2")
	a := mustCompare(t, Input{Patch: true}, pair(t, from, to))
	want := []string{".git/config", ".git/hooks", ".git/hooks/post-checkout"}
	if got := a.paths(all); !slices.Equal(got, want) || a.summary.Ignored != 1 || len(a.patch) > 0 {
		t.Errorf("%+v %s", a.summary, describe(a))
	}
}

func TestDeviceNumbersAreCompared(t *testing.T) {
	at := pair(t, forest{}, forest{})
	for _, one := range []struct {
		path  string
		minor uint32
	}{{at.from + "/same", 3}, {at.to + "/same", 3}, {at.from + "/other", 3}, {at.to + "/other", 5}} {
		if err := unix.Mknod(one.path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, one.minor))); err != nil {
			t.Fatal(err)
		}
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if got := a.paths(all); !slices.Equal(got, []string{"other"}) || a.entries[0].InPatch || a.entries[0].Type != "char" {
		t.Error(describe(a))
	}
}

func TestAnEngineThatWaitsLongHearsThatWorkGoesOn(t *testing.T) {
	var out bytes.Buffer
	e := emitter{out: &out}
	if err := errors.Join(e.stayAlive(), e.add(&Entry{}), e.stayAlive(), e.stayAlive()); err != nil {
		t.Fatal(err)
	}
	if a, _, _ := parse(t, &out); len(a.entries) != 1 {
		t.Errorf("%d entries", len(a.entries))
	}
}

func TestLargeContentStaysOutOfThePatch(t *testing.T) {
	random := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(random)
	long := strings.Repeat("a line of text\n", 200_000)
	from := forestOf(map[string]node{"binary": text(string(random)), "text": text(long), "small": text("\x00a")})
	to := maps.Clone(from)
	to["binary"] = text(string(random[:len(random)-1]))
	to["text"] = text(long + "more\n")
	to["small"] = text("\x00b")
	to["huge"] = text(strings.Repeat("x", 4<<20))
	a := mustCompare(t, Input{Patch: true, BinaryLimitBytes: 1 << 20, PatchLimitBytes: 3500 << 10}, pair(t, from, to))
	for path, want := range map[string]bool{"binary": false, "text": true, "small": true, "huge": false} {
		if entry := a.entry(t, path); entry.InPatch != want || entry.Binary != (path == "binary" || path == "small") {
			t.Errorf("%s: %+v", path, entry)
		}
	}
	if a.summary.PatchTruncated || len(a.patch) > 2000 {
		t.Errorf("%+v", a.summary)
	}
	checkApplies(t, from, to, a)
}

func TestOneFileBeyondTheLimitDoesNotCostTheRestOfThePatch(t *testing.T) {
	to := forestOf(map[string]node{"a": text("1\n"), "b": text(strings.Repeat("long\n", 1000)), "c": text("2\n")})
	a := mustCompare(t, Input{Patch: true, PatchLimitBytes: 1000}, pair(t, forest{}, to))
	if got := a.paths(func(e Entry) bool { return e.InPatch }); !slices.Equal(got, []string{"a", "c"}) || !a.summary.PatchTruncated {
		t.Errorf("%+v %s", a.summary, describe(a))
	}
	checkApplies(t, forest{}, to, a)
}

func TestHugeSparseFilesCostNothing(t *testing.T) {
	at := pair(t, forestOf(map[string]node{"same": text(""), "other": text("")}), forestOf(map[string]node{"same": text(""), "other": text("")}))
	const size = 1 << 40
	for _, path := range []string{at.from + "/same", at.to + "/same", at.from + "/other", at.to + "/other"} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.OpenFile(at.to+"/other", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("x"), size/2); err != nil {
		t.Fatal(err)
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if got := a.paths(all); !slices.Equal(got, []string{"other"}) || a.entries[0].InPatch {
		t.Error(describe(a))
	}
}

func TestPathsBeyondWhatTheKernelTakesAreListed(t *testing.T) {
	at := pair(t, forest{}, forest{})
	fd, err := unix.Open(at.to, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Repeat("d", 200)
	descend := func() {
		next := -1
		if err = unix.Mkdirat(fd, part, 0o755); err == nil {
			next, err = unix.Openat(fd, part, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	for range 100 {
		descend()
	}
	file, err := unix.Openat(fd, "deep", unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
	a := mustCompare(t, Input{Patch: true}, at)
	deepest := strings.Repeat(part+"/", 100) + "deep"
	if entry := a.entry(t, deepest); entry.InPatch || entry.Status != "added" {
		t.Errorf("%+v", entry)
	}
	for range 300 {
		descend()
	}
	unix.Close(fd)
	var failure *message.Error
	if _, err := compare(t, Input{Patch: true}, at, Proof{}); !errors.As(err, &failure) || failure.Kind != message.KindLimit {
		t.Errorf("a path of 80,000 bytes: %v", err)
	}
	if out, err := exec.Command("rm", "-rf", at.to).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
}

func TestFoldersWithManyNamesAreCompared(t *testing.T) {
	at := pair(t, forest{}, forest{})
	for at1, root := range []string{at.from, at.to} {
		for file := range 100_000 {
			if file%1000 == at1 {
				continue
			}
			if err := os.Symlink("x", fmt.Sprintf("%s/%d", root, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := mustCompare(t, Input{Patch: true}, at)
	if len(a.entries) != 200 {
		t.Errorf("%d entries", len(a.entries))
	}
}

func TestAnEndlessNumberOfDifferencesIsSentAsItIsFound(t *testing.T) {
	at := pair(t, forest{}, forest{})
	for folder := range 30 {
		path := fmt.Sprintf("%s/%s-%d", at.to, strings.Repeat("long", 50), folder)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for file := range 100 {
			if err := os.Mkdir(fmt.Sprintf("%s/%d", path, file), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a := mustCompare(t, Input{Patch: true}, at); len(a.entries) != 30*101 {
		t.Errorf("%d entries", len(a.entries))
	}
}
