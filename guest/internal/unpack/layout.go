package unpack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"pyro.dev/agent/internal/archive"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/pattern"
)

const (
	// documentLimitBytes bounds an index, manifest or config.
	documentLimitBytes = 8 << 20
	// layoutEntriesLimit bounds the parts of an image tar.
	layoutEntriesLimit = 100_000
	// linkLimit bounds symlinks from one part to another.
	linkLimit = 8
)

// layoutName is what the parts of an OCI layout and of docker save are called. A root filesystem has other names.
var layoutName = pattern.Lazy(`^(oci-layout|index\.json|manifest\.json|repositories|blobs(/[a-z0-9]+(/[A-Fa-f0-9]+)?)?|` +
	`[0-9a-f]{64}\.(json|tar(\.gz)?)|[0-9a-f]{64}(/(VERSION|json|layer\.tar))?)$`)

// part is one file of an image tar, where its bytes are.
type part struct {
	offset, size int64
	link         string
}

// layout is an image tar, indexed.
type layout struct {
	file  io.ReadSeeker
	parts map[string]part
}

// looksLikeImage decides by names alone: the first that no image tar has makes it a root filesystem.
func looksLikeImage(from io.Reader) (bool, error) {
	reader, err := archive.NewReader(from)
	if err != nil {
		return false, err
	}
	defer reader.Close()
	known := false
	for range layoutEntriesLimit {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return known, nil
		}
		if err != nil {
			return false, err
		}
		name := partName(header.Name)
		if name == "" {
			continue
		}
		if !layoutName().MatchString(name) {
			return false, nil
		}
		known = true
	}
	return false, nil
}

func partName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// readLayout indexes an image tar; nil when it is a root filesystem.
func readLayout(file io.ReadSeeker, limits message.ArchiveLimits) (*layout, error) {
	if compressed, err := archive.IsCompressed(file); err != nil || compressed {
		// A compressed image was made plain before; this is a root filesystem.
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	found := &layout{file: file, parts: map[string]part{}}
	// Unbuffered: after each header the file stands at the contents.
	reader := tar.NewReader(file)
	for entries := int64(0); ; entries++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			if entries == 0 {
				return nil, message.Errorf(message.KindInvalid, "this is no tar archive, neither plain nor compressed with gzip or zstd")
			}
			return nil, archive.Damaged("", err)
		}
		name := partName(header.Name)
		if name == "" && header.Typeflag == tar.TypeDir {
			continue
		}
		if !layoutName().MatchString(name) || entries > layoutEntriesLimit || entries > limits.Entries {
			return nil, nil
		}
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		switch header.Typeflag {
		case tar.TypeReg:
			found.parts[name] = part{offset: offset, size: header.Size}
		case tar.TypeSymlink:
			found.parts[name] = part{link: partName(path.Join(path.Dir(name), header.Linkname))}
		case tar.TypeLink:
			found.parts[name] = part{link: partName(header.Linkname)}
		}
	}
	if _, index := found.parts["index.json"]; !index {
		if _, manifest := found.parts["manifest.json"]; !manifest {
			if _, marked := found.parts["oci-layout"]; marked {
				return nil, message.Errorf(message.KindInvalid, "the image layout has no index.json")
			}
			return nil, nil
		}
	}
	return found, nil
}

// open reads one part; the next open ends this one.
func (l *layout) open(name string) (io.Reader, int64, error) {
	for range linkLimit {
		found, exists := l.parts[name]
		if !exists {
			return nil, 0, message.Errorf(message.KindInvalid, "the image has no part %q", message.Clip(name, 512))
		}
		if found.link != "" {
			name = found.link
			continue
		}
		if _, err := l.file.Seek(found.offset, io.SeekStart); err != nil {
			return nil, 0, err
		}
		return io.LimitReader(l.file, found.size), found.size, nil
	}
	return nil, 0, message.Errorf(message.KindInvalid, "the part %q of the image is a chain of links", message.Clip(name, 512))
}

// document reads and parses one part; a digest is checked when there is one.
func (l *layout) document(name, digest string, into any) error {
	content, size, err := l.open(name)
	if err != nil {
		return err
	}
	if size > documentLimitBytes {
		return message.Errorf(message.KindTooLarge, "the part %q of the image has %d bytes", message.Clip(name, 512), size)
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return archive.Damaged(name, err)
	}
	if int64(len(text)) != size {
		return archive.Damaged(name, io.ErrUnexpectedEOF)
	}
	if digest != "" {
		sum := sha256.Sum256(text)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
			return digestMismatch(name, digest, got)
		}
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(into); err != nil {
		return message.Errorf(message.KindInvalid, "the part %q of the image is not what it should be: %v", message.Clip(name, 512), err)
	}
	return nil
}

func digestMismatch(name, want, got string) error {
	return message.Errorf(message.KindTruncated, "the part %q of the image is damaged: its digest is %s, not %s",
		message.Clip(name, 512), got, message.Clip(want, 128))
}

var digestPattern = pattern.Lazy(`^sha256:[0-9a-f]{64}$`)

// blobName is where the layout keeps what a digest names.
func blobName(digest string) (string, error) {
	if !digestPattern().MatchString(digest) {
		return "", message.Errorf(message.KindInvalid, "not a digest this can check: %q", message.Clip(digest, 128))
	}
	return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:"), nil
}
