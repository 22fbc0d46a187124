// Command pyro-agent is every part of Pyro that runs outside Node: PID 1 of sandboxes and the one-shot and long-lived
// helpers of the engine on the host. The first argument names the role; docs/guest-protocol.md describes each.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"pyro.dev/agent/internal/boot"
	"pyro.dev/agent/internal/counter"
	"pyro.dev/agent/internal/image"
	"pyro.dev/agent/internal/inspect"
	"pyro.dev/agent/internal/launch"
	"pyro.dev/agent/internal/machine"
	"pyro.dev/agent/internal/monitor"
	"pyro.dev/agent/internal/populate"
	"pyro.dev/agent/internal/unpack"
	"pyro.dev/agent/internal/vmm"
	"pyro.dev/agent/internal/volumes"
)

// roles maps the first argument to the Main of its package: arguments after the role in, exit code out.
var roles = map[string]func(args []string) int{
	"counter":  counter.Main,
	"image":    image.Main,
	"imprint":  image.Imprint,
	"init":     boot.Main,
	"inspect":  inspect.Main,
	"launch":   launch.Main,
	"machine":  machine.Main,
	"monitor":  monitor.Main,
	"populate": populate.Main,
	"unpack":   unpack.Main,
	"vmm":      vmm.Main,
	"volumes":  volumes.Main,
}

const exitUsage = 2

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		names := make([]string, 0, len(roles))
		for name := range roles {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "usage: pyro-agent %s\n", strings.Join(names, "|"))
		os.Exit(exitUsage)
	}
	os.Exit(roles[os.Args[1]](os.Args[2:]))
}
