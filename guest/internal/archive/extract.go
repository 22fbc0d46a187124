package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

const (
	// copyBufferBytes moves file contents.
	copyBufferBytes = 1 << 20
	// holeBytes is the granularity in which holes of sparse entries are found again.
	holeBytes = 4096
	// progressEvery is the least time between two progress reports.
	progressEvery = 200 * time.Millisecond
	// progressCheckEntries is how often the clock is looked at.
	progressCheckEntries = 64
)

// Options of one extraction.
type Options struct {
	Limits message.ArchiveLimits
	// Root is where the root of the archive will be seen, for absolute symlinks.
	Root string
	// Image extracts a root filesystem as its owner made it: owners, set-id bits, capabilities, FIFOs and symlinks that
	// point anywhere; devices are skipped. Without it everything belongs to the extracting process.
	Image bool
	// UmaskIsZero saves a call per file.
	UmaskIsZero bool
	Progress    func(message.Progress)
}

// Result counts what was extracted; folders are no files.
type Result struct {
	Files, Bytes int64
	// Devices were skipped.
	Devices int64
}

// Extractor puts entries below an open folder.
type Extractor struct {
	options Options
	folders *folders
	result  Result
	entries int64
	times   []folderTime
	buffer  []byte
	shown   time.Time
	// followed is the folder last reached through a symlink of an image, or -1.
	followed int
}

// folderTime is set at the end, as entries change the time of their folder.
type folderTime struct {
	path string
	time time.Time
}

// NewExtractor starts an extraction below the open folder root.
func NewExtractor(root int, options Options) *Extractor {
	return &Extractor{
		options: options, folders: newFolders(root), buffer: make([]byte, copyBufferBytes), shown: time.Now(),
		followed: -1,
	}
}

// Extract puts one whole archive below the open folder root.
func Extract(cx context.Context, root int, from io.Reader, options Options) (Result, error) {
	x := NewExtractor(root, options)
	defer x.Close()
	if err := x.All(cx, from); err != nil {
		return Result{}, err
	}
	return x.result, x.Finish()
}

// Close frees descriptors.
func (x *Extractor) Close() {
	x.folders.close()
	if x.followed >= 0 {
		unix.Close(x.followed)
		x.followed = -1
	}
}

// Result is what was extracted so far.
func (x *Extractor) Result() Result { return x.result }

// All extracts every entry of a tar.
func (x *Extractor) All(cx context.Context, from io.Reader) error {
	reader, err := NewReader(from)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		if err := cx.Err(); err != nil {
			return err
		}
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.Entry(header, reader); err != nil {
			return err
		}
	}
}

// Count checks an entry against the limits.
func (x *Extractor) Count(header *tar.Header) error {
	limits := x.options.Limits
	if x.entries++; x.entries > limits.Entries {
		return refuse(message.KindTooLarge, header.Name, "the archive has more than %[2]d entries (at %[1]s)", limits.Entries)
	}
	if header.Size < 0 || header.Size > limits.Bytes-x.result.Bytes {
		return refuse(message.KindTooLarge, header.Name, "the archive unpacks to more than %[2]d bytes (at %[1]s)", limits.Bytes)
	}
	if x.options.Progress != nil && x.entries%progressCheckEntries == 0 && time.Since(x.shown) >= progressEvery {
		x.shown = time.Now()
		x.options.Progress(message.Progress{Type: "progress", Files: x.result.Files, Bytes: x.result.Bytes})
	}
	return nil
}

// Entry puts one entry on the disk.
func (x *Extractor) Entry(header *tar.Header, content io.Reader) error {
	if err := x.Count(header); err != nil {
		return err
	}
	path, err := cleanName(header.Name, x.options.Limits.PathBytes)
	if err != nil {
		return err
	}
	err = x.put(path, header, content)
	return x.explain(header.Name, err)
}

