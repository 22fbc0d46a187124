package attributes

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func git(t *testing.T, repository string, stdin string, args ...string) []byte {
	t.Helper()
	command := exec.Command("git", append([]string{"-C", repository}, args...)...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_ATTR_NOSYSTEM=1")
	command.Stdin = strings.NewReader(stdin)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, &complaint)
	}
	return out
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// rulesOf reads the files on the way to path as the inspector does.
func rulesOf(files map[string]string, path string) *Rules {
	rules := Top([]byte(files[".gitattributes"]), []byte(files[".git/info/attributes"]), false)
	for at, c := range path {
		if c != '/' {
			continue
		}
		if text, found := files[path[:at]+"/.gitattributes"]; found {
			rules = Below(rules, path[:at], []byte(text), false)
		}
	}
	return rules
}

// compare asks git for the attributes of every path.
func compare(t *testing.T, files map[string]string, paths []string) {
	t.Helper()
	repository := t.TempDir()
	git(t, repository, "", "init", "-q")
	write(t, repository, files)
	asked := []string{"text", "crlf", "eol"}
	args := append([]string{"check-attr", "-z", "--stdin"}, asked...)
	answers := strings.Split(string(git(t, repository, strings.Join(paths, "\x00")+"\x00", args...)), "\x00")
	words := map[string]value{"set": isSet, "unset": isUnset, "unspecified": isUnspecified}
	for at := 0; at+2 < len(answers); at += 3 {
		path, name, want := answers[at], answers[at+1], words[answers[at+2]]
		if want == "" {
			want = value("=" + answers[at+2])
		}
		found := rulesOf(files, path).lookUp(path, 0)
		got, known := found.values[name]
		if !known {
			got = isUnspecified
		}
		if got != want {
			t.Errorf("%s of %q is %q, git says %q; files %q", name, path, got, want, files)
		}
	}
}

func TestAgreesWithGitOnThePagesExamples(t *testing.T) {
	files := map[string]string{
		".gitattributes": "\xef\xbb\xbf* text=auto\n*.bat text eol=crlf\r\n*.sln\teol=crlf  \n# *.c -text\n  *.c text\n/only -text\nfolder/ -text\n!*.x text\n\\!bang text\n" +
			"\"a b.txt\" eol=lf\n\"q\\\"\\101\\t\" eol=crlf\n\"broken eol=lf\n*.png binary\n[attr]win text eol=crlf\n[attr]both win -text\n[attr]bad= text\n" +
			"*.cmd win\n*.ps1 both\n*.y -bad=1 text\n*.z te*t eol=crlf\n*.v -text eol=crlf !text\n*.w text\n*.w !text\n*.no -win\n*.off !win win\n*.noteol eol\n" +
			"*.late late\n[attr]late eol=lf\n[attr]late text=input\n**/deep/*.d text\ndoc/*.d eol=crlf\n[attr] text\n" + strings.Repeat("x", 2100) + " text\n*.nul text\x00 eol=crlf\n*.end -text",
		"sub/.gitattributes":           "*.bat !eol\n/only eol=crlf\n[attr]nested text\n*.n nested\n*.cmd -text\nd/*.sln eol=lf\n*.png !binary\n",
		"sub/d/.gitattributes":         "*.bat eol=crlf\n* crlf=input\n",
		".git/info/attributes":         "*.info -crlf\n[attr]late eol=crlf\nsub/d/forced text\n",
		"other/.gitattributes/nothing": "",
	}
	names := []string{"x", "a.bat", "b.sln", "c.c", "only", "folder", "!bang", "a.x", "a b.txt", "q\"A\t", "\"broken", "p.png", "w.cmd", "w.ps1",
		"bad=", "a.y", "a.z", "a.v", "a.w", "a.no", "a.off", "a.noteol", "a.late", "deep/x.d", "a/deep/x.d", "doc/x.d", "doc/a/x.d", "a", "t", "[attr]", "a.nul", "a.end", "x.info", "forced", "d", "a.n"}
	var paths []string
	for _, folder := range []string{"", "sub/", "sub/d/", "other/"} {
		for _, name := range names {
			paths = append(paths, folder+name)
		}
	}
	compare(t, files, paths)
}

