// Package gitpatch writes patches that `git apply` takes: one section for each path, blob ids as git computes them,
// binary content in full, names quoted as git quotes them, no renames.
package gitpatch

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Mode is what git knows of a file's mode.
type Mode uint32

// The modes of a patch.
const (
	File       Mode = 0o100644
	Executable Mode = 0o100755
	Symlink    Mode = 0o120000
)

// Blob is one version of a path; the content of a symlink is its target.
type Blob struct {
	Mode    Mode
	Content []byte
	// Literal content is shown in full, as binary content is.
	Literal bool
}

// Stats counts lines; both are 0 for binary content.
type Stats struct {
	Binary               bool
	Additions, Deletions int
}

// ErrTooLarge is met when a section does not fit into the limit.
var ErrTooLarge = errors.New("the section is larger than the limit")

// absentID stands for the side that does not exist.
var absentID = string(bytes.Repeat([]byte{'0'}, 2*sha1.Size))

// Append appends the section of path: from before to after, one of which may be nil. Neither type changes: a file that
// becomes a symlink is a section that removes the one and a section that adds the other. It appends at most limit bytes.
func Append(to []byte, path string, before, after *Blob, limit int) ([]byte, Stats, error) {
	w := writer{to: to, end: len(to) + limit}
	stats := w.section(path, before, after)
	if w.full {
		return to, stats, ErrTooLarge
	}
	return w.to, stats, nil
}

// Count is Append without the section.
func Count(before, after *Blob) Stats {
	old, new := contentOf(before), contentOf(after)
	if isBinary(before) || isBinary(after) {
		return Stats{Binary: true}
	}
	var stats Stats
	for _, one := range compareText(old, new) {
		stats.Additions += one.addedLines
		stats.Deletions += one.removedLines
	}
	return stats
}

// IsBinary tells whether git must not see content as text. Git itself looks at the first 8000 bytes; a zero byte further
// on would survive there, but not every tool a patch passes through.
func IsBinary(content []byte) bool { return bytes.IndexByte(content, 0) >= 0 }

func isBinary(blob *Blob) bool {
	return blob != nil && blob.Mode != Symlink && (blob.Literal || IsBinary(blob.Content))
}

func contentOf(blob *Blob) []byte {
	if blob == nil {
		return nil
	}
	return blob.Content
}

func blobID(blob *Blob) string {
	if blob == nil {
		return absentID
	}
	hash := sha1.New()
	fmt.Fprintf(hash, "blob %d\x00", len(blob.Content))
	hash.Write(blob.Content)
	return hex.EncodeToString(hash.Sum(nil))
}

// writer stops at its end and remembers that it did.
type writer struct {
	to   []byte
	end  int
	full bool
}

func (w *writer) put(parts ...string) {
	for _, part := range parts {
		if w.full = w.full || len(w.to)+len(part) > w.end; w.full {
			return
		}
		w.to = append(w.to, part...)
	}
}

func (w *writer) putBytes(part []byte) {
	if w.full = w.full || len(w.to)+len(part) > w.end; !w.full {
		w.to = append(w.to, part...)
	}
}

func (w *writer) section(path string, before, after *Blob) Stats {
	oldName, newName := Quote("a/"+path), Quote("b/"+path)
	w.put("diff --git ", oldName, " ", newName, "\n")
	modeAtIndex := ""
	switch {
	case before == nil:
		w.put("new file mode ", octal(after.Mode), "\n")
	case after == nil:
		w.put("deleted file mode ", octal(before.Mode), "\n")
	case before.Mode != after.Mode:
		w.put("old mode ", octal(before.Mode), "\nnew mode ", octal(after.Mode), "\n")
	default:
		modeAtIndex = " " + octal(after.Mode)
	}
	old, new := contentOf(before), contentOf(after)
	if before != nil && after != nil && bytes.Equal(old, new) {
		return Stats{}
	}
	w.put("index ", blobID(before), "..", blobID(after), modeAtIndex, "\n")
	if isBinary(before) || isBinary(after) {
		w.put("GIT binary patch\n")
		w.literal(new)
		w.literal(old)
		return Stats{Binary: true}
	}
	edits := compareText(old, new)
	if len(edits) == 0 {
		return Stats{}
	}
	if before == nil {
		oldName = "/dev/null"
	}
	if after == nil {
		newName = "/dev/null"
	}
	w.put("--- ", oldName, tabAfter(oldName), "\n+++ ", newName, tabAfter(newName), "\n")
	return w.hunks(old, new, edits)
}

func octal(mode Mode) string { return strconv.FormatUint(uint64(mode), 8) }
