package inspect

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/attributes"
)

const attributesFile = ".gitattributes"

// attributesOf gives what the baseline's .gitattributes files say of the files in f.
func (w *walker) attributesOf(f *folder) (*attributes.Rules, error) {
	_, err := w.rulesOf(f)
	return f.attributes, err
}

// noticeAttributes looks for .gitattributes among the names that may differ in f. Git may read it while it applies the
// patch, when the old file is gone and the new one is not there yet.
func (f *folder) noticeAttributes(items []item) error {
	_, differs := slices.BinarySearchFunc(items, attributesFile, func(one item, name string) int {
		return strings.Compare(one.name, name)
	})
	if differs && f.from != nil && f.to != nil {
		from, err := readAttributes(f.from)
		if err != nil {
			return err
		}
		to, err := readAttributes(f.to)
		if err != nil {
			return err
		}
		f.attributesPass = !bytes.Equal(from, to)
	}
	if f.above != nil || f.ignoreDir == nil || f.isPlain {
		return nil
	}
	file, err := readAttributes(f.ignoreDir)
	if err != nil {
		return err
	}
	info, err := f.ignoreDir.readSmall(gitFolder, "info", "attributes")
	if err != nil && !isMissing(err) {
		return fmt.Errorf("read the attributes of %s: %w", gitFolder, err)
	}
	f.attributes = attributes.Top(file, info, f.attributesPass)
	return nil
}

// isPlainFolder tells whether no .git is in a folder or above.
func isPlainFolder(in volume, name string) (bool, error) {
	for ; ; name = path.Dir(name) {
		dir, err := openInside(in, name)
		if err != nil && err != unix.ENOTDIR {
			return false, err
		}
		if dir != nil {
			_, found, err := dir.stat(gitFolder)
			if left := dir.leave(); err == nil {
				err = left
			}
			if found || err != nil {
				return false, err
			}
		}
		if name == "/" || name == "." {
			return true, nil
		}
	}
}

// readAttributes reads .gitattributes of one folder; none is as good as an empty one.
func readAttributes(folder folderView) ([]byte, error) {
	file, err := folder.readSmall(attributesFile)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", attributesFile, err)
	}
	return file, nil
}
