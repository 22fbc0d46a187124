package inspect

import (
	"encoding/base64"
	"fmt"
	"sync/atomic"

	"pyro.dev/agent/internal/attributes"
)

// Entry is inspectEntry of packages/protocol/src/guest/offline.ts.
type Entry struct {
	PathBase64       string  `json:"pathBase64"`
	Status           string  `json:"status"`
	Type             string  `json:"type"`
	OldType          *string `json:"oldType"`
	Mode             *string `json:"mode"`
	OldMode          *string `json:"oldMode"`
	UID              *uint32 `json:"uid"`
	GID              *uint32 `json:"gid"`
	SizeBytes        *int64  `json:"sizeBytes"`
	Binary           bool    `json:"binary"`
	Ignored          bool    `json:"ignored"`
	InPatch          bool    `json:"inPatch"`
	Additions        *int    `json:"additions"`
	Deletions        *int    `json:"deletions"`
	LinkTargetBase64 *string `json:"linkTargetBase64"`
}

// change is a path that differs, or may. The walker makes it, a worker examines it, the emitter sends it.
type change struct {
	path string
	// name is the last part of path; fromFolder and toFolder hold it.
	name                 string
	fromFolder, toFolder *sharedFolder
	// from and to are nil where the path does not exist.
	from, to *meta
	ignored  bool
	// listed is false for what is only counted.
	listed bool
	// attributes are those of the folder; nil where no patch needs them.
	attributes *attributes.Rules
	// unpatchable paths are such that git takes no section for them, or could not apply it.
	unpatchable bool
	// relinked files share their content with other paths than before.
	relinked bool
	// emptied folders are still there, but git removes them with the last file.
	emptied bool
	// barren is a new folder that holds nothing a patch can make.
	barren bool

	// needs is the removal of a file or symlink where this path now needs a folder.
	needs *change
	// within is the file or symlink that takes the place of the folder this one is removed from. Its section is of use
	// only with all removals: room for them is kept, reserve bytes there and bound bytes here.
	within         *change
	reserve, bound int64

	// weight is what of the memory for content it may need.
	weight int64
	// examined is closed when a worker is done; nil for what needs none.
	examined chan struct{}

	// The results.
	changed bool
	entry   Entry
	// hasSection tells that the patch can say something of it, carried that it says everything.
	hasSection, carried bool
	section             []byte
	// tooLarge sections were not made.
	tooLarge bool
	// included is set by the emitter, in order.
	included bool
}

// sharedFolder is an open folder that outlives the walk through it.
type sharedFolder struct {
	entries
	users atomic.Int32
}

// share has one first user.
func share(folder folderView) (*sharedFolder, error) {
	entries, err := folder.share()
	if err != nil {
		return nil, err
	}
	s := &sharedFolder{entries: entries}
	s.users.Store(1)
	return s, nil
}

func (s *sharedFolder) use() *sharedFolder {
	if s != nil {
		s.users.Add(1)
	}
	return s
}

func (s *sharedFolder) release() {
	if s != nil && s.users.Add(-1) == 0 {
		s.close()
	}
}

func (c *change) close() {
	c.fromFolder.release()
	c.toFolder.release()
	c.fromFolder, c.toFolder = nil, nil
}

func (c *change) describe() {
	e := &c.entry
	e.PathBase64 = base64.StdEncoding.EncodeToString([]byte(c.path))
	e.Ignored = c.ignored
	now := c.to
	switch {
	case c.from == nil:
		e.Status = "added"
	case c.to == nil:
		e.Status = "deleted"
		now = c.from
	case c.from.kind() != c.to.kind():
		e.Status = "typeChanged"
	default:
		e.Status = "modified"
	}
	e.Type = now.typeName()
	if c.from != nil {
		e.OldType, e.OldMode = pointer(c.from.typeName()), pointer(fmt.Sprintf("%06o", c.from.mode))
	}
	if c.to == nil {
		return
	}
	e.Mode, e.UID, e.GID = pointer(fmt.Sprintf("%06o", c.to.mode)), &c.to.uid, &c.to.gid
	if c.to.isFile() || c.to.isSymlink() {
		e.SizeBytes = &c.to.size
	}
}

func pointer[T any](value T) *T { return &value }
