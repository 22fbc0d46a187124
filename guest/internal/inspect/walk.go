package inspect

import (
	"fmt"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/attributes"
	"pyro.dev/agent/internal/gitpatch"
	"pyro.dev/agent/internal/ignore"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

const (
	// pathLimitBytes bounds a path in an answer, sixteen times what the kernel takes in one call.
	pathLimitBytes = 64 << 10
	// gitPathLimitBytes is the longest path that git can open.
	gitPathLimitBytes = 4095
	// heldNamesLimit bounds the names of all folders on the way to where the walk is.
	heldNamesLimit = 2_000_000
	// lookAheadLimit bounds how many entries are looked at before their turn, in all. Beyond it folders are listed that a
	// patch could have made, or removed, by itself.
	lookAheadLimit = 1_000_000
)

// walker goes through two trees at once, in the order of the bytes of their paths, and finds what differs.
type walker struct {
	listIgnored bool
	binaryLimit int64
	settled     int64
	// touched is nil when not known; see Proof.
	touched map[uint64]bool
	// fromDevice and toDevice tell folders of other subvolumes apart, where inode numbers begin anew.
	fromDevice, toDevice uint64
	// path of the folder the walk is in, with a slash at its end, then the name at hand.
	path      []byte
	links     linkGroups
	held      heldNames
	lookAhead int
	// resolves tells of a symlink of the older side whether it leads anywhere, if only to nothing.
	resolves func(path string) (bool, error)
	send     func(*change) error
	// count takes what is only counted and needs no examination.
	count func(ignored int64)
}

// folder is one folder that exists on one side or on both.
type folder struct {
	above *folder
	name  string
	// base is how long the path of the folder is, with the slash.
	base     int
	from, to folderView
	fromMeta *meta
	toMeta   *meta
	// wanted is nil for everything.
	wanted *selection

	unpatchable bool
	needs       *change
	within      *change
	// removed folders go with their last file when the patch is applied; barren ones hold nothing that it makes.
	removed, barren bool

	ignored    *bool
	rules      *ignore.Rules
	attributes *attributes.Rules
	rulesKnown bool
	ignoreDir  folderView
	// attributesPass tells that the .gitattributes here differs.
	attributesPass bool
	// isPlain tells of the root that git finds no repository there, and reads no .gitattributes.
	isPlain bool

	fromShared, toShared *sharedFolder
}

const absent = 0xff

// item is a name in a folder; from and to are DT_ constants or absent.
type item struct {
	name     string
	from, to byte
}

// walk visits everything below f. Between a folder and what is in it come names such as "folder-x": their bytes do.
func (w *walker) walk(f *folder) error {
	items, err := w.items(f)
	if err != nil {
		return err
	}
	if err := f.noticeAttributes(items); err != nil {
		return err
	}
	w.held += heldNames(len(items))
	defer func() { w.held -= heldNames(len(items)) }()
	var waiting []*folder
	enter := func() error {
		last := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		return w.enter(f, last)
	}
	for _, one := range items {
		for len(waiting) > 0 && contentComesBefore(waiting[len(waiting)-1].name, one.name) {
			if err := enter(); err != nil {
				return err
			}
		}
		below, err := w.visit(f, one)
		if err != nil {
			return err
		}
		if below != nil {
			waiting = append(waiting, below)
		}
	}
	for len(waiting) > 0 {
		if err := enter(); err != nil {
			return err
		}
	}
	return nil
}

// contentComesBefore tells whether folder + "/" sorts before name, which itself sorts after folder.
func contentComesBefore(folder, name string) bool {
	return len(name) <= len(folder) || name[:len(folder)] != folder || name[len(folder)] > '/'
}

// enter opens what was found to be a folder and walks it.
func (w *walker) enter(f, below *folder) error {
	f.dropShared()
	w.path = append(w.path[:f.base], below.name...)
	w.path = append(w.path, '/')
	below.base = len(w.path)
	if below.base > pathLimitBytes {
		return message.Errorf(message.KindLimit, "a path is longer than %d bytes; look at a smaller part", pathLimitBytes)
	}
	err := w.open(f, below)
	if err == nil {
		err = w.walk(below)
	}
	if left := below.leave(); err == nil {
		err = left
	}
	return err
}

func (w *walker) open(f, below *folder) error {
	if below.fromMeta != nil {
		var err error
		if below.from, err = f.from.enter(below.name); err != nil {
			return w.failed("open", below.name, err)
		}
	}
	if below.toMeta != nil {
		var err error
		if below.to, err = f.to.enter(below.name); err != nil {
			return w.failed("open", below.name, err)
		}
	}
	return nil
}

func (f *folder) leave() error {
	f.dropShared()
	var err error
	for _, dir := range []folderView{f.from, f.to, f.ignoreDir} {
		if dir == nil {
			continue
		}
		if left := dir.leave(); err == nil {
			err = left
		}
	}
	return err
}

func (f *folder) dropShared() {
	f.fromShared.release()
	f.toShared.release()
	f.fromShared, f.toShared = nil, nil
}

func (w *walker) failed(what, name string, err error) error {
	return fmt.Errorf("%s %q: %w", what, name, err)
}

// items merges the names of both sides.
func (w *walker) items(f *folder) ([]item, error) {
	if f.wanted != nil {
		items := make([]item, 0, len(f.wanted.names))
		for _, name := range f.wanted.names {
			one := item{name: name, from: absent, to: absent}
			if f.from != nil {
				one.from = unix.DT_UNKNOWN
			}
			if f.to != nil {
				one.to = unix.DT_UNKNOWN
			}
			items = append(items, one)
		}
		return items, nil
	}
	var from, to []tree.Name
	var err error
	same := f.from != nil && f.to != nil && w.isSettled(f.fromMeta, f.toMeta)
	if f.from != nil && !same {
		if from, err = w.held.list(f.from); err != nil {
			return nil, err
		}
	}
	if f.to != nil {
		if to, err = w.held.list(f.to); err != nil {
			return nil, err
		}
	}
	if same {
		from = to
	}
	return w.merge(from, to), nil
}

// heldNames counts the names of the folders on the way down.
type heldNames int

func (h heldNames) list(folder lister) ([]tree.Name, error) {
	names, err := folder.NamesUpTo(heldNamesLimit - int(h))
	if err == tree.ErrTooManyNames {
		return nil, message.Errorf(message.KindLimit, "the folders of one path hold more than %d names; look at a smaller part", heldNamesLimit)
	}
	return names, err
}

// isUntouched names are the same on both sides, with everything below.
func (w *walker) isUntouched(from, to uint64) bool {
	return w.touched != nil && from == to && !w.touched[from]
}

func (w *walker) merge(from, to []tree.Name) []item {
	var items []item
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(to) == 0 || len(from) > 0 && from[0].Name < to[0].Name:
			items = append(items, item{from[0].Name, from[0].Kind, absent})
			from = from[1:]
		case len(from) == 0 || to[0].Name < from[0].Name:
			items = append(items, item{to[0].Name, absent, to[0].Kind})
			to = to[1:]
		default:
			if !w.isUntouched(from[0].Inode, to[0].Inode) {
				items = append(items, item{from[0].Name, from[0].Kind, to[0].Kind})
			}
			from, to = from[1:], to[1:]
		}
	}
	return items
}

