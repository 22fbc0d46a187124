package volumes

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// flushPrefix begins the name of the momentary snapshot of subvolume.flush.
	flushPrefix = ".flush-"
	// nestingLimit bounds the depth of subvolumes in subvolumes that delete descends.
	nestingLimit = 1000
	// subvolumeRootInode is the inode number of every subvolume's top.
	subvolumeRootInode = 256
)

type subvolumeMade struct {
	SubvolumeID uint64 `json:"subvolumeId"`
	UUID        string `json:"uuid"`
}

type subvolume struct {
	SubvolumeID uint64  `json:"subvolumeId"`
	ParentID    uint64  `json:"parentId"`
	UUID        string  `json:"uuid"`
	ParentUUID  *string `json:"parentUuid"`
	ReadOnly    bool    `json:"readOnly"`
	Generation  uint64  `json:"generation"`
	CreatedAt   string  `json:"createdAt"`
}

type createInput struct {
	header
	Path    string   `json:"path"`
	Inherit []string `json:"inherit"`
}

func (in createInput) check() error { return checkPath("path", in.Path) }

func subvolumeCreate(_ context.Context, _ *server, in *createInput) (subvolumeMade, error) {
	args := &volArgsV2{}
	return makeSubvolume(iocSubvolCreateV2, args, in.Path, in.Inherit)
}

type snapshotInput struct {
	header
	Source   string   `json:"source"`
	Path     string   `json:"path"`
	ReadOnly bool     `json:"readOnly"`
	Inherit  []string `json:"inherit"`
}

func (in snapshotInput) check() error {
	if err := checkPath("source", in.Source); err != nil {
		return err
	}
	return checkPath("path", in.Path)
}

func subvolumeSnapshot(_ context.Context, _ *server, in *snapshotInput) (subvolumeMade, error) {
	source, err := openSubvolume(in.Source)
	if err != nil {
		return subvolumeMade{}, err
	}
	defer unix.Close(source)
	args := &volArgsV2{fd: int64(source)}
	if in.ReadOnly {
		args.flags |= subvolReadonly
	}
	return makeSubvolume(iocSnapCreateV2, args, in.Path, in.Inherit)
}

func makeSubvolume(number uintptr, args *volArgsV2, path string, parents []string) (subvolumeMade, error) {
	parent, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return subvolumeMade{}, err
	}
	defer unix.Close(parent)
	if err := putName(args.name[:], filepath.Base(path)); err != nil {
		return subvolumeMade{}, err
	}
	var inherit qgroupInherit
	if len(parents) > 0 {
		if len(parents) > inheritLimit {
			return subvolumeMade{}, invalid(fmt.Sprintf("inherit: more than %d groups", inheritLimit))
		}
		inherit.numQgroups = uint64(len(parents))
		for at, name := range parents {
			if inherit.qgroups[at], err = parseQgroup(name); err != nil {
				return subvolumeMade{}, err
			}
		}
		args.flags |= subvolQgroupInherit
		args.size = uint64(unsafe.Offsetof(inherit.qgroups)) + 8*inherit.numQgroups
		args.inherit = uint64(uintptr(unsafe.Pointer(&inherit)))
	}
	err = ioctl(parent, number, args)
	runtime.KeepAlive(&inherit)
	if err != nil {
		return subvolumeMade{}, failure("make subvolume", path, err)
	}
	fd, err := openSubvolume(path)
	if err != nil {
		return subvolumeMade{}, err
	}
	defer unix.Close(fd)
	info, err := subvolumeInfo(fd)
	if err != nil {
		return subvolumeMade{}, failure("look at subvolume", path, err)
	}
	return subvolumeMade{SubvolumeID: info.treeID, UUID: formatUUID(info.uuid)}, nil
}

// subvolumeFlush writes out the unwritten data of one subvolume: taking a snapshot does exactly that, and for no other
// subvolume of the pool, which syncfs would.
func subvolumeFlush(cx context.Context, s *server, in *pathInput) (empty, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return empty{}, err
	}
	path := filepath.Join(filepath.Dir(in.Path), flushPrefix+hex.EncodeToString(random[:]))
	if _, err := subvolumeSnapshot(cx, s, &snapshotInput{Source: in.Path, Path: path, ReadOnly: true}); err != nil {
		return empty{}, err
	}
	_, err := subvolumeDelete(cx, s, &pathInput{Path: path})
	return empty{}, err
}

