package exec

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

const (
	// accountsLimitBytes bounds /etc/passwd and /etc/group, which belong to whoever is root inside.
	accountsLimitBytes = 4 << 20
	// groupsLimit is what setgroups(2) takes.
	groupsLimit = 65536
	maxID       = 1<<32 - 2
	// lastID is the last one that the user namespace of a sandbox has. gVisor's own kernel would take others, too, which own nothing
	// on the disk.
	lastID = 65535
)

// account is who a command runs as.
type account struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
	home   string
}

const (
	// knownAccounts bounds what is remembered: whoever is root inside decides how many groups each has.
	knownAccounts = 4
	// settledAfter is longer than the clock of a filesystem stands still: a file that changed before it shows the next change.
	settledAfter = time.Second
)

// accounts remembers who was looked up as long as both files stay as they are: most commands run as the same user.
type accounts struct {
	passwd, group string

	mu     sync.Mutex
	stamps [2]stamp
	known  map[string]account
}

// stamp is of a file as it was; the zero stamp of one that there is not.
type stamp struct {
	device, inode uint64
	bytes         int64
	changed       unix.Timespec
}

// lookUp understands `NAME`, `UID`, either followed by `:GROUP` or `:GID`; nil is root.
func (a *accounts) lookUp(wanted *string) (account, *message.StartError) {
	text := "0"
	if wanted != nil && *wanted != "" {
		text = *wanted
	}
	settled := time.Now().Add(-settledAfter)
	a.mu.Lock()
	defer a.mu.Unlock()
	stamps := a.stampsNow()
	if stamps != a.stamps || a.known == nil {
		a.stamps, a.known = stamps, map[string]account{}
	}
	if found, isKnown := a.known[text]; isKnown {
		return found, nil
	}
	found, failure := a.read(text)
	if failure != nil || len(a.known) >= knownAccounts || !stamps[0].before(settled) || !stamps[1].before(settled) {
		return found, failure
	}
	// What was read may have been another file.
	if a.stampsNow() == stamps {
		a.known[text] = found
	}
	return found, nil
}

func (a *accounts) stampsNow() [2]stamp { return [2]stamp{stampOf(a.passwd), stampOf(a.group)} }

func stampOf(path string) stamp {
	status, err := stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{status.Dev, status.Ino, status.Size, status.Ctim}
}

func (s stamp) before(moment time.Time) bool { return time.Unix(s.changed.Unix()).Before(moment) }

func (a *accounts) read(text string) (account, *message.StartError) {
	passwd, err := readAccounts(a.passwd)
	if err != nil {
		return account{}, badUser("cannot read %s: %s", a.passwd, err)
	}
	groups, err := readAccounts(a.group)
	if err != nil {
		return account{}, badUser("cannot read %s: %s", a.group, err)
	}
	return findAccount(text, passwd, groups)
}

func findAccount(text string, passwd, groups []byte) (account, *message.StartError) {
	user, group, hasGroup := strings.Cut(text, ":")
	found, ok := findUser(user, passwd)
	if !ok {
		return account{}, badUser("there is no user %q in /etc/passwd", user)
	}
	if hasGroup {
		gid, ok := findGroup(group, groups)
		if !ok {
			return account{}, badUser("there is no group %q in /etc/group", group)
		}
		found.gid = gid
		found.groups = []uint32{gid}
	} else {
		found.groups = supplementary(found, groups)
	}
	if found.uid > lastID {
		return account{}, badUser("user %q: id %d does not exist in a sandbox, which has 0 to %d", found.name, found.uid, lastID)
	}
	for _, gid := range found.groups {
		if gid > lastID {
			return account{}, badUser("user %q: group %d does not exist in a sandbox, which has 0 to %d", found.name, gid, lastID)
		}
	}
	return found, nil
}

func badUser(format string, args ...any) *message.StartError {
	return &message.StartError{Kind: message.StartBadUser, Message: message.Clip(fmt.Sprintf(format, args...), 1024)}
}

