package archive

import (
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

// imageParent opens a folder of a root filesystem. Layers may name paths through symlinks of earlier ones, so symlinks
// are followed, but only as the image itself would: the root of the image is the root of the process.
func (x *Extractor) imageParent(folder string) (int, error) {
	fd, err := x.folders.get(folder, true)
	if err != unix.ENOTDIR && err != unix.ELOOP {
		return fd, err
	}
	return x.follow(folder)
}

func (x *Extractor) follow(folder string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(x.folders.root, folder, &how)
	if err != nil {
		return -1, err
	}
	// Not remembered by its path, which may come to mean another folder; freed with the next one.
	if x.followed >= 0 {
		unix.Close(x.followed)
	}
	x.followed = fd
	return fd, nil
}

const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
	// whiteoutMeta begins the names of other marks of layered filesystems, which say nothing here.
	whiteoutMeta = ".wh..wh."
)

// Layer applies one layer of an image on what is there: entries replace, whiteouts delete.
func (x *Extractor) Layer(cx context.Context, from io.Reader) error {
	reader := plainReader(io.NopCloser(from))
	made := map[string]struct{}{}
	for {
		if err := cx.Err(); err != nil {
			return err
		}
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return x.Finish()
		}
		if err != nil {
			return err
		}
		// Layers may name entries from the root.
		header.Name = strings.TrimLeft(header.Name, "/")
		path, err := cleanName(header.Name, x.options.Limits.PathBytes)
		if err != nil {
			return err
		}
		folder, name := splitPath(path)
		if strings.HasPrefix(name, whiteoutPrefix) || strings.HasPrefix(path, whiteoutMeta) {
			if err := x.Count(header); err != nil {
				return err
			}
			if err := x.explain(header.Name, x.whiteout(cx, folder, name, made)); err != nil {
				return err
			}
			continue
		}
		if err := x.Entry(header, reader); err != nil {
			return err
		}
		for ; path != ""; path, _ = splitPath(path) {
			if _, known := made[path]; known {
				break
			}
			made[path] = struct{}{}
		}
	}
}

// whiteout deletes what lower layers put there; what this layer made stays.
func (x *Extractor) whiteout(cx context.Context, folder, name string, made map[string]struct{}) error {
	if name != opaqueWhiteout && (strings.HasPrefix(name, whiteoutMeta) || strings.HasPrefix(folder, whiteoutMeta)) {
		return nil
	}
	parent, err := x.existing(folder)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	if name == opaqueWhiteout {
		return x.opaque(cx, folder, made)
	}
	name = strings.TrimPrefix(name, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return refuse(message.KindUnsafeEntry, folder+"/"+whiteoutPrefix+name, "%s is a whiteout of no name")
	}
	return x.deleteLower(cx, parent, folder, name, made)
}

// opaque empties a folder of what lower layers put below it. Tools write the mark first, then little is there to keep.
func (x *Extractor) opaque(cx context.Context, folder string, made map[string]struct{}) error {
	parent, err := x.existing(folder)
	if err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := tree.ReadNames(parent)
	if err != nil {
		return err
	}
	var kept []string
	for _, entry := range names {
		path := strings.TrimPrefix(folder+"/"+entry.Name, "/")
		if _, own := made[path]; own && entry.Kind == unix.DT_DIR {
			kept = append(kept, path)
			continue
		}
		if err := x.deleteLower(cx, parent, folder, entry.Name, made); err != nil {
			return err
		}
	}
	for _, path := range kept {
		if err := x.opaque(cx, path, made); err != nil {
			return err
		}
	}
	return nil
}

func (x *Extractor) deleteLower(cx context.Context, parent int, folder, name string, made map[string]struct{}) error {
	path := strings.TrimPrefix(folder+"/"+name, "/")
	if _, own := made[path]; own {
		return nil
	}
	x.folders.forget(path)
	_, err := tree.Delete(cx, parent, name)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// existing opens a folder that is there; the descriptor is good until the next call.
func (x *Extractor) existing(folder string) (int, error) {
	fd, err := x.folders.get(folder, false)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return x.follow(folder)
	}
	return fd, err
}