type deleted struct {
	SubvolumeIDs []uint64 `json:"subvolumeIds"`
}

func subvolumeDelete(_ context.Context, _ *server, in *pathInput) (deleted, error) {
	fd, err := openSubvolume(in.Path)
	if err != nil {
		return deleted{}, err
	}
	info, err := subvolumeInfo(fd)
	unix.Close(fd)
	if err != nil {
		return deleted{}, failure("look at subvolume", in.Path, err)
	}
	parent, err := openDirectory(filepath.Dir(in.Path))
	if err != nil {
		return deleted{}, err
	}
	defer unix.Close(parent)
	args := &volArgs{}
	if err := putName(args.name[:], filepath.Base(in.Path)); err != nil {
		return deleted{}, err
	}
	var ids []uint64
	err = ioctl(parent, iocSnapDestroy, args)
	if err == unix.ENOTEMPTY {
		if err = deleteNested(parent, info.treeID, 0, &ids); err != nil {
			return deleted{}, failure("delete subvolumes nested in", in.Path, err)
		}
		err = ioctl(parent, iocSnapDestroy, args)
	}
	if err != nil {
		return deleted{}, failure("delete subvolume", in.Path, err)
	}
	return deleted{SubvolumeIDs: append(ids, info.treeID)}, nil
}

// deleteNested deletes, by id and deepest first, the subvolumes that a guest made inside one.
func deleteNested(fd int, id uint64, depth int, ids *[]uint64) error {
	if depth > nestingLimit {
		return invalid("subvolumes are nested too deep")
	}
	var children []uint64
	err := searchTree(fd, span{rootTree, id, id, typeRootRef, typeRootRef}, func(found item) error {
		children = append(children, found.offset)
		return nil
	})
	if err != nil {
		return err
	}
	for _, child := range children {
		args := &volArgsV2{flags: subvolByID}
		binary.NativeEndian.PutUint64(args.name[:8], child)
		err := ioctl(fd, iocSnapDestroyV2, args)
		if err == unix.ENOTEMPTY {
			if err = deleteNested(fd, child, depth+1, ids); err == nil {
				err = ioctl(fd, iocSnapDestroyV2, args)
			}
		}
		if err != nil {
			return err
		}
		*ids = append(*ids, child)
	}
	return nil
}

type readonlyInput struct {
	header
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly"`
}

func (in readonlyInput) check() error { return checkPath("path", in.Path) }

func subvolumeSetReadonly(_ context.Context, _ *server, in *readonlyInput) (empty, error) {
	fd, err := openSubvolume(in.Path)
	if err != nil {
		return empty{}, err
	}
	defer unix.Close(fd)
	var flags uint64
	if err := ioctl(fd, iocSubvolGetFlags, &flags); err != nil {
		return empty{}, failure("read the flags of", in.Path, err)
	}
	if in.ReadOnly {
		flags |= subvolReadonly
	} else {
		flags &^= subvolReadonly
	}
	return empty{}, failure("set the flags of", in.Path, ioctl(fd, iocSubvolSetFlags, &flags))
}

func subvolumeShow(_ context.Context, _ *server, in *pathInput) (subvolume, error) {
	fd, err := openSubvolume(in.Path)
	if err != nil {
		return subvolume{}, err
	}
	defer unix.Close(fd)
	info, err := subvolumeInfo(fd)
	if err != nil {
		return subvolume{}, failure("look at subvolume", in.Path, err)
	}
	return subvolume{
		SubvolumeID: info.treeID,
		ParentID:    info.parentID,
		UUID:        formatUUID(info.uuid),
		ParentUUID:  uuidOrNull(info.parentUUID),
		ReadOnly:    info.flags&1 != 0,
		Generation:  info.generation,
		CreatedAt:   formatTime(info.otime.seconds, info.otime.nanoseconds),
	}, nil
}

type listed struct {
	subvolume
	Path string `json:"path"`
}

type subvolumesResult struct {
	Subvolumes []listed `json:"subvolumes"`
}

