package inspect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/ignore"
	"pyro.dev/agent/internal/tree"
)

// Image says whose disk a file with an ext4 filesystem has to be.
type Image struct {
	UUID  string `json:"uuid"`
	Label string `json:"label"`
}

// Unreadable is imageUnreadable of packages/protocol/src/guest/offline.ts: a kernel has to look.
type Unreadable struct {
	Unreadable string `json:"unreadable"`
}

// leftToKernel makes an answer of an error, unless something was sent before.
func leftToKernel(err error, began bool) (any, error) {
	if errors.Is(err, ext4.ErrUnreadable) && !began {
		why := err.Error()
		return Unreadable{why[:min(len(why), whyLimitBytes)]}, nil
	}
	return nil, err
}

const (
	// nameLimitBytes is the longest name that ext4 has.
	nameLimitBytes = 255
	// whyLimitBytes of an error, which names a path, are told.
	whyLimitBytes = 1024
)

var (
	errOtherDisk  = fmt.Errorf("%w: its filesystem is not that of the workspace", ext4.ErrUnreadable)
	errManyPlaces = fmt.Errorf("%w: a folder lies in several places", ext4.ErrUnreadable)
)

// imageVolume is an image that is read without a kernel.
type imageVolume struct {
	file       descriptor
	filesystem *ext4.Filesystem
}

func openImage(file descriptor, image *Image) (imageVolume, error) {
	filesystem, err := ext4.Open(file)
	if err == nil && (hex.EncodeToString(filesystem.UUID[:]) != strings.ReplaceAll(image.UUID, "-", "") || filesystem.Label != image.Label) {
		err = errOtherDisk
	}
	return imageVolume{file, filesystem}, err
}

// device: nothing is mounted in an image.
func (v imageVolume) device() (uint64, error) { return 0, nil }

func (v imageVolume) open(parts []string) (folderView, error) {
	inode, err := v.filesystem.Inode(ext4.RootInode)
	if err != nil {
		return nil, err
	}
	folder := &imageFolder{volume: v, inode: inode}
	for _, part := range parts {
		if folder, err = folder.below(part); err != nil {
			return nil, err
		}
	}
	return folder, nil
}

// imageFolder is one folder of an image.
type imageFolder struct {
	volume imageVolume
	inode  *ext4.Inode
	// names are nil until they are listed.
	names []tree.Name
	// entered are the names of the folders below that were walked.
	entered map[uint32]string
}

func (f *imageFolder) NamesUpTo(limit int) ([]tree.Name, error) {
	if f.names == nil {
		names, err := f.inode.Names(limit)
		if err != nil {
			return nil, err
		}
		f.names = names
	}
	if len(f.names) > limit {
		return nil, tree.ErrTooManyNames
	}
	return f.names, nil
}

// find gives nil where there is nothing.
func (f *imageFolder) find(name string) (*ext4.Inode, error) {
	if name == "" {
		return f.inode, nil
	}
	if len(name) > nameLimitBytes {
		return nil, unix.ENAMETOOLONG
	}
	number := uint32(0)
	if f.names == nil {
		var err error
		if number, err = f.inode.Lookup(name); err != nil {
			return nil, err
		}
	} else if at, found := slices.BinarySearchFunc(f.names, name, func(one tree.Name, name string) int {
		return strings.Compare(one.Name, name)
	}); found {
		number = uint32(f.names[at].Inode)
	}
	if number == 0 {
		return nil, nil
	}
	return f.volume.filesystem.Inode(number)
}

func (f *imageFolder) stat(name string) (meta, bool, error) {
	i, err := f.find(name)
	if err != nil || i == nil {
		return meta{}, false, err
	}
	return meta{
		mode: i.Mode, links: i.Links, uid: i.UID, gid: i.GID, inode: uint64(i.Number), number: unix.Mkdev(i.Device()), size: i.Size,
		modified: stampOf(i.Modified), changed: nanoseconds(stampOf(i.Changed)), node: i,
	}, true, nil
}

func stampOf(t time.Time) unix.StatxTimestamp {
	return unix.StatxTimestamp{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func (f *imageFolder) readLink(name string) (string, error) {
	i, err := f.find(name)
	if err != nil {
		return "", err
	}
	if i == nil {
		return "", unix.ENOENT
	}
	return i.Target()
}

// below opens a folder that lies here and says so. One that is found in two places could hold itself.
func (f *imageFolder) below(name string) (*imageFolder, error) {
	i, err := f.find(name)
	switch {
	case err != nil:
		return nil, err
	case i == nil:
		return nil, unix.ENOENT
	case !i.IsFolder():
		return nil, unix.ENOTDIR
	}
	above, err := i.Above()
	if err != nil {
		return nil, err
	}
	if known, again := f.entered[i.Number]; above != f.inode.Number || i.Number == f.inode.Number || again && known != name {
		return nil, errManyPlaces
	}
	if f.entered == nil {
		f.entered = map[uint32]string{}
	}
	f.entered[i.Number] = name
	return &imageFolder{volume: f.volume, inode: i}, nil
}

func (f *imageFolder) enter(name string) (folderView, error) {
	below, err := f.below(name)
	if err != nil {
		return nil, err
	}
	return below, nil
}

func (f *imageFolder) leave() error { return nil }

func (f *imageFolder) send(name string, size int64, to *frameStream) error {
	i, err := f.find(name)
	if err != nil {
		return err
	}
	if i == nil || i.Size != size {
		return unix.ESTALE
	}
	return i.Extents(func(e ext4.Extent) error {
		if e.Offset < 0 {
			return to.zeros(e.Bytes)
		}
		return to.copyFrom(f.volume.file, e.Offset, e.Bytes)
	})
}

func (f *imageFolder) readSmall(parts ...string) ([]byte, error) {
	folder := f
	for _, part := range parts[:len(parts)-1] {
		var err error
		if folder, err = folder.below(part); err != nil {
			return nil, err
		}
	}
	i, err := folder.find(parts[len(parts)-1])
	if err != nil {
		return nil, err
	}
	if i == nil || !i.IsFile() {
		return nil, unix.ENOENT
	}
	content := make([]byte, min(i.Size, ignore.FileLimitBytes))
	_, err = i.Content().Read(content, 0)
	return content, err
}

func (f *imageFolder) xattrs() ([]tree.Xattr, error) { return f.inode.Attributes() }
func (f *imageFolder) share() (entries, error)       { return imageEntries{}, nil }

// imageEntries needs nothing of the folder: what stat told of knows where it lies.
type imageEntries struct{}

func (imageEntries) openEntry(_ string, m *meta) (file, error) {
	return imageNode{m.node.Content(), m.node}, nil
}

func (imageEntries) readLink(_ string, m *meta) (string, error) { return m.node.Target() }
func (imageEntries) close()                                     {}

// imageNode is a file of an image, or a folder.
type imageNode struct {
	content *ext4.Content
	inode   *ext4.Inode
}

func (f imageNode) read(buffer []byte, at int64) (int, error) { return f.content.Read(buffer, at) }
func (f imageNode) nextData(at, _ int64) (int64, error)       { return f.content.NextData(at) }
func (f imageNode) nextHole(at, _ int64) (int64, error)       { return f.content.NextHole(at) }
func (f imageNode) xattrs() ([]tree.Xattr, error)             { return f.inode.Attributes() }
func (f imageNode) close()                                    {}
