package inspect

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"pyro.dev/agent/internal/attributes"
	"pyro.dev/agent/internal/gitpatch"
	"pyro.dev/agent/internal/tree"
)

// examiner is one worker: it looks into files, tells whether they differ, and writes their section of the patch.
type examiner struct {
	comparer    comparer
	patch       bool
	patchLimit  int64
	binaryLimit int64
}

// side is one version of a path, as far as it was looked at.
type side struct {
	meta       *meta
	file       file
	attributes []tree.Xattr
	conversion attributes.Conversion
	// blob is nil for what git does not store, and for what is too large to be read.
	blob *gitpatch.Blob
	// inexact content is not what git makes of the blob.
	inexact bool
	// large is set for what is too large to be read.
	large, binary bool
}

func (x *examiner) examine(c *change) error {
	from, err := openSide(c.fromFolder, c.name, c.from)
	if err != nil {
		return x.failed(c, err)
	}
	defer from.close()
	to, err := openSide(c.toFolder, c.name, c.to)
	if err != nil {
		return x.failed(c, err)
	}
	defer to.close()
	sameContent, err := x.compare(c, from, to)
	if err != nil {
		return x.failed(c, err)
	}
	sameAttributes := tree.SameXattrs(from.attributes, to.attributes)
	bothSides := c.from != nil && c.to != nil
	if bothSides && sameContent && sameAttributes && sameMetadata(c.from, c.to) && !c.relinked && !c.emptied {
		return nil
	}
	c.changed = true
	if !c.listed {
		return nil
	}
	c.describe()
	switch {
	case c.to == nil:
		c.carried = true
	case c.from != nil && c.from.kind() == c.to.kind():
		c.carried = isKept(c.from, c.to) && len(from.attributes) == 0 && len(to.attributes) == 0 && !c.relinked && !c.emptied
	default:
		c.carried = c.to.isPlain() && len(to.attributes) == 0 && !c.barren
	}
	if c.to != nil && c.to.isSymlink() {
		if err := to.read(x, c.toFolder, c.name); err != nil {
			return x.failed(c, err)
		}
		c.entry.LinkTargetBase64 = pointer(base64.StdEncoding.EncodeToString(to.blob.Content))
	}
	if bothSides && sameContent && c.from.gitMode() == c.to.gitMode() {
		return nil
	}
	if err := x.section(c, from, to); err != nil {
		return x.failed(c, err)
	}
	return nil
}

func (x *examiner) failed(c *change, err error) error {
	return fmt.Errorf("look at %q: %w", c.path, err)
}

func openSide(folder *sharedFolder, name string, m *meta) (*side, error) {
	s := &side{meta: m}
	if m == nil || !m.isFile() && !m.isFolder() {
		// Links and special files cannot be opened; their attributes are beyond what any user inside can set.
		return s, nil
	}
	var err error
	if s.file, err = folder.openEntry(name, m); err != nil {
		return s, err
	}
	if s.attributes, err = s.file.xattrs(); err != nil {
		s.close()
	}
	return s, err
}

func (s *side) close() {
	if s.file != nil {
		s.file.close()
	}
	s.file = nil
}

// compare tells whether both sides have the same type and content.
func (x *examiner) compare(c *change, from, to *side) (bool, error) {
	if c.from == nil || c.to == nil || c.from.kind() != c.to.kind() {
		return false, nil
	}
	switch {
	case c.from.isFile():
		if c.from.size != c.to.size {
			return false, nil
		}
		return x.comparer.same(from.file, to.file, c.from.size)
	case c.from.isSymlink():
		if err := from.read(x, c.fromFolder, c.name); err != nil {
			return false, err
		}
		if err := to.read(x, c.toFolder, c.name); err != nil {
			return false, err
		}
		return bytes.Equal(from.blob.Content, to.blob.Content), nil
	}
	return true, nil
}

