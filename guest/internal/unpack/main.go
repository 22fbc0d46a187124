// Package unpack turns a root filesystem tar or an OCI image into the tree of an environment. It runs inside the empty
// volume, in the user namespace that will own it, so owners, set-id bits and file capabilities are right from the start.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/archive"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

// Input is unpackInput of packages/protocol/src/guest/offline.ts.
type Input struct {
	Volume   string                `json:"volume"`
	Mapping  isolate.Mapping       `json:"mapping"`
	Image    *string               `json:"image"`
	Platform string                `json:"platform"`
	Limits   message.ArchiveLimits `json:"limits"`
}

// Result is unpackResult.
type Result struct {
	Kind           string    `json:"kind"`
	Files          int64     `json:"files"`
	Bytes          int64     `json:"bytes"`
	SkippedDevices int64     `json:"skippedDevices"`
	Env            []string  `json:"env"`
	User           string    `json:"user"`
	WorkingDir     string    `json:"workingDir"`
	Packages       []Package `json:"packages"`
}

// Package is one installed package.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Main is the role "unpack": the request is the only argument, the tar is stdin.
func Main(args []string) int {
	if len(args) == 1 && args[0] == isolate.InsideArgument {
		return inside()
	}
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "unpack: takes its request as the one argument")
		return 2
	}
	var input Input
	if err := isolate.DecodeInput([]byte(args[0]), &input); err != nil {
		return isolate.Fail(err)
	}
	// A volume just made belongs to the host's root.
	if err := os.Lchown(input.Volume, input.Mapping.Base, input.Mapping.Base); err != nil {
		return isolate.Fail(err)
	}
	return isolate.Host(isolate.Spec{
		Role:    "unpack",
		Mapping: input.Mapping,
		Mounts:  []isolate.Mount{{Host: input.Volume, Target: "/"}},
		Capabilities: []uintptr{
			unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP,
		},
		Write: true,
		Input: input,
	})
}

func inside() int {
	var input Input
	if err := isolate.Enter(&input); err != nil {
		return isolate.Fail(err)
	}
	result, err := run(context.Background(), input, os.Stdin)
	if err != nil {
		return isolate.Fail(err)
	}
	return isolate.Succeed(result)
}

func run(cx context.Context, input Input, stdin *os.File) (*Result, error) {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(root)
	source, err := seekable(stdin, root, input.Limits)
	if err != nil {
		return nil, err
	}
	x := archive.NewExtractor(root, archive.Options{
		Limits: input.Limits, Root: "/", Image: true, UmaskIsZero: true, Progress: isolate.Report,
	})
	defer x.Close()
	layout, err := readLayout(source, input.Limits)
	if err != nil {
		return nil, err
	}
	result := &Result{Kind: "rootfs", Env: []string{}, Packages: []Package{}}
	if layout == nil {
		if input.Image != nil {
			return nil, message.Errorf(message.KindNotFound,
				"the archive is a root filesystem: it holds no image %q", message.Clip(*input.Image, 256))
		}
		if _, err := source.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if err = x.All(cx, source); err == nil {
			err = x.Finish()
		}
	} else {
		err = unpackImage(cx, x, layout, input, result)
	}
	if err != nil {
		return nil, err
	}
	counted := x.Result()
	result.Files, result.Bytes, result.SkippedDevices = counted.Files, counted.Bytes, counted.Devices
	if result.Files == 0 {
		return nil, message.Errorf(message.KindInvalid, "the archive holds no file")
	}
	if err := makeFolders(root); err != nil {
		return nil, err
	}
	if err := identity.MakeRoom(root); err != nil {
		return nil, err
	}
	if err := makeWorkingDir(result.WorkingDir); err != nil {
		return nil, err
	}
	result.Packages, err = readPackages(root)
	return result, err
}