// findUser: a name goes before a number, as in useradd's own order; an unknown number is a user without a home.
func findUser(wanted string, passwd []byte) (account, bool) {
	id, isID := parseID(wanted)
	var byID account
	hasID := false
	for line := range bytes.Lines(passwd) {
		entry, ok := parseUser(line)
		if !ok {
			continue
		}
		if entry.name == wanted {
			return entry, true
		}
		if isID && !hasID && entry.uid == id {
			byID, hasID = entry, true
		}
	}
	switch {
	case hasID:
		return byID, true
	case isID && id == 0:
		return account{name: "root", home: "/root"}, true
	case isID:
		return account{name: wanted, uid: id, home: "/"}, true
	case wanted == "root":
		return account{name: "root", home: "/root"}, true
	}
	return account{}, false
}

// parseUser understands `name:password:uid:gid:gecos:home:shell`.
func parseUser(line []byte) (account, bool) {
	fields := strings.Split(strings.TrimRight(string(line), "\n"), ":")
	if len(fields) < 6 || fields[0] == "" || strings.HasPrefix(fields[0], "#") {
		return account{}, false
	}
	uid, uidOk := parseID(fields[2])
	gid, gidOk := parseID(fields[3])
	if !uidOk || !gidOk || strings.IndexByte(fields[0], 0) >= 0 || strings.IndexByte(fields[5], 0) >= 0 {
		return account{}, false
	}
	home := fields[5]
	if home == "" {
		home = "/"
	}
	// Of its own: who is remembered must not keep a line that is as long as root inside likes.
	return account{name: strings.Clone(fields[0]), uid: uid, gid: gid, home: strings.Clone(home)}, true
}

// eachGroup calls with the fields of `name:password:gid:member,member`.
func eachGroup(groups []byte, visit func(name string, gid uint32, members string) (goOn bool)) {
	for line := range bytes.Lines(groups) {
		fields := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(fields) < 3 || fields[0] == "" {
			continue
		}
		gid, ok := parseID(fields[2])
		if !ok {
			continue
		}
		members := ""
		if len(fields) > 3 {
			members = fields[3]
		}
		if !visit(fields[0], gid, members) {
			return
		}
	}
}

func findGroup(wanted string, groups []byte) (uint32, bool) {
	found, isFound := uint32(0), false
	eachGroup(groups, func(name string, gid uint32, _ string) bool {
		if name == wanted {
			found, isFound = gid, true
		}
		return !isFound
	})
	if isFound {
		return found, true
	}
	return parseID(wanted)
}

func supplementary(a account, groups []byte) []uint32 {
	list := []uint32{a.gid}
	seen := map[uint32]bool{a.gid: true}
	eachGroup(groups, func(_ string, gid uint32, members string) bool {
		for member := range strings.SplitSeq(members, ",") {
			if member == a.name && !seen[gid] {
				seen[gid] = true
				list = append(list, gid)
			}
		}
		return len(list) < groupsLimit
	})
	return list
}

func parseID(text string) (uint32, bool) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil && id <= maxID
}

// readAccounts reads a regular file of bounded size; one that is missing is empty. It takes no more calls than needed.
func readAccounts(path string) ([]byte, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	file, err := unix.Open(path, flags, 0)
	for err == unix.EINTR {
		file, err = unix.Open(path, flags, 0)
	}
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(file)
	var status unix.Stat_t
	if err := unix.Fstat(file, &status); err != nil {
		return nil, err
	}
	if status.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if status.Size > accountsLimitBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, accountsLimitBytes)
	}
	content := make([]byte, status.Size)
	for read := 0; read < len(content); {
		n, err := unix.Pread(file, content[read:], int64(read))
		if n <= 0 || err != nil {
			return content[:read], nil
		}
		read += n
	}
	return content, nil
}
