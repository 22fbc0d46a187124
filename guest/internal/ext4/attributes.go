package ext4

import (
	"slices"
	"strings"

	"pyro.dev/agent/internal/tree"
)

const (
	attributesMagic       = 0xea020000
	attributeHeaderBytes  = 32
	attributeEntryBytes   = 16
	attributeSumAt        = 0x10
	attributeAlignment    = 4
	attributeACLAccess    = 2
	attributeACLDefault   = 3
	attributeSecurity     = 6
	capabilityName        = "security.capability"
	capabilityRevision    = 0xff000000
	capabilityOfOthers    = 0x03000000
	capabilityOfRoot      = 0x02000000
	capabilityEffective   = 1
	capabilityBytes       = 20
	capabilityBytesOthers = 24

	aclVersion      = 1
	aclShownVersion = 2
	aclShownBytes   = 8
	aclUser         = 0x02
	aclGroup        = 0x08
	aclNobody       = ^uint32(0)
)

// attributePrefixes are the namespaces that a kernel shows to those who may not administer it: what is trusted, and what
// it has no name for, is not among them.
var attributePrefixes = map[byte]string{
	1: "user.", attributeACLAccess: "system.posix_acl_access", attributeACLDefault: "system.posix_acl_default",
	attributeSecurity: "security.", 10: "gnu.",
}

func (i *Inode) takeAttributes(raw []byte, extra int) {
	i.attributeBlock = int64(little.Uint32(raw[0x68:])) | int64(little.Uint16(raw[0x76:]))<<32
	rest := raw[inodeBytesLeast:][extra:]
	if len(rest) >= 8 && little.Uint32(rest) == attributesMagic {
		i.extra = slices.Clone(rest[4:])
	}
}

// Attributes are the extended attributes as tree.Xattrs lists them, sorted by name.
func (i *Inode) Attributes() ([]tree.Xattr, error) {
	if i.extra == nil && i.attributeBlock == 0 {
		return nil, nil
	}
	attributes, err := i.parseAttributes(nil, i.extra, 0)
	if err != nil {
		return nil, err
	}
	if i.attributeBlock != 0 {
		block, err := i.readAttributeBlock()
		if err != nil {
			return nil, err
		}
		if attributes, err = i.parseAttributes(attributes, block, attributeHeaderBytes); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(attributes, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return attributes, nil
}

func (i *Inode) readAttributeBlock() ([]byte, error) {
	f := i.filesystem
	block := make([]byte, f.blockBytes)
	if err := f.read(block, i.attributeBlock*f.blockBytes); err != nil {
		return nil, err
	}
	if little.Uint32(block) != attributesMagic || little.Uint32(block[8:]) != 1 {
		return nil, unreadable("the attributes of inode %d", i.Number)
	}
	if f.checked {
		var number [8]byte
		little.PutUint64(number[:], uint64(i.attributeBlock))
		sum := checksum(checksum(f.seed, number[:]), block[:attributeSumAt])
		sum = checksum(sum, make([]byte, 4))
		sum = checksum(sum, block[attributeSumAt+4:])
		if sum != little.Uint32(block[attributeSumAt:]) {
			return nil, unreadable("the checksum of the attributes of inode %d", i.Number)
		}
	}
	return block, nil
}

// parseAttributes reads the entries from a place on; their values lie anywhere in raw.
func (i *Inode) parseAttributes(into []tree.Xattr, raw []byte, at int) ([]tree.Xattr, error) {
	damaged := unreadable("the attributes of inode %d", i.Number)
	for used := 0; len(raw) > 0; {
		if at+4 > len(raw) {
			return nil, damaged
		}
		if little.Uint32(raw[at:]) == 0 {
			break
		}
		if at+attributeEntryBytes > len(raw) {
			return nil, damaged
		}
		entry := raw[at:]
		length, index := int(entry[0]), entry[1]
		offset, size := int64(little.Uint16(entry[2:])), int64(little.Uint32(entry[8:]))
		if little.Uint32(entry[4:]) != 0 {
			return nil, unreadable("inode %d has an attribute in an inode of its own", i.Number)
		}
		if attributeEntryBytes+length > len(entry) || offset+size > int64(len(raw)) {
			return nil, damaged
		}
		// Values do not overlap: all of them have room beside each other.
		if used += int(size); used > len(raw) {
			return nil, damaged
		}
		prefix, isKnown := attributePrefixes[index]
		name := prefix + string(entry[attributeEntryBytes:][:length])
		value := slices.Clone(raw[offset:][:size])
		at += (attributeEntryBytes + length + attributeAlignment - 1) &^ (attributeAlignment - 1)
		switch {
		case !isKnown:
			continue
		case index == attributeACLAccess || index == attributeACLDefault:
			var err error
			if value, err = i.shownACL(value); err != nil {
				return nil, err
			}
			if value == nil {
				continue
			}
		case name == capabilityName:
			value = shownCapability(value)
		}
		into = append(into, tree.Xattr{Name: name, Value: value})
	}
	return into, nil
}

// shownACL gives an access control list, which lies there without the ids that most of its entries do not need, as acl(5)
// programs get it. An empty one is none.
func (i *Inode) shownACL(stored []byte) ([]byte, error) {
	damaged := unreadable("the access control list of inode %d", i.Number)
	if len(stored) < 4 || little.Uint32(stored) != aclVersion {
		return nil, damaged
	}
	var shown []byte
	for rest := stored[4:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, damaged
		}
		if shown == nil {
			shown = little.AppendUint32(nil, aclShownVersion)
		}
		id, size := aclNobody, 4
		if tag := little.Uint16(rest); tag == aclUser || tag == aclGroup {
			if size = aclShownBytes; len(rest) < size {
				return nil, damaged
			}
			id = little.Uint32(rest[4:])
		}
		shown = little.AppendUint32(append(shown, rest[:4]...), id)
		rest = rest[size:]
	}
	return shown, nil
}

// shownCapability gives a file's capabilities as they are in the namespace of the disk: those of its root have no owner.
func shownCapability(stored []byte) []byte {
	isOthers := len(stored) == capabilityBytesOthers && little.Uint32(stored)&capabilityRevision == capabilityOfOthers
	if !isOthers || little.Uint32(stored[capabilityBytes:]) != 0 {
		return stored
	}
	shown := stored[:capabilityBytes]
	little.PutUint32(shown, capabilityOfRoot|little.Uint32(shown)&capabilityEffective)
	return shown
}