func (x *Extractor) put(path string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return x.folder(path, header)
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse:
	case tar.TypeSymlink, tar.TypeLink:
	case tar.TypeChar, tar.TypeBlock:
		if x.options.Image {
			x.result.Devices++
			return nil
		}
		return refuse(message.KindUnsafeEntry, header.Name, "%s is "+kindName(header.Typeflag))
	case tar.TypeFifo:
		if !x.options.Image {
			return refuse(message.KindUnsafeEntry, header.Name, "%s is "+kindName(header.Typeflag))
		}
	default:
		return refuse(message.KindUnsafeEntry, header.Name, "%s is "+kindName(header.Typeflag))
	}
	if path == "" {
		return refuse(message.KindUnsafeEntry, header.Name, "%s is the root of the archive and not a folder")
	}
	folder, name := splitPath(path)
	parent, err := x.parent(folder)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeSymlink:
		err = x.symlink(parent, path, name, header)
	case tar.TypeLink:
		err = x.link(parent, path, name, header)
	case tar.TypeFifo:
		err = x.replacing(parent, path, name, func() error {
			return unix.Mknodat(parent, name, unix.S_IFIFO|permissions(header, true), 0)
		})
		if err == nil {
			err = x.nodeMetadata(parent, name, header)
		}
	default:
		err = x.file(parent, path, name, header, content)
	}
	if err == nil {
		x.result.Files++
	}
	return err
}

func (x *Extractor) parent(folder string) (int, error) {
	if x.options.Image {
		return x.imageParent(folder)
	}
	return x.folders.get(folder, true)
}

// permissions are the mode bits of an entry; set-id and sticky bits only for images (sticky also for folders).
func permissions(header *tar.Header, image bool) uint32 {
	mode := uint32(header.Mode) & 0o7777
	if image {
		return mode
	}
	if header.Typeflag == tar.TypeDir {
		return mode & 0o1777
	}
	return mode & 0o777
}

func (x *Extractor) folder(path string, header *tar.Header) error {
	mode := permissions(header, x.options.Image)
	made := false
	fd := x.folders.root
	if path != "" {
		folder, name := splitPath(path)
		parent, err := x.parent(folder)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(parent, name, mode&0o777)
		made = err == nil
		if err == unix.EEXIST {
			err = x.existingFolder(parent, path, name, mode)
		}
		if err != nil {
			return err
		}
		if made && x.options.UmaskIsZero && mode&^0o777 == 0 && !x.options.Image {
			x.times = append(x.times, folderTime{path, header.ModTime})
			return nil
		}
		if fd, err = tree.OpenFolder(parent, name); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	if err := x.openMetadata(fd, header, mode); err != nil {
		return err
	}
	x.times = append(x.times, folderTime{path, header.ModTime})
	return nil
}

// existingFolder makes sure that a folder stands at name: images may replace what is there, others not.
func (x *Extractor) existingFolder(parent int, path, name string, mode uint32) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := unix.Unlinkat(parent, name, 0); err != nil {
		return err
	}
	x.folders.forget(path)
	return unix.Mkdirat(parent, name, mode&0o777)
}

// replacing runs make again after removing what stands at name. A later entry of the same name wins, as with tar; only
// a folder is not replaced by something else, except in images.
func (x *Extractor) replacing(parent int, path, name string, create func() error) error {
	err := create()
	if err != unix.EEXIST {
		return err
	}
	if err := x.Remove(parent, path, name); err != nil {
		return err
	}
	return create()
}

// Remove takes away whatever stands at name; a folder only in images.
func (x *Extractor) Remove(parent int, path, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		if !x.options.Image {
			return refuse(message.KindUnsafeEntry, path, "%s would replace a folder")
		}
		x.folders.forget(path)
		_, err = tree.Delete(context.Background(), parent, name)
	}
	return err
}

