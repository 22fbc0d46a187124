package exec

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	passwdText = `root:x:0:0:root:/root:/bin/bash
# comment:x:1:1::/:
broken line
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
1234:x:77:77:a name of digits:/digits:/bin/sh
node:x:1000:1000:::/bin/sh
huge:x:4294967296:1::/h:/bin/sh
negative:x:-1:1::/h:/bin/sh
twin:x:1000:1001::/twin:/bin/sh
far:x:100000:5::/h:/bin/sh
joined:x:3000:3000::/h:/bin/sh
last:x:2000:2000::/last`
	groupText = `root:x:0:
staff:x:50:node,other
docker:x:999:other,node
node:x:1000:node
broken
odd:x:nan:node
far:x:100000:joined
5:x:55:`
)

func TestUsersAreFoundByNameAndNumber(t *testing.T) {
	for text, want := range map[string]string{
		"root":       "root 0:0 [0] /root",
		"0":          "root 0:0 [0] /root",
		"node":       "node 1000:1000 [1000 50 999] /",
		"1000":       "node 1000:1000 [1000 50 999] /",
		"1234":       "1234 77:77 [77] /digits",
		"77":         "1234 77:77 [77] /digits",
		"4000":       "4000 4000:0 [0] /",
		"node:staff": "node 1000:50 [50] /",
		"node:12":    "node 1000:12 [12] /",
		"node:5":     "node 1000:55 [55] /",
		"4000:4001":  "4000 4000:4001 [4001] /",
		"65535":      "65535 65535:0 [0] /",
	} {
		found, failure := findAccount(text, []byte(passwdText), []byte(groupText))
		got := fmt.Sprintf("%s %d:%d %v %s", found.name, found.uid, found.gid, found.groups, found.home)
		if failure != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, failure, want)
		}
	}
}

func TestUsersThatDoNotExistAreNamed(t *testing.T) {
	for _, text := range []string{
		"nobody-here", "", "-1", "4294967295", "99999999999", "huge", "negative", "broken line", "# comment", "+5", " 0",
		"node:", "node:no-group", "node:-1", ":0", "node:staff:x", "65536", "4294967294", "node:65536", "far", "far:0", "joined",
	} {
		if found, failure := findAccount(text, []byte(passwdText), []byte(groupText)); failure == nil {
			t.Errorf("%q is %+v", text, found)
		}
	}
}

func TestRootExistsWithoutAnyFile(t *testing.T) {
	for _, text := range []string{"root", "0", "root:0"} {
		found, failure := findAccount(text, nil, nil)
		if failure != nil || found.uid != 0 || found.gid != 0 || found.home != "/root" || found.name != "root" {
			t.Errorf("%s: got %+v %v", text, found, failure)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add("node:staff", passwdText, groupText)
	f.Add("0", "::::::", ":::")
	f.Add("1", "a:b:1:1:c:d", "a:b:1:a,a,,")
	f.Fuzz(func(t *testing.T, text, passwd, groups string) {
		found, failure := findAccount(text, []byte(passwd), []byte(groups))
		if failure != nil {
			return
		}
		if len(found.groups) == 0 || len(found.groups) > groupsLimit || strings.ContainsRune(found.home, 0) || found.home == "" {
			t.Errorf("got %+v", found)
		}
	})
}

func TestWhoRunsIsWhatTheFilesSayNow(t *testing.T) {
	folder := t.TempDir()
	book := accounts{passwd: folder + "/passwd", group: folder + "/group"}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted := "dev"
	expect := func(uid, gid uint32) {
		t.Helper()
		for range 2 {
			found, failure := book.lookUp(&wanted)
			if failure != nil || found.uid != uid || found.groups[len(found.groups)-1] != gid {
				t.Fatalf("got %+v, %v", found, failure)
			}
		}
	}
	for round := range uint32(20) {
		write(book.passwd, fmt.Sprintf("dev:x:%d:7::/:\n", 100+round))
		write(book.group, fmt.Sprintf("wheel:x:%d:dev\n", 200+round))
		expect(100+round, 200+round)
		write(book.group, fmt.Sprintf("wheel:x:%d:dev\n", 300+round))
		expect(100+round, 300+round)
	}
	time.Sleep(settledAfter + 100*time.Millisecond)
	expect(119, 319)
	if len(book.known) != 1 {
		t.Error("nothing is remembered")
	}
	write(book.group, "wheel:x:555:dev\n")
	expect(119, 555)
	if err := os.Remove(book.passwd); err != nil {
		t.Fatal(err)
	}
	if _, failure := book.lookUp(&wanted); failure == nil {
		t.Error("a user is found in a file that is gone")
	}
	none := accounts{passwd: folder + "/none", group: folder + "/none"}
	for range 2 {
		if found, failure := none.lookUp(nil); failure != nil || found.name != "root" || found.home != "/root" {
			t.Errorf("without files: got %+v, %v", found, failure)
		}
	}
}
