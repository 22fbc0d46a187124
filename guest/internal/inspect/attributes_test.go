package inspect

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// checkAppliesInRepository applies the patch to from in a repository, to the files alone and with --3way to what was
// committed, and holds the results against to: whatever differs must be named.
func checkAppliesInRepository(t testing.TB, from, to forest, a answer) {
	t.Helper()
	for _, options := range [][]string{nil, {"--3way"}} {
		repository := t.TempDir()
		from.write(t, repository)
		git(t, nil, repository, "init", "-q")
		if options != nil {
			// As in a repository that is some seconds old: git need not look into a file again.
			past := time.Now().Add(-time.Hour)
			for path, n := range from {
				if n.kind() == unix.S_IFREG {
					if err := os.Chtimes(repository+"/"+path, past, past); err != nil {
						t.Fatal(err)
					}
				}
			}
			git(t, nil, repository, "add", "-A", "-f")
			git(t, nil, repository, "commit", "-q", "--allow-empty", "-m", "seed")
		}
		if len(a.patch) > 0 {
			git(t, a.patch, repository, append([]string{"apply", "--whitespace=nowarn"}, options...)...)
		}
		if err := os.RemoveAll(repository + "/.git"); err != nil {
			t.Fatal(err)
		}
		checkNamed(t, from, to, read(t, repository), a)
	}
}

func executable(content string) node { return node{mode: unix.S_IFREG | 0o755, content: content} }

func inPatch(e Entry) bool { return e.InPatch }

const windows = "*.bat text eol=crlf\n"

func TestFilesWithEolCRLFAreInThePatchAsGitHoldsThem(t *testing.T) {
	from := forestOf(map[string]node{
		".gitattributes": text("*.txt text=auto\n" + windows + "*.auto text=auto eol=crlf\n*.raw -text eol=crlf\n"),
		"changed.bat":    text("1\r\n2\r\n3\r\n"), "gone.bat": text("1\r\n"), "end.bat": text("1\r\n2"), "mixed.bat": text("1\r\n2\n3\r\n"),
		"to-crlf.bat": text("1\n2\n"), "to-lf.bat": text("1\r\n2\r\n"), "to-crlf-mode.bat": text("1\n"), "mode.bat": text("1\r\n"), "lf-mode.bat": text("1\n"),
		"odd.bat": text("1\r\r\n2\r\n3\r\n"), "odd-gone.bat": text("1\r\r\n"), "odd-end.bat": text("1\r\n2\r"), "binary.bat": text("\x00\r\n1\r\n"), "link.bat": link("a\r\nb"), "now-link.bat": text("1\r\n"),
		"binary.auto": text("\x00\r\n1\n"), "text.auto": text("1\r\n"), "cr.auto": text("1\r2\r\n"), "raw.raw": text("1\r\n"), "other": text("1\r\n2\r\n"),
	})
	to := maps.Clone(from)
	maps.Copy(to, forestOf(map[string]node{
		"changed.bat": text("1\r\ntwo\r\n3\r\n"), "end.bat": text("one\r\n2"), "mixed.bat": text("1\r\n2\r\nthree\r\n"),
		"to-crlf.bat": text("1\r\n2\r\n"), "to-lf.bat": text("1\n2\n"), "to-crlf-mode.bat": executable("1\r\n"), "mode.bat": executable("1\r\n"), "lf-mode.bat": executable("1\n"),
		"odd.bat": text("1\r\r\n2\r\nthree\r\n"), "odd-end.bat": text("one\r\n2\r"), "binary.bat": text("\x00\r\n2\r\n"), "link.bat": link("b\r\na"), "now-link.bat": link("a"),
		"binary.auto": text("\x00\r\n2\n"), "text.auto": text("2\r\n"), "cr.auto": text("1\r2\r\n3\r\n"), "raw.raw": text("2\r\n"), "other": text("1\r\ntwo\r\n"),
		"new.bat": text("1\r\n2\r\n"), "new-lf.bat": text("1\n2\n"), "new-mixed.bat": text("1\r\n2\n"), "new-one-line.bat": text("1"), "new-empty.bat": text(""), "new.auto": text("1\n"),
	}))
	delete(to, "gone.bat")
	delete(to, "odd-gone.bat")
	at := pair(t, from, to)
	a := mustCompare(t, Input{Patch: true}, at)
	checkComplete(t, from, to, a)
	checkAppliesInRepository(t, from, to, a)
	want := []string{"lf-mode.bat", "new-lf.bat", "new-mixed.bat", "new.auto", "odd.bat", "to-crlf.bat", "to-lf.bat"}
	if got := a.paths(func(e Entry) bool { return !e.InPatch }); !slices.Equal(got, want) {
		t.Errorf("%q are not in the patch, not %q", got, want)
	}
	for _, path := range []string{"to-crlf.bat", "to-lf.bat"} {
		if entry := a.entry(t, path); entry.Additions != nil || bytes.Contains(a.patch, []byte(path)) {
			t.Errorf("%+v", entry)
		}
	}
	for _, section := range []string{
		"a/changed.bat\n+++ b/changed.bat\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n", "+++ b/new-mixed.bat\n@@ -0,0 +1,2 @@\n+1\n+2\n",
		"diff --git a/to-crlf-mode.bat b/to-crlf-mode.bat\nold mode 100644\nnew mode 100755\n", "a/other\n+++ b/other\n@@ -1,2 +1,2 @@\n 1\r\n-2\r\n+two\r\n",
	} {
		if !bytes.Contains(a.patch, []byte(section)) {
			t.Errorf("no %q in\n%s", section, a.patch)
		}
	}
	if entry := a.entry(t, "mixed.bat"); *entry.Additions != 1 || *entry.Deletions != 1 || *entry.SizeBytes != int64(len("1\r\n2\r\nthree\r\n")) {
		t.Errorf("%+v", entry)
	}
	if entry := a.entry(t, "odd.bat"); !entry.Binary || entry.Additions != nil {
		t.Errorf("%+v", entry)
	}
	without := mustCompare(t, Input{}, at)
	if !slices.EqualFunc(a.entries, without.entries, equalEntries) {
		t.Errorf("without a patch the entries are\n%s\nnot\n%s", describe(without), describe(a))
	}
}