// read gets the content that a patch would hold; once.
func (s *side) read(x *examiner, folder *sharedFolder, name string) error {
	if s.meta == nil || s.blob != nil || s.meta.gitMode() == 0 {
		return nil
	}
	if s.meta.isSymlink() {
		target, err := folder.readLink(name, s.meta)
		s.blob = &gitpatch.Blob{Mode: gitpatch.Symlink, Content: []byte(target)}
		return err
	}
	if s.meta.size > x.binaryLimit {
		start := make([]byte, sniffBytes)
		n, err := s.file.read(start, 0)
		if err != nil {
			return err
		}
		s.binary = gitpatch.IsBinary(start[:n])
		s.large = s.binary || s.meta.size > x.patchLimit
	}
	if s.large {
		return nil
	}
	content, err := readAll(s.file, s.meta.size)
	content, exact := s.conversion.Normal(content)
	s.inexact = !exact
	literal := s.conversion == attributes.CRLF && hasCRAtEnd(content)
	s.blob = &gitpatch.Blob{Mode: s.meta.gitMode(), Content: content, Literal: literal}
	s.binary = literal || gitpatch.IsBinary(content)
	s.large = s.binary && s.meta.size > x.binaryLimit
	return err
}

// section writes what the patch says of the path and counts its lines.
func (x *examiner) section(c *change, from, to *side) error {
	conversion, certain := c.attributes.Of(c.path)
	from.conversion, to.conversion = conversion, conversion
	if err := from.read(x, c.fromFolder, c.name); err != nil {
		return err
	}
	if err := to.read(x, c.toFolder, c.name); err != nil {
		return err
	}
	if from.blob == nil && to.blob == nil && !from.large && !to.large {
		return nil
	}
	c.entry.Binary = from.isBinaryFile() || to.isBinaryFile()
	if from.large || to.large || c.entry.Binary && (from.exceeds(x.binaryLimit) || to.exceeds(x.binaryLimit)) {
		return nil
	}
	if to.inexact || !certain && to.hasLines() {
		c.carried = false
	}
	if sameBlobs(from.blob, to.blob) && from.blob.Mode == to.blob.Mode {
		// Only line ends differ.
		return nil
	}
	steps := [][2]*gitpatch.Blob{{from.blob, to.blob}}
	if from.blob != nil && to.blob != nil && c.from.kind() != c.to.kind() {
		steps = [][2]*gitpatch.Blob{{from.blob, nil}, {nil, to.blob}}
	}
	c.hasSection = !c.unpatchable
	var total gitpatch.Stats
	for _, step := range steps {
		stats, err := x.step(c, step[0], step[1])
		if err != nil {
			return err
		}
		total.Binary = total.Binary || stats.Binary
		total.Additions += stats.Additions
		total.Deletions += stats.Deletions
	}
	if !total.Binary && !sameBlobs(from.blob, to.blob) {
		c.entry.Additions, c.entry.Deletions = &total.Additions, &total.Deletions
	}
	return nil
}

func (x *examiner) step(c *change, before, after *gitpatch.Blob) (gitpatch.Stats, error) {
	if !x.patch || !c.hasSection || c.tooLarge {
		return gitpatch.Count(before, after), nil
	}
	section, stats, err := gitpatch.Append(c.section, c.path, before, after, int(x.patchLimit)-len(c.section))
	if err == gitpatch.ErrTooLarge {
		c.section, c.tooLarge = nil, true
		return gitpatch.Count(before, after), nil
	}
	c.section = section
	return stats, err
}

// hasCRAtEnd tells whether a line ends with CR. Git holds a patch with such lines against a file as it is in the work tree,
// but what is shown in full against what it stores of it, as all others.
func hasCRAtEnd(content []byte) bool {
	return bytes.Contains(content, []byte("\r\n")) || bytes.HasSuffix(content, []byte("\r"))
}

// hasLines tells whether git could find line ends to convert.
func (s *side) hasLines() bool {
	return s.meta != nil && s.meta.isFile() && bytes.IndexByte(s.blob.Content, '\n') >= 0
}

func (s *side) isBinaryFile() bool { return s.meta != nil && s.meta.isFile() && s.binary }

func (s *side) exceeds(limit int64) bool {
	return s.meta != nil && s.meta.isFile() && s.meta.size > limit
}

func sameBlobs(a, b *gitpatch.Blob) bool {
	return a != nil && b != nil && a.Mode != gitpatch.Symlink == (b.Mode != gitpatch.Symlink) && bytes.Equal(a.Content, b.Content)
}
