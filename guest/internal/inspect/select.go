package inspect

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

// selection is what of a folder is wanted.
type selection struct {
	// whole: everything below.
	whole bool
	below map[string]*selection
	// names are those of below, sorted.
	names []string
}

// selectPaths makes a tree of the paths; nil when there are none, or one of them is the root itself.
func selectPaths(paths []string) (*selection, error) {
	root := &selection{}
	for _, one := range paths {
		if path.IsAbs(one) || slices.Contains(strings.Split(one, "/"), "..") {
			return nil, message.Errorf(message.KindInvalid, "the path %q does not lie below the root of the comparison", one)
		}
		at := root
		for _, part := range split(one) {
			if at.below == nil {
				at.below = map[string]*selection{}
			}
			if at.below[part] == nil {
				at.below[part] = &selection{}
				at.names = append(at.names, part)
			}
			at = at.below[part]
		}
		at.whole = true
	}
	if root.whole || len(paths) == 0 {
		return nil, nil
	}
	root.sort()
	return root, nil
}

func (s *selection) sort() {
	slices.Sort(s.names)
	for _, below := range s.below {
		below.sort()
	}
}

// checkPaths finds a path that exists on neither side.
func checkPaths(paths []string, sides ...folderView) error {
	for _, one := range paths {
		found := false
		for _, side := range sides {
			there, err := exists(side, split(one))
			if err != nil {
				return err
			}
			found = found || there
		}
		if !found {
			return message.Errorf(message.KindNotFound, "there is no %s on either side of the comparison", one)
		}
	}
	return nil
}

func exists(folder folderView, parts []string) (bool, error) {
	if folder == nil || len(parts) == 0 {
		return folder != nil, nil
	}
	if len(parts) == 1 {
		_, found, err := folder.stat(parts[0])
		if err == unix.ENAMETOOLONG {
			return false, nil
		}
		return found, err
	}
	below, err := folder.enter(parts[0])
	if isMissing(err) || err == unix.ENAMETOOLONG {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	found, err := exists(below, parts[1:])
	if left := below.leave(); err == nil {
		err = left
	}
	return found, err
}