func TestBlobIDsOfFilesWithEolCRLFAreThoseOfGit(t *testing.T) {
	from := forestOf(map[string]node{".gitattributes": text(windows), "a.bat": text("1\r\n")})
	to := maps.Clone(from)
	to["a.bat"] = text("2\r\n")
	at := pair(t, from, to)
	a := mustCompare(t, Input{Patch: true}, at)
	for _, root := range []string{at.from, at.to} {
		git(t, nil, root, "init", "-q")
		id, err := exec.Command("git", "-C", root, "hash-object", "a.bat").Output()
		if err != nil || !bytes.Contains(a.patch, bytes.TrimSpace(id)) {
			t.Errorf("no %s in\n%s, %v", id, a.patch, err)
		}
	}
}

func TestAttributesAreThoseOfTheBaseline(t *testing.T) {
	from := forestOf(map[string]node{"a.bat": text("1\r\n"), "sub/.gitattributes": text(windows), "sub/a.bat": text("1\r\n")})
	to := maps.Clone(from)
	to[".gitattributes"] = text(windows)
	to["a.bat"] = text("2\r\n")
	to["sub/a.bat"] = text("2\r\n")
	delete(to, "sub/.gitattributes")
	a := mustCompare(t, Input{Patch: true}, pair(t, from, to))
	checkAppliesInRepository(t, from, to, a)
	for _, lines := range []string{"+++ b/a.bat\n@@ -1 +1 @@\n-1\r\n+2\r\n", "+++ b/sub/a.bat\n@@ -1 +1 @@\n-1\n+2\n"} {
		if !bytes.Contains(a.patch, []byte(lines)) {
			t.Errorf("no %q in\n%s", lines, a.patch)
		}
	}
	// Git may write the file when the attributes are gone already.
	if a.entry(t, "sub/a.bat").InPatch || !a.entry(t, "a.bat").InPatch {
		t.Error(describe(a))
	}
}

func TestAttributesOfGitsOwnFolderCount(t *testing.T) {
	from := forestOf(map[string]node{".git/info/attributes": text(windows), ".gitattributes": text("*.bat -text\n"), "a.bat": text("1\r\n")})
	to := maps.Clone(from)
	to["a.bat"] = text("2\r\n")
	if a := mustCompare(t, Input{Patch: true}, pair(t, from, to)); !bytes.Contains(a.patch, []byte("\n-1\n+2\n")) {
		t.Errorf("%s", a.patch)
	}
}

