package files

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/pattern"
	"pyro.dev/agent/internal/tree"
)

const (
	// temporaryPrefix begins the name under which a file is written before it is moved into place.
	temporaryPrefix = ".pyro-write-"
	newFileMode     = 0o644
)

var modePattern = pattern.Lazy(`^0?[0-7]{3}$`)

// Write puts a whole file in place, or with oldText one in which that text is replaced: a reader sees the old file or the
// new one. An existing file keeps its owner, extended attributes and, unless the request says otherwise, its mode; hard
// links to it keep the old content. Folders that are missing are made.
func Write(request *message.WriteFile) (message.WriteFileResult, error) {
	w, mode, err := beginWrite(request)
	if err != nil {
		return message.WriteFileResult{}, err
	}
	result, err := w.write(request, mode)
	if err != nil {
		w.undo()
		return message.WriteFileResult{}, err
	}
	w.end()
	return result, nil
}

func beginWrite(request *message.WriteFile) (*walk, *uint32, error) {
	if len(request.DataBase64) > FileLimitBytes || len(request.OldTextBase64) > FileLimitBytes {
		return nil, nil, message.Errorf(message.KindLimit, "a file may be written with at most %d bytes", FileLimitBytes)
	}
	edits := request.OldTextBase64 != nil
	if edits && len(request.OldTextBase64) == 0 {
		return nil, nil, message.Errorf(message.KindInvalid, "the text to replace is empty")
	}
	var mode *uint32
	if request.Mode != nil {
		if !modePattern().MatchString(*request.Mode) {
			return nil, nil, message.Errorf(message.KindInvalid, "the mode %q is not like 0644", message.Clip(*request.Mode, 32))
		}
		bits, err := strconv.ParseUint(*request.Mode, 8, 32)
		if err != nil {
			return nil, nil, message.Errorf(message.KindInvalid, "the mode is not like 0644: %v", err)
		}
		narrow := uint32(bits)
		mode = &narrow
	}
	w, err := begin(request.Root, request.Path, !edits)
	return w, mode, err
}

func (w *walk) write(request *message.WriteFile, mode *uint32) (message.WriteFileResult, error) {
	name, before, exists, err := w.file()
	switch {
	case err != nil:
		return message.WriteFileResult{}, err
	case exists && before.Mode&unix.S_IFMT != unix.S_IFREG:
		return message.WriteFileResult{}, w.notAFile(before.Mode)
	case !exists && request.OldTextBase64 != nil:
		return message.WriteFileResult{}, w.explain(unix.ENOENT)
	}
	parts := [][]byte{request.DataBase64}
	result := message.WriteFileResult{Created: !exists}
	if request.OldTextBase64 != nil {
		var count int64
		if parts, count, err = w.edited(name, request); err != nil {
			return message.WriteFileResult{}, err
		}
		result.Replaced = &count
	}
	after := uint32(newFileMode)
	if exists {
		after = before.Mode & 0o7777
	}
	if mode != nil {
		after = *mode
	}
	if err := w.replace(name, exists, after, parts); err != nil {
		return message.WriteFileResult{}, w.explain(err)
	}
	for _, part := range parts {
		result.SizeBytes += int64(len(part))
	}
	result.Mode = octal(after)
	return result, nil
}

// edited is the content of a file with the text replaced, in parts.
func (w *walk) edited(name string, request *message.WriteFile) ([][]byte, int64, error) {
	content, err := w.content(name)
	if err != nil {
		return nil, 0, err
	}
	old, replacement := request.OldTextBase64, request.DataBase64
	found := occurrences(content, old, request.ReplaceAll)
	if len(found) == 0 || len(found) > 1 && !request.ReplaceAll {
		return nil, 0, w.mismatch(content, old, found)
	}
	if size := int64(len(content)) + int64(len(found))*int64(len(replacement)-len(old)); size > FileLimitBytes {
		return nil, 0, message.Errorf(message.KindLimit, "%q would have %d bytes, more than %d", w.path, size, FileLimitBytes)
	}
	parts := make([][]byte, 0, 2*len(found)+1)
	at := 0
	for _, begin := range found {
		parts = append(parts, content[at:begin], replacement)
		at = begin + len(old)
	}
	return append(parts, content[at:]), int64(len(found)), nil
}

func (w *walk) content(name string) ([]byte, error) {
	file, stat, err := w.openFile(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if stat.Size > FileLimitBytes {
		return nil, message.Errorf(message.KindLimit, "%q has %d bytes; text can be replaced in files of up to %d", w.path, stat.Size, FileLimitBytes)
	}
	content := make([]byte, stat.Size)
	n, err := readAt(file, content, 0)
	if err != nil {
		return nil, w.explain(err)
	}
	return content[:n], nil
}

// occurrences are the places of text: those that can be replaced together, or all, overlapping ones too.
func occurrences(content, text []byte, apart bool) []int {
	var found []int
	for at := 0; ; {
		next := bytes.Index(content[at:], text)
		if next < 0 {
			return found
		}
		found = append(found, at+next)
		if at += next + 1; apart {
			at += len(text) - 1
		}
	}
}

// replace writes beside the file and renames.
func (w *walk) replace(name string, exists bool, mode uint32, parts [][]byte) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	temporary := temporaryPrefix + hex.EncodeToString(random[:])
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := openat(w.folder(), temporary, flags, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = writeParts(fd, parts)
	if err == nil && exists {
		err = w.likeBefore(fd, name)
	}
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if err == nil {
		err = unix.Renameat(w.folder(), temporary, w.folder(), name)
	}
	if err != nil {
		_ = unix.Unlinkat(w.folder(), temporary, 0)
	}
	return err
}

func writeParts(fd int, parts [][]byte) error {
	for _, part := range parts {
		for len(part) > 0 {
			n, err := unix.Write(fd, part)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			part = part[n:]
		}
	}
	return nil
}

// likeBefore gives the new file the owner and the attributes of the one it replaces. Capabilities do not outlive a change
// of content, as in the kernel.
func (w *walk) likeBefore(fd int, name string) error {
	before, stat, err := w.openFile(name)
	if err != nil {
		return err
	}
	defer before.Close()
	if stat.Uid != 0 || stat.Gid != 0 {
		if err := unix.Fchown(fd, int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	attributes, err := tree.Xattrs(int(before))
	if err != nil {
		return err
	}
	for _, attribute := range attributes {
		if !strings.HasPrefix(attribute.Name, "user.") && !strings.HasPrefix(attribute.Name, "system.posix_acl_") {
			continue
		}
		if err := unix.Fsetxattr(fd, attribute.Name, attribute.Value, 0); err != nil && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}
