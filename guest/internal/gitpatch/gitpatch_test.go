package gitpatch

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const limit = 64 << 20

func run(t testing.TB, stdin []byte, name string, args ...string) {
	t.Helper()
	command := exec.Command(name, args...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CEILING_DIRECTORIES=/")
	command.Stdin = bytes.NewReader(stdin)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s\n%.4000s", name, args, err, out, stdin)
	}
}

// apply gives content and mode of the one file after `git apply`; nil when it is gone.
func apply(t testing.TB, path string, before *Blob, patch []byte) *Blob {
	t.Helper()
	root := t.TempDir()
	full := filepath.Join(root, path)
	if before != nil {
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, before.Content, os.FileMode(before.Mode&0o777)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, patch, "git", "-C", root, "apply", "--whitespace=nowarn", "-")
	info, err := os.Lstat(full)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	mode := File
	if info.Mode()&0o100 != 0 {
		mode = Executable
	}
	return &Blob{Mode: mode, Content: content}
}

func check(t testing.TB, path string, before, after *Blob) Stats {
	t.Helper()
	patch, stats, err := Append(nil, path, before, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	got := apply(t, path, before, patch)
	if (got == nil) != (after == nil) || got != nil && (got.Mode != after.Mode || !bytes.Equal(got.Content, after.Content)) {
		t.Fatalf("%q became %.300q, not %.300q, by\n%.2000s", path, contentOf(got), contentOf(after), patch)
	}
	if counted := Count(before, after); counted != stats && !(before != nil && after != nil && bytes.Equal(before.Content, after.Content)) {
		t.Fatalf("counted %v, written %v", counted, stats)
	}
	return stats
}

func file(text string) *Blob { return &Blob{Mode: File, Content: []byte(text)} }

func TestAddedRemovedAndChangedFilesApply(t *testing.T) {
	binary := string([]byte{0, 1, 2, 255, 10})
	for _, one := range []struct{ before, after *Blob }{
		{nil, file("")}, {file(""), nil}, {nil, file("a\n")}, {nil, file("a")}, {file("a\nb"), nil},
		{file(""), file("x")}, {file("x"), file("")}, {file("x\n"), file("x")}, {file("x"), file("x\n")},
		{file("a\nb\nc\n"), file("a\nc\n")}, {file("\n\n\n"), file("\n\n")}, {file("\r\n"), file("\n")},
		{file("a"), &Blob{Mode: Executable, Content: []byte("a")}}, {file("a"), &Blob{Mode: Executable, Content: []byte("b")}},
		{file(binary), file("text")}, {file("text"), file(binary)}, {nil, file(binary)}, {file(binary), nil},
		{&Blob{Mode: File, Content: []byte("a\r\n"), Literal: true}, file("b\n")}, {&Blob{Mode: File, Literal: true}, nil},
		{nil, file(strings.Repeat(binary, 10_000))}, {file(""), file("\x00")},
		{file("\xff\xfe\n"), file("\xff\xfe\xfd")}, {file("-- a\n+++ b\n@@ -1 +1 @@\n"), file("-- a\n@@ -1 +1 @@\n")},
	} {
		check(t, "dir/name", one.before, one.after)
	}
}

func TestNamesAreQuotedAsGitReadsThem(t *testing.T) {
	for _, name := range []string{
		"plain", "with space", " leading", "trailing ", "folder /f", "d /e /f", " / ", "tab\there", "line\nfeed", `quote"d`, `back\slash`, "ünï", "\xff\xfe",
		"\x01\x7f", "a b/c d/e", "a => b", "b/a", "a/b/b/a", "new\r", "-dash", "#", "dev/null", "\a\b\v\f", "a  b\t",
		"folder /file", "a / b", " / ",
	} {
		check(t, name, nil, file("1\n"))
		check(t, name, nil, file(""))
		check(t, name, file("1\n"), file("2\n"))
		check(t, name, file("1\n"), &Blob{Mode: Executable, Content: []byte("1\n")})
		check(t, name, file("1\n"), nil)
		check(t, name, file("1\n"), file("\x00"))
		check(t, name, nil, file(""))
		check(t, name, file(""), nil)
	}
}

func TestRandomTextsApply(t *testing.T) {
	random := rand.New(rand.NewSource(2))
	text := func() string {
		var lines strings.Builder
		for range random.Intn(40) {
			lines.WriteString(strings.Repeat("x", random.Intn(3)))
			if random.Intn(20) != 0 {
				lines.WriteByte('\n')
			}
		}
		return lines.String()
	}
	for range 150 {
		check(t, "f", file(text()), file(text()))
	}
}

func TestAShortestSetOfLinesIsShown(t *testing.T) {
	for _, one := range []struct {
		before, after      string
		additions, removed int
	}{
		{"a\nb\nc\na\nb\nb\na\n", "c\nb\na\nb\na\nc\n", 2, 3},
		{"f {\n}\n", "f {\n}\ng {\n}\n", 2, 0},
		{strings.Repeat("same\n", 5000) + "x\n", "y\n" + strings.Repeat("same\n", 5000), 1, 1},
	} {
		stats := Count(file(one.before), file(one.after))
		if stats.Additions != one.additions || stats.Deletions != one.removed {
			t.Errorf("%.40q → %.40q: %v", one.before, one.after, stats)
		}
	}
	patch, _, err := Append(nil, "f", file("f {\n}\n"), file("f {\n}\ng {\n}\n"), limit)
	if err != nil || !bytes.Contains(patch, []byte(" }\n+g {\n+}\n")) {
		t.Errorf("the group is not slid down:\n%s", patch)
	}
}

func TestTextsWithoutAnythingInCommonCostNoMoreThanTheirLength(t *testing.T) {
	random := rand.New(rand.NewSource(3))
	text := func() []byte {
		var lines bytes.Buffer
		for range 200_000 {
			fmt.Fprintln(&lines, random.Intn(1000))
		}
		return lines.Bytes()
	}
	before, after := &Blob{Mode: File, Content: text()}, &Blob{Mode: File, Content: text()}
	check(t, "f", before, after)
}

func TestASectionBeyondTheLimitLeavesWhatWasThere(t *testing.T) {
	whole, _, err := Append(nil, "f", nil, file("some text\n"), limit)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) {
		got, _, err := Append([]byte("kept"), "f", nil, file("some text\n"), size)
		if err != ErrTooLarge || string(got) != "kept" {
			t.Fatalf("limit %d: %q, %v", size, got, err)
		}
	}
	if got, _, err := Append(nil, "f", nil, file("some text\n"), len(whole)); err != nil || !bytes.Equal(got, whole) {
		t.Fatalf("exact limit: %v", err)
	}
}

