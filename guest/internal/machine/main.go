// Package machine is the role `machine`: PID 1 of a microVM, from its initramfs on. It runs in two halves. The first
// makes the machine ready and touches no disk and has no link: in that state its memory may be saved and given to any
// number of machines. The second begins when the engine calls for the first time. It makes this machine unlike every
// other one from the same memory, mounts the disk it finds, and becomes the agent. What can be done in the first half is:
// the second one is what every start of a sandbox waits for.
package machine

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"

	"pyro.dev/agent/internal/boot"
	"pyro.dev/agent/internal/channel"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/signals"
)

// ReadyLine is what the console shows when the first half is done.
const ReadyLine = "pyro-agent: ready"

// Main ends only when the machine cannot begin; the kernel then panics, and the VMM with it.
func Main(args []string) int {
	logger := log.New(os.Stderr, "pyro-agent: ", 0)
	if len(args) != 1 {
		logger.Print("usage: machine MEMORY-OF-COMMANDS-IN-MIB")
		return 2
	}
	memoryMib, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil || memoryMib <= 0 {
		logger.Printf("not a memory: %q", args[0])
		return 2
	}
	child := make(chan os.Signal, 1)
	signals.Catch(child)
	if err := run(memoryMib<<20, child, logger); err != nil {
		logger.Print(err)
		return 1
	}
	return 0
}

func run(memory int64, child <-chan os.Signal, logger *log.Logger) error {
	vmm, commands, rehearsal, err := makeReady(memory)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, ReadyLine)
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
	if config.Root != nil && runtime.NumCPU() > 1 {
		go func() { _ = rehearsal.exec() }()
	} else {
		rehearsal.over()
	}
	machine, err := vmm.enter(config, commands)
	if err != nil {
		return err
	}
	link := &channel.Link{Dial: startingWith(first, vmm.link.dial)}
	return boot.Serve(&config.Agent, link, child, machine, logger)
}

// enter mounts the disks that the config names.
func (v *vmm) enter(config *Config, commands *commandGroup) (*boot.Machine, error) {
	if config.Root != nil {
		if err := v.enterRoot(config.Root); err != nil {
			return nil, err
		}
		if err := commands.limit(config.Limits); err != nil {
			return nil, err
		}
		return &boot.Machine{
			End: powerOff, Disk: "/", Roles: map[string]bool{"populate": true}, Cgroup: commands.message(), Limits: commands,
		}, nil
	}
	if err := v.enterInspector(config.Inspect); err != nil {
		return nil, err
	}
	none := message.Cgroup{Mode: "none"}
	return &boot.Machine{End: powerOff, Cgroup: none, Roles: map[string]bool{"inspect": true}}, nil
}

// makeReady is the half before the memory is saved. What it mounts moves to the root that is mounted afterwards.
func makeReady(memory int64) (*vmm, *commandGroup, *rehearsal, error) {
	if err := mountAll(kernelMounts); err != nil {
		return nil, nil, nil, err
	}
	// They take longest, and until the VMM is looked for nothing needs them.
	loaded := make(chan error, 1)
	go func() { loaded <- loadModules() }()
	commands, rehearsal, err := makeInside(memory)
	if err := errors.Join(err, <-loaded); err != nil {
		return nil, nil, nil, err
	}
	vmm, err := findVMM("/sys")
	return vmm, commands, rehearsal, err
}

// makeInside is what the kernel alone is needed for.
func makeInside(memory int64) (*commandGroup, *rehearsal, error) {
	if err := mountAll(memoryMounts(memory)); err != nil {
		return nil, nil, err
	}
	if err := boundSegments(memory); err != nil {
		return nil, nil, err
	}
	if err := showAgent(); err != nil {
		return nil, nil, err
	}
	if err := linkDevices(); err != nil {
		return nil, nil, err
	}
	if err := loopbackUp(); err != nil {
		return nil, nil, err
	}
	commands, err := newCommandGroup()
	if err != nil {
		return nil, nil, err
	}
	rehearsal, err := newRehearsal(commands)
	if err != nil {
		return nil, nil, err
	}
	return commands, rehearsal, boot.Settle()
}
