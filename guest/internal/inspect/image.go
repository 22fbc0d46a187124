package inspect

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
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

// nameLimitBytes is the longest name that ext4 has.
const nameLimitBytes = 255

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
	listed *ext4.Folder
	// entered are the folders below that were walked: a folder has one name, else a walk could go on for ever.
	entered map[uint32]bool
}

func (f *imageFolder) NamesUpTo(limit int) ([]tree.Name, error) {
	if f.listed == nil {
		listed, err := f.inode.Folder(limit)
		if err != nil {
			return nil, err
		}
		f.listed = listed
	}
	return f.listed.Names, nil
}

// find gives nil where there is nothing.
func (f *imageFolder) find(name string) (*ext4.Inode, error) {
	if name == "" {
		return f.inode, nil
	}
	if len(name) > nameLimitBytes {
		return nil, unix.ENAMETOOLONG
	}
	names, err := f.NamesUpTo(heldNamesLimit)
	if err != nil {
		return nil, err
	}
	at, found := slices.BinarySearchFunc(names, name, func(one tree.Name, name string) int {
		return strings.Compare(one.Name, name)
	})
	if !found {
		return nil, nil
	}
	return f.volume.filesystem.Inode(uint32(names[at].Inode))
}

func (f *imageFolder) stat(name string) (meta, bool, error) {
	i, err := f.find(name)
	if err != nil || i == nil {
		return meta{}, false, err
	}
	modified := unix.StatxTimestamp{Sec: i.Modified.Unix(), Nsec: uint32(i.Modified.Nanosecond())}
	return meta{
		mode: i.Mode, links: i.Links, uid: i.UID, gid: i.GID, inode: uint64(i.Number), size: i.Size, modified: modified,
	}, true, nil
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
	return &imageFolder{volume: f.volume, inode: i}, nil
}

func (f *imageFolder) enter(name string) (folderView, error) {
	below, err := f.below(name)
	if err != nil {
		return nil, err
	}
	if _, err := below.NamesUpTo(heldNamesLimit); err != nil {
		return nil, err
	}
	number := below.inode.Number
	if below.listed.Above != f.inode.Number || number == f.inode.Number || f.entered[number] {
		return nil, errManyPlaces
	}
	if f.entered == nil {
		f.entered = map[uint32]bool{}
	}
	f.entered[number] = true
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