// TestRefusedNamesAreThoseGitRefuses asks git about each name as a part of a path.
func TestRefusedNamesAreThoseGitRefuses(t *testing.T) {
	names := []string{
		".git", ".GIT", ".Git", "git", ".gitx", ".git ", ".git.", ".git . .", ".git:x", ".git::$INDEX_ALLOCATION", "git~1", "GIT~1",
		"git~2", "git~1 ", `a\.git`, `a\git~1\b`, `.git\x`, ".gitmodules", ".gitignore", "x.git", ".git x", "...", ".. ", "a:.git", "ab",
	}
	for _, symlink := range []bool{false, true} {
		for _, name := range names {
			mode := File
			if symlink {
				mode = Symlink
			}
			patch, _, err := Append(nil, "d/"+name, nil, &Blob{Mode: mode, Content: []byte("x")}, limit)
			if err != nil {
				t.Fatal(err)
			}
			command := exec.Command("git", "-C", t.TempDir(), "apply", "-")
			command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CEILING_DIRECTORIES=/")
			command.Stdin = bytes.NewReader(patch)
			out, err := command.CombinedOutput()
			if refused := err != nil; refused != Refused(name, symlink) {
				t.Errorf("%q (symlink: %v): refused %v, git %v %s", name, symlink, !refused, refused, out)
			}
		}
	}
}

func FuzzPatchesApply(f *testing.F) {
	f.Add("name", []byte("a\nb\n"), []byte("a\nc"), byte(3))
	f.Add("a b\"\\\xff", []byte(nil), []byte("\x00"), byte(2))
	f.Add("d/ x", []byte("\n\n\n1"), []byte("\n"), byte(7))
	f.Fuzz(func(t *testing.T, path string, old, new []byte, kinds byte) {
		for part := range strings.SplitSeq(path, "/") {
			if part == "" || len(part) > 255 || Refused(part, false) || strings.ContainsRune(part, 0) {
				return
			}
		}
		if len(path) > 1000 {
			return
		}
		var before, after *Blob
		mode := func(bit byte) Mode {
			if kinds&bit != 0 {
				return Executable
			}
			return File
		}
		if kinds&1 != 0 {
			before = &Blob{Mode: mode(4), Content: old}
		}
		if kinds&2 != 0 {
			after = &Blob{Mode: mode(8), Content: new}
		}
		if before == nil && after == nil || before != nil && after != nil && before.Mode == after.Mode && bytes.Equal(old, new) {
			return
		}
		check(t, path, before, after)
	})
}
