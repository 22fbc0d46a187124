package inspect

import (
	"archive/tar"
	"fmt"
	"slices"
	"time"

	"pyro.dev/agent/internal/message"
)

// ExportSummary is exportSummary of packages/protocol/src/guest/offline.ts.
type ExportSummary struct {
	Type     string `json:"type"`
	Files    int64  `json:"files"`
	Bytes    int64  `json:"bytes"`
	GitHooks bool   `json:"gitHooks"`
	Skipped  int64  `json:"skipped"`
}

const (
	tarBlockBytes = 512
	// linkBytesLimit bounds the paths that are kept.
	linkBytesLimit = 64 << 20
	// rootName is what the root of a volume is called.
	rootName = "root"
)

// export streams one file or folder of a volume as a tar.
func export(path string, from volume, out *frameStream) (ExportSummary, error) {
	parts, found, err := resolve(from, path, false)
	if err == errUnresolvable || err == nil && !found {
		return ExportSummary{}, notThere(path)
	}
	if err != nil {
		return ExportSummary{}, err
	}
	name, as, above := "", rootName, parts
	if last := len(parts) - 1; last >= 0 {
		name, as, above = parts[last], parts[last], parts[:last]
	}
	folder, err := from.open(above)
	if err != nil {
		return ExportSummary{}, fmt.Errorf("open the folder of %s: %w", path, err)
	}
	defer folder.leave()
	x := exporter{out: out, links: map[uint64]string{}}
	x.inGit = slices.Contains(above, gitFolder)
	x.summary.GitHooks = x.inGit && slices.Contains(parts[1:], "hooks")
	return x.whole(path, folder, name, as)
}

// exportImage is export out of an image; what is not readable from outside is no error as long as nothing was sent.
func exportImage(path string, file descriptor, image *Image, out *frameStream) (any, error) {
	v, err := openImage(file, image)
	if err == nil {
		var summary ExportSummary
		if summary, err = export(path, v, out); err == nil {
			return summary, nil
		}
	}
	return leftToKernel(err, out.began)
}

func notThere(path string) error {
	return message.Errorf(message.KindNotFound, "there is no %s in this state of the workspace", path)
}

type exporter struct {
	out     *frameStream
	summary ExportSummary
	held    heldNames
	// links holds the first name of every file with several, and linkBytes how long these are. A file beyond the limits is
	// in the tar as often as it has names.
	links     map[uint64]string
	linkBytes int
	inGit     bool
}

// whole writes name of folder, called as, and the end of the tar.
func (x *exporter) whole(path string, folder folderView, name, as string) (ExportSummary, error) {
	m, found, err := folder.stat(name)
	if err != nil {
		return ExportSummary{}, err
	}
	if !found {
		return ExportSummary{}, notThere(path)
	}
	x.summary.Type = m.typeName()
	if m.gitMode() == 0 && !m.isFolder() {
		return ExportSummary{}, message.Errorf(message.KindNotAFile, "%s is a %s, neither a file, a folder nor a symlink", path, x.summary.Type)
	}
	if err := x.entry(folder, name, as, &m); err != nil {
		return ExportSummary{}, err
	}
	if _, err := x.out.Write(make([]byte, 2*tarBlockBytes)); err != nil {
		return ExportSummary{}, err
	}
	return x.summary, x.out.Flush()
}

func (x *exporter) entry(folder folderView, name, path string, m *meta) error {
	if len(path) > pathLimitBytes {
		return message.Errorf(message.KindLimit, "a path is longer than %d bytes; look at a smaller part", pathLimitBytes)
	}
	header := tar.Header{
		Name: path, Mode: int64(m.permissions()), Uid: int(m.uid), Gid: int(m.gid),
		ModTime: time.Unix(m.modified.Sec, int64(m.modified.Nsec)), Format: tar.FormatPAX,
	}
	switch {
	case m.isFolder():
		header.Typeflag, header.Name = tar.TypeDir, path+"/"
		if err := x.header(&header); err != nil {
			return err
		}
		return x.folder(folder, name, path)
	case m.isSymlink():
		target, err := folder.readLink(name)
		if err != nil {
			return fmt.Errorf("read the link %q: %w", path, err)
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
		x.summary.Files++
		return x.header(&header)
	case !m.isFile():
		x.summary.Skipped++
		return nil
	}
	x.summary.Files++
	if m.links > 1 {
		if first, known := x.links[m.inode]; known {
			header.Typeflag, header.Linkname = tar.TypeLink, first
			return x.header(&header)
		}
		if len(x.links) < linkedFilesLimit && x.linkBytes+len(path) <= linkBytesLimit {
			x.links[m.inode] = path
			x.linkBytes += len(path)
		}
	}
	header.Typeflag, header.Size = tar.TypeReg, m.size
	if err := x.header(&header); err != nil {
		return err
	}
	x.summary.Bytes += m.size
	return x.content(folder, name, path, m.size)
}

func (x *exporter) header(header *tar.Header) error {
	if err := tar.NewWriter(x.out).WriteHeader(header); err != nil {
		return fmt.Errorf("describe %q: %w", header.Name, err)
	}
	return nil
}

func (x *exporter) folder(parent folderView, name, path string) error {
	dir := parent
	if name != "" {
		var err error
		if dir, err = parent.enter(name); err != nil {
			return fmt.Errorf("open %q: %w", path, err)
		}
	}
	err := x.below(dir, path, name)
	if dir != parent {
		if left := dir.leave(); err == nil {
			err = left
		}
	}
	return err
}

func (x *exporter) below(dir folderView, path, name string) error {
	isGit := name == gitFolder
	names, err := x.held.list(dir)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	x.held += heldNames(len(names))
	defer func() { x.held -= heldNames(len(names)) }()
	for _, one := range names {
		m, found, err := dir.stat(one.Name)
		if err != nil || !found {
			return fmt.Errorf("stat %q: %w", path+"/"+one.Name, err)
		}
		x.summary.GitHooks = x.summary.GitHooks || isGit && one.Name == "hooks"
		if err := x.entry(dir, one.Name, path+"/"+one.Name, &m); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) content(folder folderView, name, path string, size int64) error {
	if err := folder.send(name, size, x.out); err != nil {
		return fmt.Errorf("send %q: %w", path, err)
	}
	return x.out.zeros(-size & (tarBlockBytes - 1))
}
