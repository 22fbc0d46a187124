package ignore

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

// checkIgnore asks git which of the paths are ignored.
func checkIgnore(t *testing.T, repository string, paths []string) map[string]bool {
	t.Helper()
	command := exec.Command("git", "-C", repository, "check-ignore", "--no-index", "-z", "--stdin")
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	command.Stdin = strings.NewReader(strings.Join(paths, "\x00") + "\x00")
	out, err := command.Output()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 1 {
		err = nil
	}
	if err != nil {
		t.Fatal(err)
	}
	ignored := map[string]bool{}
	for path := range bytes.SplitSeq(out, []byte{0}) {
		ignored[string(path)] = true
	}
	return ignored
}

// ours walks down as the inspector does: what is in an ignored folder is ignored.
func ours(files map[string]string, path string, isDir bool) bool {
	var rules *Rules
	parts := strings.Split(path, "/")
	for depth := range parts {
		base := strings.Join(parts[:depth], "/")
		if text, found := files[base]; found {
			rules = Parse(rules, base, []byte(text))
		}
		if rules.Match(strings.Join(parts[:depth+1], "/"), isDir || depth < len(parts)-1) {
			return true
		}
	}
	return false
}

func compare(t *testing.T, files map[string]string, directories, paths []string) {
	t.Helper()
	repository := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", repository).CombinedOutput(); err != nil {
		t.Fatalf("git init: %s", out)
	}
	for _, directory := range directories {
		if err := os.MkdirAll(filepath.Join(repository, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for base, text := range files {
		if err := os.MkdirAll(filepath.Join(repository, base), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(repository, base, ".gitignore"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := checkIgnore(t, repository, paths)
	for _, path := range paths {
		info, err := os.Lstat(filepath.Join(repository, path))
		isDir := err == nil && info.IsDir()
		if got := ours(files, path, isDir); got != git[path] {
			t.Errorf("%q (folder: %v): ignored %v, git says %v; files %q", path, isDir, got, git[path], files)
		}
	}
}

func TestAgreesWithGitOnThePagesExamples(t *testing.T) {
	files := map[string]string{
		"": "# comment\n\\#hash\n*.o\n!keep.o\nbuild/\n/only-top\ndoc/frotz/\nfoo/*\n**/deep\na/**/b\nabc/**\n" +
			"trail   \nspace\\ \n[a-c]x\n[!d]y\n[[:digit:]]z\nesc\\*aped\n\\!bang\nq?\nmore/**/\nx*y/z\n*.tmp/\nend\\\n[z-a]k\n[]]b\n[a-]c\ncr\r\n",
		"sub":   "!*.o\nlocal\n/anchored\n*.log\n",
		"sub/d": "*\n!*.txt\n!.gitignore\n",
	}
	directories := []string{"build", "x/build", "foo/bar", "a/x/y/b", "sub/d/e", "abc/d", "doc/frotz", "q/doc/frotz", "more/a", "thing.tmp"}
	names := []string{"#hash", "a.o", "keep.o", "sub/a.o", "sub/keep.o", "build", "build/x", "x/build", "only-top", "sub/only-top",
		"doc/frotz", "q/doc/frotz", "foo/bar", "foo/a", "foo", "deep", "x/deep", "a/b", "a/x/b", "a/x/y/b", "abc", "abc/d", "abc/x",
		"trail", "trail   ", "space ", "space", "ax", "dx", "dy", "cy", "5z", "az", "esc*aped", "escxaped", "!bang", "q1", "q12",
		"sub/local", "local", "sub/anchored", "sub/d/anchored", "sub/x.log", "x.log", "sub/d/f", "sub/d/f.txt", "sub/d/e/f.txt",
		"more", "more/a", "more/a/b", "xay/z", "xy/z", "thing.tmp", "thing.tmp/x", "end\\", "zk", "]b", "-c", "ac", "bc", "cr", "cr\r",
		"x/a.o", "deep/x", "sub/deep"}
	compare(t, files, directories, names)
}

// TestAgreesWithGitOnRandomPatterns builds patterns and paths of the same few letters, so that many match.
func TestAgreesWithGitOnRandomPatterns(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	pieces := []string{"a", "b", "ab", "*", "?", "**", "/", "/", "[ab]", "[!a]", "[^b-c]", "\\a", "!", " ", "c", "[a", "*a", "[[:alpha:]]", "\\"}
	word := func(n int) string {
		var text strings.Builder
		for range 1 + random.Intn(n) {
			text.WriteString(pieces[random.Intn(len(pieces))])
		}
		return text.String()
	}
	for round := range 60 {
		files := map[string]string{}
		for _, base := range []string{"", "a", "a/b"} {
			var lines []string
			for range random.Intn(6) {
				lines = append(lines, word(5))
			}
			files[base] = strings.Join(lines, "\n") + "\n"
		}
		directories := []string{"a/b", "b/a", "ab", "c/a/b"}
		var paths []string
		for _, x := range []string{"a", "b", "ab", "c", "aa", "a b"} {
			paths = append(paths, x)
			for _, y := range []string{"a", "b", "ab", "c"} {
				paths = append(paths, x+"/"+y)
				for _, z := range []string{"a", "b", "c"} {
					paths = append(paths, x+"/"+y+"/"+z)
				}
			}
		}
		t.Run(fmt.Sprint(round), func(t *testing.T) { compare(t, files, directories, paths) })
	}
}

func FuzzMatchEnds(f *testing.F) {
	f.Add("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("**/**/**/x", "a/b/c/d/e/f")
	f.Add("[a-z", "a")
	f.Fuzz(func(_ *testing.T, pattern, path string) {
		rules := Parse(nil, "", []byte(pattern))
		if path != "" {
			rules.Match(path, false)
		}
	})
}
