package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/tree"
)

const (
	// stagePrefix begins the name of the folder an archive is unpacked into before it is moved.
	stagePrefix = ".pyro-push-"
	// writtenLimit bounds the paths that a failure while moving lists, writtenLimitBytes their length: the engine takes
	// 64 KiB for an error, in which a byte may need six.
	writtenLimit      = 1000
	writtenLimitBytes = 8 << 10
	// placeTries bounds how often one entry is looked at again.
	placeTries = 10
)

// Push puts an archive into a folder that is in use: it is unpacked and checked beside it first, so a refused archive
// changes nothing, and then moved in entry by entry. Folders merge, everything else is replaced. With Delete, what the
// archive does not hold goes.
func Push(cx context.Context, input message.ExtractInput, from io.Reader, progress func(message.Progress)) (message.ExtractResult, error) {
	if !filepath.IsAbs(input.Dest) {
		return message.ExtractResult{}, message.Errorf(message.KindInvalid, "not an absolute path: %q", message.Clip(input.Dest, 512))
	}
	dest := filepath.Clean(input.Dest)
	target, err := enterDestination(dest)
	if err != nil {
		return message.ExtractResult{}, explainAt(dest, err)
	}
	defer unix.Close(target)
	p := pushing{cx: context.WithoutCancel(cx), delete: input.Delete, progress: progress, shown: time.Now()}
	p.stage, err = newStage(target, dest)
	var result message.ExtractResult
	if err == nil {
		result, err = p.run(cx, input, dest, target, from)
		if removed := p.stage.remove(); err == nil {
			err = removed
		}
	}
	leaveDestination(dest, err == nil || p.count > 0)
	return result, explainAt(dest, err)
}

// makeDestination also names the folders it made, innermost first.
func makeDestination(dest string) (target int, made []string, err error) {
	for at := dest; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, unix.ENOENT) {
			break
		}
		made = append(made, at)
	}
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return -1, nil, err
	}
	target, err = unix.Open(dest, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return target, made, err
}

// explainAt turns an errno met at the destination into a typed error.
func explainAt(dest string, err error) error {
	var own *message.Error
	quoted := strconv.QuoteToGraphic(message.Clip(dest, 512))
	switch {
	case err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EEXIST):
		return message.Errorf(message.KindNotAFile, "%s is not a folder", quoted)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return message.Errorf(message.KindNoSpace, "no space left in %s", quoted)
	}
	return message.Errorf(message.KindFailed, "unpack into %s: %v", quoted, err)
}

// stage is a folder on the filesystem of the destination: beside it, or inside it where its parent is another mount.
type stage struct {
	parent, fd int
	name       string
	inside     bool
}

func newStage(target int, dest string) (*stage, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	s := &stage{name: stagePrefix + hex.EncodeToString(random[:])}
	var err error
	if dest != "/" {
		if s.parent, err = tree.OpenFolder(target, ".."); err != nil {
			return nil, err
		}
		same, err := sameFilesystem(s.parent, target)
		if err == nil && same {
			if err = s.create(); err == nil {
				return s, nil
			}
		}
		unix.Close(s.parent)
	}
	if s.parent, err = unix.FcntlInt(uintptr(target), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	s.inside = true
	if err := s.create(); err != nil {
		unix.Close(s.parent)
		return nil, err
	}
	return s, nil
}

func sameFilesystem(a, b int) (bool, error) {
	var first, second unix.Stat_t
	if err := unix.Fstat(a, &first); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &second); err != nil {
		return false, err
	}
	return first.Dev == second.Dev, nil
}

func (s *stage) create() error {
	if err := unix.Mkdirat(s.parent, s.name, 0o700); err != nil {
		return err
	}
	var err error
	s.fd, err = tree.OpenFolder(s.parent, s.name)
	return err
}

func (s *stage) remove() error {
	unix.Close(s.fd)
	defer unix.Close(s.parent)
	_, err := tree.Delete(context.Background(), s.parent, s.name)
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", s.name, err)
	}
	return nil
}

type pushing struct {
	// cx is not cancelled while entries move: half a move helps nobody.
	cx     context.Context
	stage  *stage
	delete bool
	// explicit are the folders the archive itself names; others keep mode and time of the destination.
	explicit map[string]struct{}
	deleted  int64
	written  []string
	// writtenBytes is the length of what is in written.
	writtenBytes int
	count        int64

	progress func(message.Progress)
	shown    time.Time
	unpacked Result
}

func (p *pushing) run(cx context.Context, input message.ExtractInput, dest string, target int, from io.Reader) (message.ExtractResult, error) {
	x := NewExtractor(p.stage.fd, Options{Limits: input.Limits, Root: dest, Progress: p.progress})
	defer x.Close()
	if err := x.All(cx, from); err != nil {
		return message.ExtractResult{}, err
	}
	p.explicit = make(map[string]struct{}, len(x.times))
	for _, folder := range x.times {
		p.explicit[folder.path] = struct{}{}
	}
	if err := x.Finish(); err != nil {
		return message.ExtractResult{}, err
	}
	p.unpacked = x.Result()
	if err := p.check("", p.stage.fd, target); err != nil {
		return message.ExtractResult{}, err
	}
	if err := p.merge("", p.stage.fd, target); err != nil {
		failed := *message.AsError(x.explain(dest, err))
		failed.Message = message.Clip(fmt.Sprintf("%s (%d entries were already in place)", failed.Message, p.count), 4096)
		failed.Data = map[string]any{"written": p.written, "writtenCount": p.count}
		return message.ExtractResult{}, &failed
	}
	return message.ExtractResult{Files: p.unpacked.Files, Bytes: p.unpacked.Bytes, Deleted: p.deleted}, nil
}

