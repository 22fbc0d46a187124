package archive

import (
	"archive/tar"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// openMetadata sets what an open file takes besides its times; owners first, as they clear set-id bits and capabilities.
func (x *Extractor) openMetadata(fd int, header *tar.Header, mode uint32) error {
	if x.options.Image {
		if header.Uid != 0 || header.Gid != 0 {
			if err := unix.Fchown(fd, header.Uid, header.Gid); err != nil {
				return ownerError(header, err)
			}
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	if x.options.Image {
		return setXattrs(fd, header)
	}
	return nil
}

// nodeMetadata is openMetadata and times for what is not opened.
func (x *Extractor) nodeMetadata(parent int, name string, header *tar.Header) error {
	if x.options.Image && (header.Uid != 0 || header.Gid != 0) {
		if err := unix.Fchownat(parent, name, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return ownerError(header, err)
		}
	}
	return unix.UtimesNanoAt(parent, name, timespecs(header.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

func ownerError(header *tar.Header, err error) error {
	if err == unix.EINVAL {
		return refuse(message.KindInvalid, header.Name, "%s belongs to user %d and group %d, which are outside the ids of a workspace", header.Uid, header.Gid)
	}
	return err
}

const xattrRecord = "SCHILY.xattr."

func setXattrs(fd int, header *tar.Header) error {
	for key, value := range header.PAXRecords {
		name, found := strings.CutPrefix(key, xattrRecord)
		if !found || !(strings.HasPrefix(name, "user.") || name == "security.capability" ||
			strings.HasPrefix(name, "system.posix_acl_")) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}

func timespecs(t time.Time) []unix.Timespec {
	stamp, err := unix.TimeToTimespec(t)
	if err != nil {
		stamp = unix.Timespec{}
	}
	return []unix.Timespec{stamp, stamp}
}

func futimens(fd int, t time.Time) error { return futimensSpec(fd, timespecs(t)[0]) }

func futimensSpec(fd int, stamp unix.Timespec) error {
	times := [2]unix.Timespec{stamp, stamp}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