func (x *Extractor) file(parent int, path, name string, header *tar.Header, content io.Reader) error {
	mode := permissions(header, x.options.Image)
	fd := -1
	err := x.replacing(parent, path, name, func() (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = openat(parent, name, flags, mode&0o777)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if header.Size > 0 {
		if err := x.contents(fd, path, header, content); err != nil {
			return err
		}
	}
	if x.options.Image || !x.options.UmaskIsZero {
		if err := x.openMetadata(fd, header, mode); err != nil {
			return err
		}
	}
	return futimens(fd, header.ModTime)
}

func (x *Extractor) contents(fd int, path string, header *tar.Header, content io.Reader) error {
	sparse := isSparse(header)
	left := header.Size
	for left > 0 {
		chunk := x.buffer[:min(left, int64(len(x.buffer)))]
		n, err := io.ReadFull(content, chunk)
		if err != nil {
			return Damaged(path, err)
		}
		left -= int64(n)
		if sparse {
			err = writeSparse(fd, chunk)
		} else {
			err = writeAll(fd, chunk)
		}
		if err != nil {
			return err
		}
		x.result.Bytes += int64(n)
	}
	if sparse {
		return unix.Ftruncate(fd, header.Size)
	}
	return nil
}

func isSparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

var zeros [holeBytes]byte

func writeSparse(fd int, chunk []byte) error {
	for len(chunk) > 0 {
		n := min(holeBytes, len(chunk))
		if bytes.Equal(chunk[:n], zeros[:n]) {
			if _, err := unix.Seek(fd, int64(n), unix.SEEK_CUR); err != nil {
				return err
			}
		} else if err := writeAll(fd, chunk[:n]); err != nil {
			return err
		}
		chunk = chunk[n:]
	}
	return nil
}

func writeAll(fd int, chunk []byte) error {
	for len(chunk) > 0 {
		n, err := unix.Write(fd, chunk)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		chunk = chunk[n:]
	}
	return nil
}

func (x *Extractor) symlink(parent int, path, name string, header *tar.Header) error {
	target := header.Linkname
	if target == "" || len(target) > linkTargetLimitBytes || strings.ContainsRune(target, 0) {
		return refuse(message.KindUnsafeEntry, header.Name, "the symlink %s has no usable target")
	}
	if !x.options.Image && !staysInside(path, target, x.options.Root) {
		return refuse(message.KindUnsafeEntry, header.Name, "the symlink %s leaves the root: it points to %q", message.Clip(target, 512))
	}
	err := x.replacing(parent, path, name, func() error { return unix.Symlinkat(target, parent, name) })
	if err != nil {
		return err
	}
	return x.nodeMetadata(parent, name, header)
}

func (x *Extractor) link(parent int, path, name string, header *tar.Header) error {
	target, err := cleanLinkTarget(header, x.options)
	if err != nil {
		return err
	}
	folder, base := splitPath(target)
	source, err := x.parent(folder)
	if err == nil {
		// Kept open: looking for the other folder may close this one.
		if source, err = unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			defer unix.Close(source)
			folder, _ = splitPath(path)
			parent, err = x.parent(folder)
		}
	}
	var stat unix.Stat_t
	if err == nil {
		err = unix.Fstatat(source, base, &stat, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return refuse(message.KindUnsafeEntry, header.Name, "%s is a hard link to %q, which the archive does not hold", target)
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return refuse(message.KindUnsafeEntry, header.Name, "%s is a hard link to the folder %q", target)
	}
	if target == path {
		return nil
	}
	return x.replacing(parent, path, name, func() error { return unix.Linkat(source, base, parent, name, 0) })
}

func cleanLinkTarget(header *tar.Header, options Options) (string, error) {
	name := header.Linkname
	if options.Image {
		// Images are rooted: "/bin/a" and "bin/a" are one.
		name = strings.TrimLeft(name, "/")
	}
	target, err := cleanName(name, options.Limits.PathBytes)
	if err != nil || target == "" {
		return "", refuse(message.KindUnsafeEntry, header.Name, "the hard link %s leaves the root: it points to %q", message.Clip(header.Linkname, 512))
	}
	return target, nil
}

// Finish sets the times of folders, innermost last entries first.
func (x *Extractor) Finish() error {
	for at := len(x.times) - 1; at >= 0; at-- {
		entry := x.times[at]
		folder, name := splitPath(entry.path)
		var err error
		switch {
		case entry.path == "":
			err = futimens(x.folders.root, entry.time)
		default:
			var parent int
			if parent, err = x.parent(folder); err == nil {
				err = unix.UtimesNanoAt(parent, name, timespecs(entry.time), unix.AT_SYMLINK_NOFOLLOW)
			}
		}
		// A later entry may have replaced the folder.
		if err != nil && err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ELOOP {
			return x.explain(entry.path, err)
		}
	}
	x.times = nil
	return nil
}

// explain turns an errno into a typed error that names the entry.
func (x *Extractor) explain(name string, err error) error {
	var own *message.Error
	switch {
	case err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return refuse(message.KindNoSpace, name, "no space left for %s")
	case errors.Is(err, unix.EFBIG), errors.Is(err, unix.ENAMETOOLONG):
		return refuse(message.KindTooLarge, name, "%s is too large for this filesystem")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return refuse(message.KindUnsafeEntry, name, "the path of %s leads through something that is not a folder")
	case x.options.Image && errors.Is(err, unix.ENOENT):
		// Missing folders are made: only a symlink can lead to nothing.
		return refuse(message.KindUnsafeEntry, name, "the path of %s leads through a symlink to nothing")
	}
	return refuse(message.KindFailed, name, "put %s in place: %v", err)
}
