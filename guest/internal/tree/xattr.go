package tree

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributeLimitBytes bounds one extended attribute, as the kernel does.
const attributeLimitBytes = 64 << 10

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Xattrs reads the extended attributes of an open file, sorted by name; none where the filesystem has none.
func Xattrs(fd int) ([]Xattr, error) {
	// Nearly every file has none: one call without a buffer says so.
	size, err := unix.Flistxattr(fd, nil)
	if err == unix.EOPNOTSUPP || err == nil && size == 0 {
		return nil, nil
	}
	names, err := readGrowing(func(buffer []byte) (int, error) { return unix.Flistxattr(fd, buffer) })
	if err != nil {
		return nil, err
	}
	var attributes []Xattr
	for _, name := range splitNames(names) {
		value, err := readGrowing(func(buffer []byte) (int, error) { return unix.Fgetxattr(fd, name, buffer) })
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			continue
		}
		if err != nil {
			return nil, err
		}
		attributes = append(attributes, Xattr{name, value})
	}
	slices.SortFunc(attributes, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return attributes, nil
}

// SameXattrs compares two sorted lists.
func SameXattrs(a, b []Xattr) bool {
	return slices.EqualFunc(a, b, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}

func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 8 {
		size = min(size, attributeLimitBytes)
		buffer := make([]byte, size)
		n, err := read(buffer)
		if err == unix.ERANGE && size < attributeLimitBytes {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:n], nil
	}
}

func splitNames(list []byte) []string {
	var names []string
	for name := range bytes.SplitSeq(list, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names
}

// ReadLink reads the target of a symlink, whatever its length.
func ReadLink(dir int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buffer := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buffer)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buffer[:n]), nil
		}
	}
}
