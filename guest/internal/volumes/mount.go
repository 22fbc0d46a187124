package volumes

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"sync": unix.MS_SYNCHRONOUS, "nosymfollow": unix.MS_NOSYMFOLLOW,
}

type mountInput struct {
	header
	Source  string   `json:"source"`
	Target  string   `json:"target"`
	Type    string   `json:"type"`
	Options []string `json:"options"`
}

func (in mountInput) check() error { return checkPath("target", in.Target) }

func mountFilesystem(_ context.Context, s *server, in *mountInput) (empty, error) {
	var flags uintptr
	var data []string
	for _, option := range in.Options {
		switch flag, known := mountFlags[option]; {
		case known:
			flags |= flag
		case option == "rw":
		default:
			data = append(data, option)
		}
	}
	if err := unix.Mount(in.Source, in.Target, in.Type, flags, strings.Join(data, ",")); err != nil {
		return empty{}, failure("mount "+in.Source+" at", in.Target, err)
	}
	// The mount holds the device now.
	s.loops.release(in.Source)
	return empty{}, makePrivate(in.Target)
}

type bindInput struct {
	header
	Source string `json:"source"`
	Target string `json:"target"`
}

func (in bindInput) check() error {
	if err := checkPath("source", in.Source); err != nil {
		return err
	}
	return checkPath("target", in.Target)
}

func mountBind(_ context.Context, _ *server, in *bindInput) (empty, error) {
	if err := unix.Mount(in.Source, in.Target, "", unix.MS_BIND, ""); err != nil {
		return empty{}, failure("bind "+in.Source+" to", in.Target, err)
	}
	return empty{}, makePrivate(in.Target)
}

func makePrivate(target string) error {
	err := unix.Mount("", target, "", unix.MS_PRIVATE, "")
	if err == nil {
		return nil
	}
	if undo := unix.Unmount(target, unix.MNT_DETACH); undo != nil {
		return failure("unmount", target, undo)
	}
	return failure("make private", target, err)
}

type unmountInput struct {
	header
	Target string `json:"target"`
	Lazy   bool   `json:"lazy"`
}

func (in unmountInput) check() error { return checkPath("target", in.Target) }

type mountedResult struct {
	Mounted bool `json:"mounted"`
}

func unmount(_ context.Context, _ *server, in *unmountInput) (mountedResult, error) {
	flags := unix.UMOUNT_NOFOLLOW
	if in.Lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(in.Target, flags)
	if err == unix.EINVAL || err == unix.ENOENT {
		return mountedResult{}, nil
	}
	return mountedResult{Mounted: true}, failure("unmount", in.Target, err)
}

type mountEntry struct {
	Target  string   `json:"target"`
	Source  string   `json:"source"`
	Type    string   `json:"type"`
	Options []string `json:"options"`
	Root    string   `json:"root"`
	Device  string   `json:"device"`
}

type mountsResult struct {
	Mounts []mountEntry `json:"mounts"`
}

type prefixInput struct {
	header
	Prefix string `json:"prefix"`
}

func (in prefixInput) check() error { return checkPath("prefix", in.Prefix) }

func mountList(_ context.Context, _ *server, in *prefixInput) (mountsResult, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountsResult{}, err
	}
	result := mountsResult{Mounts: []mountEntry{}}
	prefix := strings.TrimSuffix(in.Prefix, "/")
	for line := range strings.Lines(string(text)) {
		entry, ok := parseMountinfo(line)
		if ok && (entry.Target == prefix || strings.HasPrefix(entry.Target, prefix+"/")) {
			result.Mounts = append(result.Mounts, entry)
		}
	}
	return result, nil
}

// parseMountinfo reads one line of proc(5) mountinfo: the fields before and after the lone dash.
func parseMountinfo(line string) (mountEntry, bool) {
	front, back, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
	fields, tail := strings.Fields(front), strings.Fields(back)
	if !found || len(fields) < 6 || len(tail) < 2 {
		return mountEntry{}, false
	}
	options := strings.Split(fields[5], ",")
	if len(tail) > 2 {
		options = append(options, strings.Split(tail[2], ",")...)
	}
	return mountEntry{
		Target: unescape(fields[4]), Source: unescape(tail[1]), Type: tail[0],
		Options: options, Root: unescape(fields[3]), Device: fields[2],
	}, true
}

// unescape undoes the octal escapes of mountinfo.
func unescape(text string) string {
	var plain strings.Builder
	for at := 0; at < len(text); at++ {
		if text[at] == '\\' && at+3 < len(text) {
			value := 0
			for _, digit := range []byte(text[at+1 : at+4]) {
				value = value<<3 | int(digit-'0')
			}
			plain.WriteByte(byte(value))
			at += 3
			continue
		}
		plain.WriteByte(text[at])
	}
	return plain.String()
}
