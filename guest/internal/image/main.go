// Package image has the roles `image`, which makes the disk image of an environment out of its tree, and `imprint`, which
// makes a copy of it the disk of a workspace. The tools that do it run in the user namespace of the tree's ids, where they
// are the ids that belong into the image, and have no other rights.
package image

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

const (
	exitFailed = 1
	exitUsage  = 2
	// inputLimitBytes bounds the argument.
	inputLimitBytes = 64 << 10
	// fixedTime makes the same tree the same image: mke2fs(8), E2FSPROGS_FAKE_TIME.
	fixedTime  = "1700000000"
	blockBytes = 4096
	inodeBytes = 256
	// features are those of Debian 12's own mke2fs.conf(5), wherever the image is made: what package ext4 reads has them.
	features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file," +
		"huge_file,dir_nlink,extra_isize,metadata_csum"
)

// input mirrors imageInput in packages/protocol/src/guest/offline.ts.
type input struct {
	Tree    string          `json:"tree"`
	File    string          `json:"file"`
	Bytes   int64           `json:"bytes"`
	UUID    string          `json:"uuid"`
	Label   *string         `json:"label"`
	Mapping isolate.Mapping `json:"mapping"`
}

// Main returns 0 when the image is there and whole.
func Main(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: pyro-agent image INPUT")
		return exitUsage
	}
	var in input
	err := message.Decode(strings.NewReader(args[0]), inputLimitBytes, &in)
	if err == nil {
		err = in.make()
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "image:", err)
	return exitFailed
}

func (in input) make() error {
	file, err := in.prepareFile()
	if err != nil {
		return err
	}
	defer file.Close()
	tree, err := os.Open(in.Tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	args := []string{
		"-q", "-F", "-t", "ext4", "-b", strconv.Itoa(blockBytes), "-m", "0", "-U", in.UUID,
		"-O", features, "-I", strconv.Itoa(inodeBytes),
		// What need not be written is left a hole.
		"-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed=" + in.UUID,
		"-d", handed(1),
	}
	if in.Label != nil {
		args = append(args, "-L", *in.Label)
	}
	t := tool{name: "mke2fs", args: append(args, handed(0), strconv.FormatInt(in.Bytes/blockBytes, 10)), files: []*os.File{file, tree}, mapping: in.Mapping}
	t.environment = []string{"E2FSPROGS_FAKE_TIME=" + fixedTime}
	if err := t.run(); err != nil {
		return err
	}
	return file.Chown(0, 0)
}

// prepareFile makes the empty file that the mapped root may fill.
func (in input) prepareFile() (*os.File, error) {
	file, err := os.OpenFile(in.File, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = file.Truncate(in.Bytes)
	if err == nil {
		err = file.Chown(in.Mapping.Base, in.Mapping.Base)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
