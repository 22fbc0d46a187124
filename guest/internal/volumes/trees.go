package volumes

import (
	"context"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/tree"
)

type treeCopyInput struct {
	header
	Source string `json:"source"`
	Path   string `json:"path"`
}

func (in treeCopyInput) check() error {
	if err := checkPath("source", in.Source); err != nil {
		return err
	}
	return checkPath("path", in.Path)
}

func treeCopy(cx context.Context, _ *server, in *treeCopyInput) (tree.CopyResult, error) {
	result, err := tree.Copy(cx, in.Source, in.Path)
	return result, failure("copy "+in.Source+" to", in.Path, err)
}

type entriesResult struct {
	Entries int64 `json:"entries"`
}

func treeDelete(cx context.Context, _ *server, in *pathInput) (entriesResult, error) {
	parent, err := openDirectory(filepath.Dir(in.Path))
	if err != nil {
		return entriesResult{}, err
	}
	defer unix.Close(parent)
	entries, err := tree.Delete(cx, parent, filepath.Base(in.Path))
	return entriesResult{Entries: entries}, failure("delete", in.Path, err)
}

func treeUsage(cx context.Context, _ *server, in *pathInput) (tree.Usage, error) {
	total, err := tree.Measure(cx, in.Path)
	return total, failure("measure", in.Path, err)
}

func treeSync(cx context.Context, _ *server, in *pathInput) (empty, error) {
	return empty{}, failure("sync", in.Path, tree.Sync(cx, in.Path))
}
