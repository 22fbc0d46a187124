package inspect

import (
	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/gitpatch"
	"pyro.dev/agent/internal/tree"
)

// isBarren tells whether the patch fails to make a new folder as it is: nothing in it that implies it, or an owner, a mode
// or attributes that are not those of what git makes.
func (w *walker) isBarren(f, below *folder, c *change) (bool, error) {
	if c.unpatchable || below.barren {
		below.barren = true
		return true, nil
	}
	dir, err := f.to.enter(below.name)
	if err != nil {
		return false, w.failed("open", below.name, err)
	}
	carries, err := w.hasAny(below, dir, w.isImplying)
	below.barren = err == nil && !carries && w.lookAhead < lookAheadLimit
	if err == nil && carries && c.to.isPlain() {
		var attributes []tree.Xattr
		if attributes, err = dir.xattrs(); err == nil && len(attributes) == 0 {
			return false, leaveBoth(dir, below, nil)
		}
	}
	return true, leaveBoth(dir, below, err)
}

// isEmptied tells whether the patch removes a folder, with the last file in it, that is still there.
func (w *walker) isEmptied(f, below *folder) (bool, error) {
	dir, err := f.to.enter(below.name)
	if err != nil {
		return false, w.failed("open", below.name, err)
	}
	names, err := dir.NamesUpTo(0)
	if err = leaveBoth(dir, below, err); err != nil || len(names) > 0 {
		return false, ignoreTooMany(err)
	}
	if dir, err = f.from.enter(below.name); err != nil {
		return false, w.failed("open", below.name, err)
	}
	emptied, err := w.hasAny(below, dir, w.isCarried)
	return emptied, leaveBoth(dir, below, err)
}

// isRemoved tells whether the patch removes a folder wholly, and how many bytes its sections take at most.
func (w *walker) isRemoved(f, below *folder, c *change) (removed bool, bytes int64, err error) {
	if c.unpatchable {
		return false, 0, nil
	}
	dir, err := f.from.enter(below.name)
	if err != nil {
		return false, 0, w.failed("open", below.name, err)
	}
	removed, bytes, err = w.removes(below, dir)
	return removed, bytes, leaveBoth(dir, below, err)
}

// isEmpty tells whether nothing at all was in a folder.
func (w *walker) isEmpty(f, below *folder) (bool, error) {
	dir, err := f.from.enter(below.name)
	if err != nil {
		return false, w.failed("open", below.name, err)
	}
	names, err := dir.NamesUpTo(0)
	empty := err == nil && len(names) == 0
	return empty, leaveBoth(dir, below, ignoreTooMany(err))
}

func ignoreTooMany(err error) error {
	if err == tree.ErrTooManyNames {
		return nil
	}
	return err
}

// leaveBoth ends a look ahead: below is entered once more when it is its turn.
func leaveBoth(dir folderView, below *folder, err error) error {
	if left := dir.leave(); err == nil {
		err = left
	}
	if left := below.forgetRules(); err == nil {
		err = left
	}
	return err
}

// hasAny looks for one file or symlink that counts.
func (w *walker) hasAny(f *folder, dir folderView, counts look) (bool, error) {
	names, err := w.namesAhead(f, dir)
	if err != nil {
		return false, err
	}
	var folders []tree.Name
	for _, one := range names {
		m, found, err := counts(f, dir, one)
		if err != nil || found {
			return found, err
		}
		if m != nil && m.isFolder() && !gitpatch.Refused(one.Name, false) {
			folders = append(folders, one)
		}
	}
	for _, one := range folders {
		found := false
		err := w.ahead(f, dir, one.Name, func(below *folder, child folderView) (err error) {
			found, err = w.hasAny(below, child, counts)
			return err
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// removes is true when everything below is in files and symlinks that a patch removes or that are ignored, and no folder
// is empty.
func (w *walker) removes(f *folder, dir folderView) (removed bool, bytes int64, err error) {
	names, err := w.namesAhead(f, dir)
	if err != nil || len(names) == 0 {
		return false, 0, err
	}
	for _, one := range names {
		m, implying, err := w.isImplying(f, dir, one)
		if err != nil || m == nil {
			return false, 0, err
		}
		if implying {
			bytes += removalBound(f.base+len(one.Name), m.size)
			continue
		}
		if !m.isFolder() || gitpatch.Refused(one.Name, false) {
			return false, 0, nil
		}
		err = w.ahead(f, dir, one.Name, func(below *folder, child folderView) error {
			more := int64(0)
			removed, more, err = w.removes(below, child)
			bytes += more
			return err
		})
		if err != nil || !removed {
			return false, 0, err
		}
	}
	return true, bytes, nil
}

// namesAhead lists a folder before its turn; nothing once too much was looked at.
func (w *walker) namesAhead(f *folder, dir folderView) ([]tree.Name, error) {
	if f.above != nil {
		f.base = f.above.base + len(f.name) + 1
	}
	if w.lookAhead >= lookAheadLimit || f.base > gitPathLimitBytes {
		return nil, nil
	}
	names, err := dir.NamesUpTo(lookAheadLimit - w.lookAhead)
	if err == tree.ErrTooManyNames {
		w.lookAhead, err = lookAheadLimit, nil
	}
	w.lookAhead += len(names) + 1
	return names, err
}

// ahead enters a folder before its turn.
func (w *walker) ahead(f *folder, dir folderView, name string, inside func(*folder, folderView) error) error {
	child, err := dir.enter(name)
	if err != nil {
		return w.failed("open", name, err)
	}
	below := &folder{above: f, name: name}
	return leaveBoth(child, below, inside(below, child))
}

// look tells of one name in a folder what it is, and whether it counts.
type look func(f *folder, dir folderView, one tree.Name) (*meta, bool, error)

// isCarried tells of one name whether the patch holds it, for certain: large files may turn out to be binary.
func (w *walker) isCarried(f *folder, dir folderView, one tree.Name) (*meta, bool, error) {
	m, holds, err := w.couldHold(f, dir, one)
	if !holds || w.listIgnored || err != nil {
		return m, holds, err
	}
	// What lies in an ignored folder is counted as if it were listed, so that both give the same number.
	inIgnored, err := w.isFolderIgnored(f)
	if err != nil || inIgnored {
		return m, inIgnored, err
	}
	ignored, err := w.isIgnored(f, one.Name, false)
	return m, !ignored, err
}

// isImplying tells of one name whether its folder goes without saying: the patch could hold it, or it is ignored. As to
// git, a folder is nothing beside the files in it.
func (w *walker) isImplying(f *folder, dir folderView, one tree.Name) (*meta, bool, error) {
	m, holds, err := w.couldHold(f, dir, one)
	if holds || w.listIgnored || err != nil || m == nil || m.isFolder() {
		return m, holds, err
	}
	ignored, err := w.isIgnored(f, one.Name, false)
	return m, ignored, err
}

func (w *walker) couldHold(f *folder, dir folderView, one tree.Name) (*meta, bool, error) {
	m, err := w.stat(dir, one.Name)
	if err != nil || m == nil || m.isFolder() {
		return m, false, err
	}
	return m, m.gitMode() != 0 && m.size <= w.binaryLimit && !gitpatch.Refused(one.Name, m.kind() == unix.S_IFLNK) &&
		f.base+len(one.Name) <= gitPathLimitBytes, nil
}