// TestAgreesWithGitOnRandomFiles builds patterns and paths of the same few letters, so that many match.
func TestAgreesWithGitOnRandomFiles(t *testing.T) {
	patterns := []string{"*", "a", "b", "*.c", "/a", "a/", "a/b", "**/b", "a/**", "?", "[ab]", "!a", "\\a", `"a"`, `"\142"`, `"a`, "#a", "[attr]m", "[attr]n", "[attr]text", "*.c*", "b/*"}
	states := []string{"text", "-text", "!text", "text=auto", "text=input", "text=x", "eol=crlf", "eol=lf", "eol", "-eol", "!eol", "crlf", "-crlf", "crlf=input",
		"binary", "-binary", "m", "n", "-m", "!n", "m=1", "diff", "*bad", "-", "builtin"}
	blank := []string{" ", " ", "\t", "  ", "\r"}
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewSource(seed))
			pick := func(from []string) string { return from[random.Intn(len(from))] }
			files := map[string]string{}
			for _, path := range []string{".gitattributes", "a/.gitattributes", "a/b/.gitattributes", ".git/info/attributes"} {
				var text strings.Builder
				for range random.Intn(8) {
					text.WriteString(pick(patterns))
					for range random.Intn(4) {
						text.WriteString(pick(blank) + pick(states))
					}
					text.WriteString(pick([]string{"\n", "\n", " \n", "\r\n"}))
				}
				files[path] = text.String()
			}
			var paths []string
			for _, folder := range []string{"", "a/", "b/", "a/b/", "a/c/"} {
				for _, name := range []string{"a", "b", "c.c", "d", `"a`, "text"} {
					paths = append(paths, folder+name)
				}
			}
			compare(t, files, paths)
		})
	}
}

func TestConvertsAsGitDoes(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	pieces := []string{"\r\n", "\r\n", "\r\n", "\n", "\r", "one", "two", "\x00", "\x1a", "\x01", "\x7f", "\xff", "\t", strings.Repeat("long ", 60)}
	contents := []string{"", "\n", "\r", "\r\n", "\r\r\n", "\r\r\n\n", "a", "\x1a", "\x89PNG\r\n\x1a\n\x00"}
	for range 400 {
		var text strings.Builder
		// The first few alone are common files, the others rare ones.
		choice := pieces[:3+random.Intn(len(pieces)-2)]
		for range random.Intn(12) {
			text.WriteString(choice[random.Intn(len(choice))] + []string{"", "word", "word\r\n"}[random.Intn(3)])
		}
		contents = append(contents, text.String())
	}
	for attribute, conversion := range map[string]Conversion{
		"eol=crlf": CRLF, "text eol=crlf": CRLF, "text=auto eol=crlf": CRLFIfText, "-text eol=crlf": AsIs, "binary eol=crlf": AsIs, "text eol=lf": AsIs,
		"-crlf eol=crlf": AsIs, "crlf eol=crlf": CRLF, "text=x crlf=auto eol=crlf": CRLFIfText,
	} {
		t.Run(attribute, func(t *testing.T) {
			repository := t.TempDir()
			git(t, repository, "", "init", "-q")
			files := map[string]string{".gitattributes": "f* " + attribute + "\n"}
			if got, certain := rulesOf(files, "f").Of("f"); got != conversion || !certain {
				t.Fatalf("%v, certain %v", got, certain)
			}
			if attribute == "text eol=lf" {
				return
			}
			for at, content := range contents {
				files[fmt.Sprintf("f%d", at)] = content
			}
			write(t, repository, files)
			git(t, repository, "", "add", ".")
			for path := range maps.Keys(files) {
				if err := os.Remove(filepath.Join(repository, path)); err != nil {
					t.Fatal(err)
				}
			}
			git(t, repository, "", "checkout", "-q", "--", ".")
			var asked strings.Builder
			for at := range contents {
				fmt.Fprintf(&asked, ":f%d\n", at)
			}
			blobs := git(t, repository, asked.String(), "cat-file", "--batch")
			for at, content := range contents {
				path := fmt.Sprintf("f%d", at)
				header, rest, _ := bytes.Cut(blobs, []byte("\n"))
				var id, kind string
				var size int
				if _, err := fmt.Sscan(string(header), &id, &kind, &size); err != nil {
					t.Fatalf("%q: %v", header, err)
				}
				want := rest[:size]
				blobs = rest[size+1:]
				back, err := os.ReadFile(filepath.Join(repository, path))
				if err != nil {
					t.Fatal(err)
				}
				normal, exact := conversion.Normal([]byte(content))
				if !bytes.Equal(normal, want) || exact != (string(back) == content) {
					t.Errorf("%q becomes %q, exact %v; git stores %q and writes %q", content, normal, exact, want, back)
				}
			}
		})
	}
}

