package inspect

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/attributes"
	"pyro.dev/agent/internal/ignore"
)

const gitFolder = ".git"

// isIgnored tells whether the baseline's .gitignore files ignore a name in f. They are read when something differs, not
// before: most folders never are looked at. Git applies none of them to its own folder, so that no pattern hides a hook
// there.
func (w *walker) isIgnored(f *folder, name string, isFolder bool) (bool, error) {
	ignored, err := w.isFolderIgnored(f)
	if ignored || err != nil {
		return ignored, err
	}
	if name == gitFolder || f.isGit() {
		return false, nil
	}
	rules, err := w.rulesOf(f)
	if rules == nil || err != nil {
		return false, err
	}
	return rules.Match(f.pathOf(name), isFolder), nil
}

// isFolderIgnored is true for what is in an ignored folder, too.
func (w *walker) isFolderIgnored(f *folder) (bool, error) {
	if f.above == nil {
		return false, nil
	}
	if f.ignored == nil {
		ignored, err := w.isIgnored(f.above, f.name, true)
		if err != nil {
			return false, err
		}
		f.ignored = &ignored
	}
	return *f.ignored, nil
}

// isGit is true in git's own folder and below.
func (f *folder) isGit() bool { return f != nil && (f.name == gitFolder || f.above.isGit()) }

// pathOf is relative to the root.
func (f *folder) pathOf(name string) string {
	if f == nil || f.above == nil {
		return name
	}
	return f.above.pathOf(f.name) + "/" + name
}

func (w *walker) rulesOf(f *folder) (*ignore.Rules, error) {
	if f.rulesKnown || f.above == nil {
		return f.rules, nil
	}
	above, err := w.rulesOf(f.above)
	if err != nil {
		return nil, err
	}
	f.rules, f.attributes, f.rulesKnown = above, f.above.attributes, true
	if f.above.ignoreDir == nil {
		return above, nil
	}
	dir, err := f.above.ignoreDir.enter(f.name)
	if isMissing(err) {
		return above, nil
	}
	if err != nil {
		return nil, w.failed("open", f.name, err)
	}
	f.ignoreDir = dir
	base := f.above.pathOf(f.name)
	if f.rules, err = readRules(above, base, dir); err != nil {
		return nil, err
	}
	file, err := readAttributes(dir)
	if file != nil && f.attributes != nil {
		f.attributes = attributes.Below(f.attributes, base, file, f.attributesPass)
	}
	return f.rules, err
}

// forgetRules ends what rulesOf opened.
func (f *folder) forgetRules() error {
	if f.ignoreDir == nil {
		return nil
	}
	err := f.ignoreDir.leave()
	f.ignoreDir, f.rules, f.attributes, f.rulesKnown = nil, nil, nil, false
	return err
}

// readRules adds .git/info/exclude and .gitignore of one folder.
func readRules(above *ignore.Rules, base string, folder folderView) (*ignore.Rules, error) {
	rules := above
	for _, parts := range [][]string{{gitFolder, "info", "exclude"}, {".gitignore"}} {
		text, err := folder.readSmall(parts...)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", parts[len(parts)-1], err)
		}
		rules = ignore.Parse(rules, base, text)
	}
	return rules, nil
}

// isMissing also takes what is there but no such file or folder.
func isMissing(err error) bool {
	for _, one := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