// isSettled tells whether the inode is provably the same in every respect; see SettledBefore.
func (w *walker) isSettled(from, to *meta) bool {
	return w.settled > 0 && from.changed < w.settled && from.changed == to.changed && from.modified == to.modified &&
		from.inode == to.inode && from.size == to.size && sameMetadata(from, to) &&
		from.device == w.fromDevice && to.device == w.toDevice
}

// visit looks at one name, sends it on if it may differ, and gives the folder to be entered later, if it is one.
func (w *walker) visit(f *folder, one item) (*folder, error) {
	w.path = append(w.path[:f.base], one.name...)
	if counted, err := w.countOnly(f, one); counted || err != nil {
		return nil, err
	}
	var from, to *meta
	var err error
	if one.from != absent {
		if from, err = w.stat(f.from, one.name); err != nil {
			return nil, err
		}
	}
	if one.to != absent {
		if to, err = w.stat(f.to, one.name); err != nil {
			return nil, err
		}
	}
	if from == nil && to == nil {
		return nil, nil
	}
	if from != nil && to != nil && w.isUntouched(from.inode, to.inode) {
		return nil, nil
	}
	below := f.below(one.name, from, to)
	if f.wanted != nil {
		if below == nil && !f.wanted.below[one.name].whole {
			return nil, nil
		}
		if below != nil && below.wanted != nil {
			// Only on the way to what is wanted: where a file was in the way, the patch does not remove it.
			below.unpatchable = below.unpatchable || from != nil && !from.isFolder()
			return below, nil
		}
	}
	relinked := w.links.differ(from, to)
	if from != nil && to != nil && from.kind() == to.kind() && !relinked {
		if w.isSettled(from, to) || from.gitMode() == 0 && !from.isFolder() && sameMetadata(from, to) {
			return below, nil
		}
	}
	c := &change{name: one.name, from: from, to: to, relinked: relinked}
	c.unpatchable = f.unpatchable || gitpatch.Refused(one.name, from != nil && from.isSymlink() || to != nil && to.isSymlink()) ||
		len(w.path) > gitPathLimitBytes || isInTheWay(from, to)
	c.needs, c.within = f.needs, f.within
	if c.ignored, err = w.isIgnored(f, one.name, to != nil && to.isFolder() || to == nil && from.isFolder()); err != nil {
		return nil, err
	}
	c.listed = !c.ignored || w.listIgnored
	if below != nil {
		below.unpatchable = c.unpatchable
		listed, err := w.folderChange(f, below, c)
		if err != nil || !listed {
			return below, err
		}
	}
	if c.listed && !c.unpatchable && (from != nil && from.isFile() || to != nil && to.isFile()) {
		if c.attributes, err = w.attributesOf(f); err != nil {
			return nil, err
		}
	}
	return below, w.submit(f, c)
}

