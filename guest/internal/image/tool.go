package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/isolate"
)

// tool is one call of a program that reads or writes images.
type tool struct {
	name        string
	args        []string
	environment []string
	stdin       io.Reader
	// files are handed to it open, because the folders on the way to them are closed to others.
	files   []*os.File
	mapping isolate.Mapping
}

func (t tool) run() error {
	program, err := exec.LookPath(t.name)
	if err != nil {
		return err
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: t.mapping.Base, Size: t.mapping.Count}}
	command := exec.Command(program, t.args...)
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, t.environment...)
	command.Stdin, command.Stderr = t.stdin, os.Stderr
	command.ExtraFiles = t.files
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0},
		Pdeathsig:  unix.SIGKILL,
	}
	var ended *exec.ExitError
	if err := command.Run(); errors.As(err, &ended) {
		return fmt.Errorf("%s ended with %s", t.name, ended)
	} else if err != nil {
		return err
	}
	return nil
}

// handed names one of the files as the tool sees it.
func handed(index int) string { return "/proc/self/fd/" + strconv.Itoa(3+index) }
