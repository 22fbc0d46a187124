package volumes

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Trees and item types of btrfs that are read here.
const (
	rootTree  = 1
	quotaTree = 8

	typeRootItem       = 132
	typeRootBackref    = 144
	typeRootRef        = 156
	typeQgroupStatus   = 240
	typeQgroupInfo     = 242
	typeQgroupLimit    = 244
	typeQgroupRelation = 246

	firstFreeObject = 256
	topSubvolume    = 5
	lastFreeObject  = math.MaxUint64 - 255
)

// item is one key of a btrfs tree with its body.
type item struct {
	object, offset uint64
	kind           uint32
	body           []byte
}

// span is a range of keys: all of the types between, for all objects between.
type span struct {
	tree                 uint64
	minObject, maxObject uint64
	minType, maxType     uint32
}

// searchTree calls visit for every item in the span, in key order.
func searchTree(fd int, want span, visit func(item) error) error {
	return (&searcher{fd: fd}).since(0, want, visit)
}

// searcher is for many searches: it keeps its buffer.
type searcher struct {
	fd   int
	args searchArgsFull
	// limit is how many bytes of items all searches may read together; 0 for no limit.
	limit, read int
}

// since leaves out the parts of the tree that were written before the transaction. The kernel compares whole keys, so
// items of other types between two objects come along and are dropped here.
func (s *searcher) since(transaction uint64, want span, visit func(item) error) error {
	args, fd := &s.args, s.fd
	args.bufSize = searchBufferBytes
	key := &args.key
	*key = searchKey{minTransaction: transaction}
	key.treeID = want.tree
	key.minObject, key.maxObject = want.minObject, want.maxObject
	key.minType, key.maxType = want.minType, want.maxType
	key.maxOffset, key.maxTransact = math.MaxUint64, math.MaxUint64
	for {
		key.items = math.MaxUint32
		if err := ioctl(fd, iocTreeSearchV2, args); err != nil {
			return err
		}
		if key.items == 0 {
			return nil
		}
		at := 0
		var last item
		for range key.items {
			if at+searchHeaderBytes > len(args.buffer) {
				break
			}
			head := args.buffer[at:]
			last = item{
				object: binary.NativeEndian.Uint64(head[8:]),
				offset: binary.NativeEndian.Uint64(head[16:]),
				kind:   binary.NativeEndian.Uint32(head[24:]),
			}
			size := int(binary.NativeEndian.Uint32(head[28:]))
			at += searchHeaderBytes
			last.body = args.buffer[at : at+size]
			at += size
			if last.kind < want.minType || last.kind > want.maxType {
				continue
			}
			if err := visit(last); err != nil {
				return err
			}
		}
		if s.read += at; s.limit > 0 && s.read > s.limit {
			return errTooMuch
		}
		if !nextKey(key, last) {
			return nil
		}
	}
}

// nextKey moves the start of the search behind the last key seen; false at the end of all keys.
func nextKey(key *searchKey, last item) bool {
	key.minObject, key.minType, key.minOffset = last.object, last.kind, last.offset
	switch {
	case key.minOffset < math.MaxUint64:
		key.minOffset++
	case key.minType < 255:
		key.minType++
		key.minOffset = 0
	case key.minObject < key.maxObject:
		key.minObject++
		key.minType, key.minOffset = 0, 0
	default:
		return false
	}
	return true
}

// lookupDirectory gives the path of a directory inside its subvolume, with a slash at the end ("" for the top).
func lookupDirectory(fd int, tree, directory uint64) (string, error) {
	args := &lookupArgs{treeID: tree, objectID: directory}
	if err := ioctl(fd, iocInodeLookup, args); err != nil {
		return "", err
	}
	return cString(args.name[:]), nil
}

func cString(field []byte) string {
	for at, b := range field {
		if b == 0 {
			return string(field[:at])
		}
	}
	return string(field)
}

var _ = [1]struct{}{}[unsafe.Sizeof(searchKey{})-104]
