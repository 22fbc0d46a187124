package exec

import (
	"time"

	"golang.org/x/sys/unix"
)

// terminate asks a command's tree to end and kills what is left after grace.
func terminate(command *Command, grace time.Duration) {
	if command.pid == 0 {
		return
	}
	if grace > 0 && command.tree().signal(unix.SIGTERM, command.send) == nil {
		select {
		case <-command.ended:
		case <-time.After(grace):
		}
	}
	// A tree that cannot be walked or killed ends with the sandbox.
	_ = command.Kill()
}