// isInTheWay is true where something that no patch removes has to go first.
func isInTheWay(from, to *meta) bool {
	return from != nil && to != nil && from.gitMode() == 0 && !from.isFolder() && from.kind() != to.kind()
}

func (w *walker) stat(dir folderView, name string) (*meta, error) {
	m, found, err := dir.stat(name)
	if err != nil {
		return nil, w.failed("stat", name, err)
	}
	if !found {
		return nil, nil
	}
	return &m, nil
}

// countOnly is the quick way through what is ignored, not listed and on one side only.
func (w *walker) countOnly(f *folder, one item) (bool, error) {
	if w.listIgnored || f.wanted != nil || (one.from == absent) == (one.to == absent) {
		return false, nil
	}
	kind := min(one.from, one.to)
	if kind == unix.DT_UNKNOWN || kind == unix.DT_DIR {
		return false, nil
	}
	ignored, err := w.isIgnored(f, one.name, false)
	if ignored {
		w.count(1)
	}
	return ignored, err
}

// below is the folder of this name, or nil when neither side has one.
func (f *folder) below(name string, from, to *meta) *folder {
	below := &folder{above: f, name: name, unpatchable: f.unpatchable, needs: f.needs, within: f.within, removed: f.removed, barren: f.barren}
	if from != nil && from.isFolder() {
		below.fromMeta = from
	}
	if to != nil && to.isFolder() {
		below.toMeta = to
	}
	if below.fromMeta == nil && below.toMeta == nil {
		return nil
	}
	if f.wanted != nil {
		if wanted := f.wanted.below[name]; !wanted.whole {
			below.wanted = wanted
		}
	}
	return below
}

// folderChange decides what a change to or from a folder means for the patch of what is below it, and whether it is
// listed itself: git makes the folders of its files and removes them with the last one.
func (w *walker) folderChange(f, below *folder, c *change) (listed bool, err error) {
	switch {
	case c.from == nil:
		c.barren, err = w.isBarren(f, below, c)
		return c.barren, err
	case c.to == nil:
		if !below.removed {
			below.removed, _, err = w.isRemoved(f, below, c)
		}
		return !below.removed, err
	case c.from.kind() == c.to.kind():
		if !c.unpatchable {
			c.emptied, err = w.isEmptied(f, below)
		}
		return true, err
	case c.to.isFolder():
		if c.barren, err = w.isBarren(f, below, c); err != nil {
			return true, err
		}
		if c.from.isSymlink() {
			// Git looks through the link, which it is about to remove, and gives up when that goes round in circles.
			resolves, err := w.resolves(string(w.path))
			if err != nil {
				return true, err
			}
			if !resolves {
				c.barren, below.unpatchable = true, true
			}
		}
		if c.from.gitMode() != 0 {
			below.needs = c
		}
		return true, nil
	}
	var bytes int64
	below.removed, bytes, err = w.isRemoved(f, below, c)
	if err == nil && !below.removed && !c.unpatchable {
		// Git makes room by itself where an empty folder stands.
		below.removed, err = w.isEmpty(f, below)
	}
	if !below.removed || c.to.gitMode() == 0 {
		c.unpatchable = true
	} else {
		below.within, c.reserve = c, bytes
	}
	return true, err
}

// submit fills in what the workers need and sends the change.
func (w *walker) submit(f *folder, c *change) error {
	c.path = string(w.path)
	if len(c.path) > pathLimitBytes {
		return message.Errorf(message.KindLimit, "a path is longer than %d bytes; look at a smaller part", pathLimitBytes)
	}
	if c.from != nil {
		c.weight += c.from.contentSize()
		if f.fromShared == nil {
			shared, err := share(f.from)
			if err != nil {
				return err
			}
			f.fromShared = shared
		}
		c.fromFolder = f.fromShared.use()
	}
	if c.to != nil {
		c.weight += c.to.contentSize()
		if f.toShared == nil {
			shared, err := share(f.to)
			if err != nil {
				return err
			}
			f.toShared = shared
		}
		c.toFolder = f.toShared.use()
	}
	if c.within != nil {
		c.bound = removalBound(len(c.path), c.from.size)
	}
	return w.send(c)
}

func (m *meta) contentSize() int64 {
	if m.isFile() {
		return m.size
	}
	return 0
}

// removalBound is more than a section that removes a file of this size can take.
func removalBound(pathBytes int, size int64) int64 { return 2*size + 16*int64(pathBytes) + 1024 }