func subvolumeList(_ context.Context, _ *server, in *pathInput) (subvolumesResult, error) {
	fd, err := openDirectory(in.Path)
	if err != nil {
		return subvolumesResult{}, err
	}
	defer unix.Close(fd)
	list, err := listSubvolumes(fd)
	return subvolumesResult{Subvolumes: list}, failure("list subvolumes of", in.Path, err)
}

// Offsets in struct btrfs_root_item.
const (
	rootGeneration = 160
	rootFlags      = 208
	rootRefs       = 216
	rootUUID       = 247
	rootParentUUID = 263
	rootOtime      = 339
	rootItemBytes  = 439
)

func listSubvolumes(fd int) ([]listed, error) {
	type place struct {
		parent, directory uint64
		name              string
	}
	places := map[uint64]place{}
	list := []listed{}
	all := span{rootTree, firstFreeObject, lastFreeObject, typeRootItem, typeRootBackref}
	err := searchTree(fd, all, func(found item) error {
		body := found.body
		switch {
		case found.kind == typeRootBackref && len(body) > 18:
			places[found.object] = place{
				parent:    found.offset,
				directory: binary.LittleEndian.Uint64(body),
				name:      string(body[18:]),
			}
		case found.kind == typeRootItem && len(body) >= rootItemBytes:
			if binary.LittleEndian.Uint32(body[rootRefs:]) == 0 {
				return nil
			}
			list = append(list, listed{subvolume: subvolume{
				SubvolumeID: found.object,
				UUID:        formatUUID([16]byte(body[rootUUID:])),
				ParentUUID:  uuidOrNull([16]byte(body[rootParentUUID:])),
				ReadOnly:    binary.LittleEndian.Uint64(body[rootFlags:])&1 != 0,
				Generation:  binary.LittleEndian.Uint64(body[rootGeneration:]),
				CreatedAt: formatTime(binary.LittleEndian.Uint64(body[rootOtime:]),
					binary.LittleEndian.Uint32(body[rootOtime+8:])),
			}})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, entry := range list {
		path, id := "", entry.SubvolumeID
		for depth := 0; id != topSubvolume; depth++ {
			at, known := places[id]
			if !known || depth > nestingLimit {
				path = ""
				break
			}
			directory, err := lookupDirectory(fd, at.parent, at.directory)
			if err == unix.ENOENT {
				path = ""
				break
			}
			if err != nil {
				return nil, err
			}
			path = strings.TrimSuffix(directory+at.name+"/"+path, "/")
			id = at.parent
		}
		if path == "" {
			// Deleted since the items were read.
			continue
		}
		entry.ParentID, entry.Path = places[entry.SubvolumeID].parent, path
		kept = append(kept, entry)
	}
	return kept, nil
}

func subvolumeInfo(fd int) (*subvolInfoArgs, error) {
	info := &subvolInfoArgs{}
	return info, ioctl(fd, iocSubvolInfo, info)
}

func openDirectory(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return fd, failure("open", path, err)
}

// openSubvolume opens the top of a subvolume; anything else is not-found.
func openSubvolume(path string) (int, error) {
	fd, err := openDirectory(path)
	if err != nil {
		return -1, err
	}
	var stat unix.Stat_t
	var fs unix.Statfs_t
	if err = unix.Fstat(fd, &stat); err == nil {
		err = unix.Fstatfs(fd, &fs)
	}
	if err != nil {
		unix.Close(fd)
		return -1, failure("stat", path, err)
	}
	if fs.Type != unix.BTRFS_SUPER_MAGIC || stat.Ino != subvolumeRootInode {
		unix.Close(fd)
		return -1, notFound(path + " is not a btrfs subvolume")
	}
	return fd, nil
}

func putName(field []byte, name string) error {
	if name == "/" || name == "." || name == ".." || len(name) >= len(field) || len(name) > 255 {
		return invalid(fmt.Sprintf("not a name: %q", name))
	}
	copy(field, name)
	return nil
}

func formatUUID(id [16]byte) string {
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

func uuidOrNull(id [16]byte) *string {
	if id == [16]byte{} {
		return nil
	}
	text := formatUUID(id)
	return &text
}

func formatTime(seconds uint64, nanoseconds uint32) string {
	return time.Unix(int64(seconds), int64(nanoseconds)).UTC().Format("2006-01-02T15:04:05.000Z")
}
