// Package image is the role `image`: it makes the disk image of an environment out of its tree. The tool that does it
// runs in the user namespace of the tree's ids, where they are the ids that belong into the image, and has no other rights.
package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

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
)

// input mirrors imageInput in packages/protocol/src/guest/offline.ts.
type input struct {
	Tree    string          `json:"tree"`
	File    string          `json:"file"`
	Bytes   int64           `json:"bytes"`
	UUID    string          `json:"uuid"`
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
	tool, err := exec.LookPath("mke2fs")
	if err != nil {
		return err
	}
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
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: in.Mapping.Base, Size: in.Mapping.Count}}
	command := exec.Command(tool,
		"-q", "-F", "-t", "ext4", "-b", strconv.Itoa(blockBytes), "-m", "0", "-U", in.UUID,
		// What need not be written is left a hole.
		"-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed="+in.UUID,
		"-d", handed(1), handed(0), strconv.FormatInt(in.Bytes/blockBytes, 10))
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "E2FSPROGS_FAKE_TIME=" + fixedTime}
	command.Stderr = os.Stderr
	// Open, because the folders on the way to them are closed to others.
	command.ExtraFiles = []*os.File{file, tree}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0},
		Pdeathsig:  unix.SIGKILL,
	}
	var ended *exec.ExitError
	if err := command.Run(); errors.As(err, &ended) {
		return fmt.Errorf("mke2fs ended with %s", ended)
	} else if err != nil {
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

// handed names one of the extra files as the tool sees it.
func handed(index int) string { return "/proc/self/fd/" + strconv.Itoa(3+index) }
