// Package identity writes what distinguishes one workspace from another of the same environment into its disk.
package identity

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

// temporaryName is written first and then renamed over what it replaces.
const temporaryName = ".pyro-identity"

const hostnameLimitBytes = 64

// Identity is workspaceIdentity of packages/protocol/src/guest/offline.ts.
type Identity struct {
	Hostname  string `json:"hostname"`
	MachineID string `json:"machineId"`
}

// File is one of those in /etc that say who the workspace is.
type File struct{ Name, Text string }

// Files refuses an identity that is none.
func (i Identity) Files() ([]File, error) {
	name := i.Hostname
	if name == "" || len(name) > hostnameLimitBytes || strings.ContainsAny(name, "/ \t\r\n\x00") {
		return nil, message.Errorf(message.KindInvalid, "not a hostname: %q", name)
	}
	if len(i.MachineID) != 32 || strings.Trim(i.MachineID, "0123456789abcdef") != "" {
		return nil, message.Errorf(message.KindInvalid, "not a machine id: %q", i.MachineID)
	}
	return []File{
		{"hostname", name + "\n"},
		{"hosts", "127.0.0.1\tlocalhost\n127.0.1.1\t" + name + "\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{"machine-id", i.MachineID + "\n"},
		// The host's name servers, which builders copy into environments, mean nothing here.
		{"resolv.conf", "# This workspace has no name server.\n"},
	}, nil
}

// places are where an identity stands.
var places = []struct {
	folder string
	names  []string
}{
	{"etc", []string{"hostname", "hosts", "machine-id", "resolv.conf"}},
	{"var/lib/dbus", []string{"machine-id"}},
}

// MakeRoom deletes the folders that stand in these places: whatever else does is easily replaced, also in an image.
func MakeRoom(root int) error {
	for _, place := range places {
		for _, name := range place.names {
			if err := deleteFolder(root, place.folder, name); err != nil {
				return fmt.Errorf("delete /%s/%s: %w", place.folder, name, err)
			}
		}
	}
	return nil
}

func deleteFolder(root int, folder, name string) error {
	dir, err := unix.Openat(root, folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isNoFolder(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var stat unix.Stat_t
	err = unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		_, err = tree.Delete(context.Background(), dir, name)
	}
	return err
}

func isNoFolder(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

// Write gives the volume with this root its names. What stood there, symlinks included, is replaced and not followed.
func Write(root int, identity Identity) error {
	files, err := identity.Files()
	if err != nil {
		return err
	}
	if err := MakeRoom(root); err != nil {
		return err
	}
	etc, err := folder(root, "etc")
	if err != nil {
		return err
	}
	defer unix.Close(etc)
	for _, file := range files {
		if err := replaceFile(etc, file.Name, file.Text); err != nil {
			return fmt.Errorf("write /etc/%s: %w", file.Name, err)
		}
	}
	return linkDbusID(root, etc)
}

// folder opens a folder of the volume, through symlinks as a process inside would, and makes it when missing.
func folder(root int, name string) (int, error) {
	if err := unix.Mkdirat(root, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make /%s: %w", name, err)
	}
	fd, err := unix.Openat(root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, message.Errorf(message.KindInvalid, "/%s of the environment is not a folder: %v", name, err)
	}
	return fd, nil
}

// linkDbusID makes dbus agree with systemd, where dbus has an id of its own: one in /etc, to which links may lead, it shares.
func linkDbusID(root, etc int) error {
	const name = "machine-id"
	dbus, err := unix.Openat(root, "var/lib/dbus", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isNoFolder(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open /var/lib/dbus: %w", err)
	}
	defer unix.Close(dbus)
	same, err := isSame(dbus, etc)
	if err != nil || same {
		return err
	}
	var stat unix.Stat_t
	err = unix.Fstatat(dbus, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		err = replace(dbus, name, func() error { return unix.Symlinkat("/etc/machine-id", dbus, temporaryName) })
	}
	if err != nil {
		return fmt.Errorf("link /var/lib/dbus/machine-id: %w", err)
	}
	return nil
}

func isSame(one, other int) (bool, error) {
	var a, b unix.Stat_t
	if err := unix.Fstat(one, &a); err != nil {
		return false, err
	}
	err := unix.Fstat(other, &b)
	return a.Dev == b.Dev && a.Ino == b.Ino, err
}

func replaceFile(dir int, name, text string) error {
	return replace(dir, name, func() error {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err := unix.Openat(dir, temporaryName, flags, 0o644)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n, err := unix.Write(fd, []byte(text))
		if err == nil && n != len(text) {
			err = unix.ENOSPC
		}
		return err
	})
}

// replace makes an entry under the temporary name and renames it over name, whatever that was but a folder.
func replace(dir int, name string, create func() error) error {
	err := create()
	if err == unix.EEXIST {
		if err = unix.Unlinkat(dir, temporaryName, 0); err == nil {
			err = create()
		}
	}
	if err != nil {
		return err
	}
	return unix.Renameat(dir, temporaryName, dir, name)
}