// alive reports that the push goes on, although nothing more is unpacked.
func (p *pushing) alive() {
	if p.progress != nil && time.Since(p.shown) >= progressEvery {
		p.shown = time.Now()
		p.progress(message.Progress{Type: "progress", Files: p.unpacked.Files, Bytes: p.unpacked.Bytes})
	}
}

// both is an entry of the stage and what stands in its place.
type both struct {
	name             string
	folder           bool
	exists, inFolder bool
}

func pairs(stage, target int) ([]both, error) {
	names, err := tree.ReadNames(stage)
	if err != nil {
		return nil, err
	}
	list := make([]both, 0, len(names))
	for _, entry := range names {
		one := both{name: entry.Name}
		if one.folder, _, err = isFolder(stage, entry.Name); err != nil {
			return nil, err
		}
		if one.inFolder, one.exists, err = isFolder(target, entry.Name); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func isFolder(dir int, name string) (folder, exists bool, err error) {
	var stat unix.Stat_t
	err = unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, false, nil
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFDIR, true, err
}

// check finds, before anything moves, what could not.
func (p *pushing) check(path string, stage, target int) error {
	list, err := pairs(stage, target)
	if err != nil {
		return err
	}
	for _, one := range list {
		p.alive()
		below := join(path, one.name)
		switch {
		case one.folder && one.inFolder:
			err = p.descend(stage, target, one.name, func(stage, target int) error { return p.check(below, stage, target) })
		case !one.folder && one.inFolder && !p.delete:
			err = p.checkEmpty(below, target, one.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pushing) checkEmpty(path string, target int, name string) error {
	fd, err := tree.OpenFolder(target, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := tree.ReadNames(fd)
	if err == nil && len(names) > 0 {
		return refuse(message.KindExists, path, "%s would replace a folder that is not empty")
	}
	return err
}

func (p *pushing) descend(stage, target int, name string, then func(stage, target int) error) error {
	from, err := tree.OpenFolder(stage, name)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := tree.OpenFolder(target, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return then(from, to)
}

func (p *pushing) merge(path string, stage, target int) error {
	var wanted unix.Stat_t
	if err := unix.Fstat(stage, &wanted); err != nil {
		return err
	}
	if p.delete {
		if err := p.deleteRest(path, stage, target); err != nil {
			return err
		}
	}
	list, err := pairs(stage, target)
	if err != nil {
		return err
	}
	for _, one := range list {
		p.alive()
		if err := p.place(join(path, one.name), stage, target, one); err != nil {
			return err
		}
	}
	if _, named := p.explicit[path]; !named {
		return nil
	}
	if err := unix.Fchmod(target, wanted.Mode&0o7777); err != nil {
		return err
	}
	return futimensSpec(target, wanted.Mtim)
}

// place moves an entry, or merges a folder into the one that is there: another push may have made it a moment ago.
func (p *pushing) place(path string, stage, target int, one both) error {
	for tries := placeTries; ; tries-- {
		if one.folder && one.inFolder {
			return p.descend(stage, target, one.name, func(stage, target int) error { return p.merge(path, stage, target) })
		}
		err := p.move(stage, target, one)
		if err == nil {
			p.note(path)
			return nil
		}
		if !one.folder || tries == 0 || err != unix.ENOTEMPTY && err != unix.EEXIST && err != unix.ENOTDIR {
			return err
		}
		if one.inFolder, one.exists, err = isFolder(target, one.name); err != nil {
			return err
		}
	}
}

func (p *pushing) move(stage, target int, one both) error {
	if one.exists && one.folder != one.inFolder {
		if _, err := tree.Delete(p.cx, target, one.name); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return unix.Renameat(stage, one.name, target, one.name)
}

func (p *pushing) note(path string) {
	p.count++
	if len(p.written) < writtenLimit && p.writtenBytes+len(path) <= writtenLimitBytes {
		p.written = append(p.written, message.Clip(path, 4096))
		p.writtenBytes += len(path)
	}
}

func (p *pushing) deleteRest(path string, stage, target int) error {
	names, err := tree.ReadNames(target)
	if err != nil {
		return err
	}
	for _, entry := range names {
		p.alive()
		if path == "" && p.stage.inside && entry.Name == p.stage.name {
			continue
		}
		_, kept, err := isFolder(stage, entry.Name)
		if err != nil {
			return err
		}
		if kept {
			continue
		}
		n, err := tree.Delete(p.cx, target, entry.Name)
		p.deleted += n
		if err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

func join(path, name string) string { return strings.TrimPrefix(path+"/"+name, "/") }
