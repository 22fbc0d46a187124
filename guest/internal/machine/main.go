// Package machine is the role `machine`: PID 1 of a microVM, from its initramfs on. It runs in two halves. The first
// makes the machine ready and touches no disk and has no link: in that state its memory may be saved and given to any
// number of machines. The second begins when the engine calls for the first time. It makes this machine unlike every
// other one from the same memory, mounts the disk it finds, and becomes the agent.
package machine

import (
	"fmt"
	"log"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/boot"
	"pyro.dev/agent/internal/channel"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/signals"
)

// ReadyLine is what the console shows when the first half is done.
const ReadyLine = "pyro-agent: ready"

// Main ends only when the machine cannot begin; the kernel then panics, and the VMM with it.
func Main(args []string) int {
	logger := log.New(os.Stderr, "pyro-agent: ", 0)
	if len(args) != 0 {
		logger.Print("machine takes no arguments")
		return 2
	}
	child := make(chan os.Signal, 1)
	signals.Catch(child)
	if err := run(child, logger); err != nil {
		logger.Print(err)
		return 1
	}
	return 0
}

func run(child <-chan os.Signal, logger *log.Logger) error {
	if err := makeReady(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, ReadyLine)
	vmm, err := findVMM("/sys")
	if err != nil {
		return err
	}
	first, err := vmm.link.await()
	if err != nil {
		return err
	}
	config, err := vmm.readConfig()
	if err != nil {
		return err
	}
	if err := reseed(config.Entropy); err != nil {
		return err
	}
	machine, err := vmm.enter(config)
	if err != nil {
		return err
	}
	link := &channel.Link{Dial: startingWith(first, vmm.link.dial)}
	return boot.Serve(&config.Agent, link, child, machine, logger)
}

// enter mounts the disks that the config names.
func (v *vmm) enter(config *Config) (*boot.Machine, error) {
	if config.Root != nil {
		if err := v.enterRoot(config.Root.UUID, config.Limits.MemoryBytes); err != nil {
			return nil, err
		}
		if config.Identity != nil {
			if err := writeIdentity(*config.Identity); err != nil {
				return nil, err
			}
		}
		cgroup, err := limitCommands(config.Limits)
		if err != nil {
			return nil, err
		}
		return &boot.Machine{
			End: powerOff, Disk: "/", Roles: map[string]bool{"populate": true}, Cgroup: cgroup, Counts: limitCounts,
		}, nil
	}
	if err := v.enterInspector(config.Inspect); err != nil {
		return nil, err
	}
	none := message.Cgroup{Mode: "none"}
	return &boot.Machine{End: powerOff, Cgroup: none, Roles: map[string]bool{"inspect": true}}, nil
}

func writeIdentity(of identity.Identity) error {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	defer unix.Close(root)
	return identity.Write(root, of)
}

// makeReady is the half before the memory is saved.
func makeReady() error {
	for _, m := range []struct{ source, target, kind string }{
		{"dev", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
			return &os.PathError{Op: "mount", Path: m.target, Err: err}
		}
	}
	return loadModules()
}