func TestAFileThatChangesLeavesLineEndsUncertain(t *testing.T) {
	const above = "*.bat eol=crlf\n[attr]win eol=crlf\n*.d diff\n"
	paths := []string{"sub/a.c", "sub/a.bat", "sub/d/a.c", "sub/a.d", "sub/a.x"}
	for _, one := range []struct {
		file       string
		top, below bool
		uncertain  []string
	}{
		{"*.c eol=crlf", false, true, []string{"sub/a.c", "sub/d/a.c"}},
		{"*.bat -text", false, true, []string{"sub/a.bat"}},
		{"*.bat -text", true, false, nil},
		{"*.bat -text", true, true, []string{"sub/a.bat"}},
		{"*.bat text", false, true, nil},
		{"*.c text", false, true, nil},
		{"*.c win", false, true, []string{"sub/a.c", "sub/d/a.c"}},
		{"/a.* win\n* -text", false, true, []string{"sub/a.bat"}},
		{"*.d eol=crlf", true, false, []string{"sub/a.bat"}},
		{"*.d win", true, false, []string{"sub/a.bat", "sub/a.d"}},
		{"*.d win", false, false, nil},
	} {
		below := Below(Top([]byte(above), nil, one.top), "sub", []byte(one.file), one.below)
		for _, path := range paths {
			if _, certain := below.Of(path); certain == slices.Contains(one.uncertain, path) {
				t.Errorf("%+v: %s is certain: %v", one, path, certain)
			}
		}
	}
	rules := Top([]byte("* eol=crlf"), nil, true)
	for range passingLimit {
		rules = Below(rules, "sub", []byte("* eol=crlf"), true)
	}
	if _, certain := rules.Of("sub/a"); certain {
		t.Error("all of too many files was tried")
	}
}

func TestManyLinesAreBounded(t *testing.T) {
	rules := Top(bytes.Repeat([]byte("a eol=crlf\n"), 2*linesLimit), nil, false)
	for range 3 {
		rules = Below(rules, "sub", bytes.Repeat([]byte("b eol=crlf\n"), 2*linesLimit), false)
	}
	if rules.total != linesLimit || len(rules.lines) != linesLimit {
		t.Errorf("%d and %d lines", rules.total, len(rules.lines))
	}
	var chain strings.Builder
	const depth = linesLimit - 10
	for at := range depth {
		fmt.Fprintf(&chain, "[attr]m%d m%d\n", at, at+1)
	}
	fmt.Fprintf(&chain, "[attr]m%d eol=crlf\nx m0\n", depth)
	if c, _ := Top([]byte(chain.String()), nil, false).Of("x"); c != CRLF {
		t.Errorf("%v through %d macros", c, depth)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("* text=auto eol=crlf\n[attr]m m eol=crlf\n\"\\", "a/b", "a b")
	f.Fuzz(func(_ *testing.T, file, path, content string) {
		rules := Below(Top([]byte(file), []byte(file), true), "a", []byte(file), true)
		c, _ := rules.Of(path)
		c.Normal([]byte(content))
		CRLF.Normal([]byte(content))
		CRLFIfText.Normal([]byte(content))
	})
}