func TestAttributesThatLeadAwayAreNotRead(t *testing.T) {
	from := forestOf(map[string]node{"real": text(windows), ".gitattributes": link("real"), "sub/.gitattributes": {mode: unix.S_IFIFO | 0o644}, "a.bat": text("1\r\n"), "sub/a.bat": text("1\r\n")})
	to := maps.Clone(from)
	to["a.bat"] = text("2\r\n")
	to["sub/a.bat"] = text("2\r\n")
	if a := mustCompare(t, Input{Patch: true}, pair(t, from, to)); bytes.Count(a.patch, []byte("\n-1\r\n+2\r\n")) != 2 {
		t.Errorf("%s", a.patch)
	}
}

func TestAPlainFolderKeepsItsLineEnds(t *testing.T) {
	from := forestOf(map[string]node{".gitattributes": text(windows), "sub/.gitattributes": text(windows), "sub/a.bat": text("1\r\n")})
	to := maps.Clone(from)
	to["sub/a.bat"] = text("2\r\n")
	at := pair(t, from, to)
	a := mustCompare(t, Input{Patch: true, PlainFolder: true}, at)
	if !a.entry(t, "sub/a.bat").InPatch {
		t.Error(describe(a))
	}
	checkApplies(t, from, to, a)
	for _, root := range []string{"/", "/sub"} {
		if err := os.MkdirAll(at.ignoreFrom+"/.git", 0o755); err != nil {
			t.Fatal(err)
		}
		if a := mustCompare(t, Input{Patch: true, PlainFolder: true, Root: root}, at); !bytes.Contains(a.patch, []byte("\n-1\n+2\n")) {
			t.Errorf("in %s of a repository: %s", root, a.patch)
		}
	}
}

func randomLineEnds(random *rand.Rand) node {
	ends := [][]string{{"\r\n"}, {"\r\n"}, {"\n"}, {"\r\n", "\n"}, {"\r\n", "\n", "\r", "\r\r\n", "\x00", "\x01\x02"}}[random.Intn(5)]
	var content strings.Builder
	for range random.Intn(8) {
		content.WriteString([]string{"one", "two", "three", ""}[random.Intn(4)] + ends[random.Intn(len(ends))])
	}
	if random.Intn(4) == 0 {
		content.WriteString("no end")
	}
	switch random.Intn(12) {
	case 0:
		return link(strings.ReplaceAll(content.String(), "\x00", "") + "x")
	case 1, 2:
		return executable(content.String())
	}
	return text(content.String())
}

func TestRandomLineEndsAndAttributesApply(t *testing.T) {
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkLineEnds(t, rand.New(rand.NewSource(seed))) })
	}
}

func checkLineEnds(t *testing.T, random *rand.Rand) {
	lines := []string{"*.bat text eol=crlf", "* eol=crlf", "* text=auto eol=crlf", "a.* text=auto eol=crlf", "b.* -text", "*.txt binary", "*.txt !eol !text", "[attr]w eol=crlf", "a.bat w", "d/* eol=crlf", "*.c diff", "*.bat -text"}
	folders := []string{"", "d/", "d/e/", "z/"}
	attributes := func() node {
		var chosen strings.Builder
		for range random.Intn(4) {
			chosen.WriteString(lines[random.Intn(len(lines))] + "\n")
		}
		return text(chosen.String())
	}
	path := func() string {
		return folders[random.Intn(len(folders))] + []string{"-", "a.bat", "b.bat", "a.txt", "b.txt", "c.c"}[random.Intn(6)]
	}
	from := forest{}
	from.put(".gitattributes", attributes())
	for range 15 {
		from.put(path(), randomLineEnds(random))
	}
	for _, folder := range folders[1:] {
		if random.Intn(2) == 0 {
			from.put(folder+".gitattributes", attributes())
		}
	}
	to := maps.Clone(from)
	for range 8 {
		if one := path(); random.Intn(5) == 0 {
			to.remove(one)
		} else {
			to.put(one, randomLineEnds(random))
		}
	}
	for _, folder := range folders {
		switch random.Intn(8) {
		case 0:
			to.put(folder+".gitattributes", attributes())
		case 1:
			to.remove(folder + ".gitattributes")
		}
	}
	a := mustCompare(t, Input{Patch: true}, pair(t, from, to))
	checkComplete(t, from, to, a)
	checkAppliesInRepository(t, from, to, a)
}

// FuzzLineEnds looks for random trees that break the promise.
func FuzzLineEnds(f *testing.F) {
	for seed := range int64(3) {
		f.Add(1000 + seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) { checkLineEnds(t, rand.New(rand.NewSource(seed))) })
}