// makeFolders makes what every sandbox mounts on or works in. Below /run, which a tmpfs hides, are the mount points of agent
// and channel: gVisor's file server makes missing ones on the disk, where a comparison with the baseline finds them.
func makeFolders(root int) error {
	// Who the workspace is stands in it, wherever it leads.
	if err := unix.Mkdirat(root, "etc", 0o755); err != nil && err != unix.EEXIST {
		return fmt.Errorf("make /etc: %w", err)
	}
	etc, err := unix.Openat(root, "etc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return message.Errorf(message.KindInvalid, "/etc of the archive is neither a folder nor a link to one in it: %v", err)
	}
	unix.Close(etc)
	if err := refuseLostFile(root); err != nil {
		return err
	}
	for _, folder := range []struct {
		name string
		mode uint32
	}{
		{"proc", 0o555}, {"sys", 0o555}, {"dev", 0o755}, {"run", 0o755}, {"run/pyro", 0o755}, {"run/pyro/channel", 0o755},
		{"tmp", 0o1777}, {"workspace", 0o755},
	} {
		err := unix.Mkdirat(root, folder.name, folder.mode)
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("make /%s: %w", folder.name, err)
		}
		// A symlink anywhere in the path is none of these folders.
		fd, err := unix.Openat2(root, folder.name, &unix.OpenHow{
			Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
		})
		if err != nil {
			return message.Errorf(message.KindInvalid, "/%s of the archive is not a folder", folder.name)
		}
		if folder.name == "tmp" {
			err = unix.Fchmod(fd, folder.mode)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("set the mode of /%s: %w", folder.name, err)
		}
	}
	const agent = "run/pyro/agent"
	fd, err := unix.Openat(root, agent, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return message.Errorf(message.KindInvalid, "/%s of the archive is not a file", agent)
	}
	return unix.Close(fd)
}

// refuseLostFile: mke2fs(8) makes a folder of this name on every disk, and takes nothing else from a tree.
func refuseLostFile(root int) error {
	const name = "lost+found"
	var stat unix.Stat_t
	err := unix.Fstatat(root, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at /%s: %w", name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return message.Errorf(message.KindInvalid, "/%s of the archive is not a folder, as it must be on a disk: leave it out", name)
	}
	return nil
}

// makeWorkingDir makes the folder that an image names and does not hold, as other engines do. The volume is the root here:
// whatever links lie on the way, they end in it.
func makeWorkingDir(path string) error {
	if path == "" {
		return nil
	}
	err := os.MkdirAll(path, 0o755)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	if err != nil {
		return message.Errorf(message.KindInvalid, "WorkingDir %q of the image cannot be made: %v", message.Clip(path, 512), err)
	}
	return nil
}

// seekable gives the tar as a plain file. What is compressed or comes through a pipe, and may be an image whose parts
// are needed out of order, is first written to a nameless file in the volume; a compressed root filesystem is not.
func seekable(stdin *os.File, root int, limits message.ArchiveLimits) (io.ReadSeeker, error) {
	_, err := stdin.Seek(0, io.SeekStart)
	if err == nil {
		compressed, err := archive.IsCompressed(stdin)
		if err != nil {
			return nil, archive.Damaged("", err)
		}
		if _, err := stdin.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if !compressed {
			return stdin, nil
		}
		image, err := looksLikeImage(stdin)
		if err != nil {
			return nil, err
		}
		if _, err := stdin.Seek(0, io.SeekStart); err != nil || !image {
			return stdin, err
		}
	} else if !errors.Is(err, unix.ESPIPE) {
		return nil, err
	}
	plain, err := archive.Decompress(stdin)
	if err != nil {
		return nil, archive.Damaged("", err)
	}
	defer plain.Close()
	fd, err := unix.Openat(root, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	spooled := os.NewFile(uintptr(fd), "spooled")
	// Layers stand in it compressed or not, so what unpacks within the limit fits in twice of it.
	n, err := io.Copy(spooled, io.LimitReader(plain, 2*limits.Bytes+1))
	if err != nil {
		return nil, archive.Damaged("", err)
	}
	if n > 2*limits.Bytes {
		return nil, message.Errorf(message.KindTooLarge, "the archive is larger than %d bytes", 2*limits.Bytes)
	}
	_, err = spooled.Seek(0, io.SeekStart)
	return spooled, err
}
