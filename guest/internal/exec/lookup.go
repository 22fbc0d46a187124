package exec

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// fallbackPath is used when the command's environment has no PATH.
const fallbackPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookUpProgram finds what execvp(3) would find from within cwd.
func lookUpProgram(name, cwd string, env []string) (string, *message.StartError) {
	if name == "" {
		return "", startError(message.StartNotFound, "the command is empty")
	}
	if strings.Contains(name, "/") {
		path := within(cwd, name)
		refused, missing := examineProgram(name, path)
		if missing {
			refused = startError(message.StartNotFound, "%s: there is no such file", name)
		}
		return path, refused
	}
	var denied *message.StartError
	for entry := range strings.SplitSeq(searchPath(env), ":") {
		path := filepath.Join(within(cwd, entry), name)
		refused, missing := examineProgram(name, path)
		if refused == nil && !missing {
			return path, nil
		}
		if denied == nil {
			denied = refused
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", startError(message.StartNotFound, "%s: not found in PATH", name)
}

// examineProgram says why a file cannot be executed. That there is none is no more than that: most of PATH is like that.
func examineProgram(name, path string) (refused *message.StartError, missing bool) {
	status, err := stat(path)
	kind := status.Mode & unix.S_IFMT
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return nil, true
	case err != nil:
		return startError(message.StartCannotRun, "%s: %s", name, reason(err)), false
	case kind == unix.S_IFDIR:
		return startError(message.StartCannotRun, "%s: is a folder", name), false
	case kind != unix.S_IFREG:
		return startError(message.StartCannotRun, "%s: is not a regular file", name), false
	case status.Mode&0o111 == 0:
		return startError(message.StartCannotRun, "%s: is not executable", name), false
	}
	return nil, false
}

func stat(path string) (status unix.Stat_t, err error) {
	_, err = ignoringEINTR(func() (int, error) { return 0, unix.Stat(path, &status) })
	return status, err
}

func within(cwd, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(cwd, path)
}

func searchPath(env []string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if path, isPath := strings.CutPrefix(env[i], "PATH="); isPath {
			return path
		}
	}
	return fallbackPath
}

// startError is printed as it is: texts that would do more to a terminal than be seen are quoted.
func startError(kind message.StartErrorKind, format string, args ...any) *message.StartError {
	for at, arg := range args {
		if text, isText := arg.(string); isText && strings.ContainsFunc(text, isControl) {
			args[at] = strconv.QuoteToGraphic(text)
		}
	}
	return &message.StartError{Kind: kind, Message: message.Clip(fmt.Sprintf(format, args...), 4096)}
}

func isControl(r rune) bool { return !unicode.IsGraphic(r) }

// examineFolder says why cwd cannot be the working folder.
func examineFolder(cwd string) *message.StartError {
	if !filepath.IsAbs(cwd) {
		return startError(message.StartBadCwd, "the working folder %s is not an absolute path", cwd)
	}
	status, err := stat(cwd)
	switch {
	case err == unix.ENOENT:
		return startError(message.StartBadCwd, "the working folder %s does not exist", cwd)
	case err != nil:
		return startError(message.StartBadCwd, "the working folder %s: %s", cwd, reason(err))
	case status.Mode&unix.S_IFMT != unix.S_IFDIR:
		return startError(message.StartBadCwd, "the working folder %s is not a folder", cwd)
	}
	return nil
}

// mayEnter reports whether the account has search permission on every folder on the way to cwd, judged by mode bits.
func mayEnter(cwd string, who account) bool {
	if who.uid == 0 {
		return true
	}
	for folder := filepath.Clean(cwd); ; folder = filepath.Dir(folder) {
		status, err := stat(folder)
		if err != nil {
			return false
		}
		if !maySearch(status, who) {
			return false
		}
		if folder == "/" {
			return true
		}
	}
}

func maySearch(status unix.Stat_t, who account) bool {
	if status.Uid == who.uid {
		return status.Mode&0o100 != 0
	}
	for _, gid := range append([]uint32{who.gid}, who.groups...) {
		if status.Gid == gid {
			return status.Mode&0o010 != 0
		}
	}
	return status.Mode&0o001 != 0
}
