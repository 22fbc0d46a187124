// Package inspect looks at frozen volumes for the engine: it compares two of them and streams files out of one. It runs
// in a bare sandbox of its own, sees nothing but these volumes, all read-only, and takes whatever is in them for hostile:
// no symlink is followed by the kernel, nothing but regular files and folders is opened, and memory does not grow with
// the tree.
package inspect

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

// Input is inspectInput of packages/protocol/src/guest/offline.ts: the fields of both operations.
type Input struct {
	Op      string          `json:"op"`
	Mapping isolate.Mapping `json:"mapping"`

	From             string   `json:"from,omitempty"`
	To               string   `json:"to,omitempty"`
	IgnoreFrom       string   `json:"ignoreFrom,omitempty"`
	Root             string   `json:"root,omitempty"`
	Paths            []string `json:"paths,omitempty"`
	Ignored          bool     `json:"ignored,omitempty"`
	Patch            bool     `json:"patch,omitempty"`
	PlainFolder      bool     `json:"plainFolder,omitempty"`
	PatchLimitBytes  int64    `json:"patchLimitBytes,omitempty"`
	BinaryLimitBytes int64    `json:"binaryLimitBytes,omitempty"`

	Volume string `json:"volume,omitempty"`
	Path   string `json:"path,omitempty"`
	// Image is nil where the volumes are trees; else it says what they have to be.
	Image *Image `json:"image,omitempty"`
}

// task is what the host half hands to the inside.
type task struct {
	Input Input `json:"input"`
	Proof Proof `json:"proof"`
	// Images are the descriptors of what Input.Image tells of: From, To and IgnoreFrom, or Volume alone.
	Images []descriptor `json:"images"`
}

// places is where the volumes lie: inside, in the small root.
type places struct{ from, to, ignoreFrom, export string }

var mounted = places{from: "/from", to: "/to", ignoreFrom: "/ignore", export: "/volume"}

func (p places) sides() sides {
	return sides{mountedVolume(p.from), mountedVolume(p.to), mountedVolume(p.ignoreFrom)}
}

// Main is the role "inspect".
func Main(args []string) int {
	if len(args) == 1 && args[0] == isolate.InsideArgument {
		return inside()
	}
	if len(args) != 0 {
		fmt.Fprintln(os.Stderr, "inspect: takes no arguments")
		return 2
	}
	var input Input
	if err := isolate.ReadInput(&input); err != nil {
		return isolate.Fail(err)
	}
	t := task{Input: input}
	spec := isolate.Spec{
		Role:    "inspect",
		Mapping: input.Mapping,
		// Whatever a user inside closed to others is part of the state.
		Capabilities: []uintptr{unix.CAP_DAC_READ_SEARCH},
	}
	switch {
	case input.Op != "diff" && input.Op != "export":
		return isolate.Fail(message.Errorf(message.KindInvalid, "there is no operation %q", input.Op))
	case input.Image != nil:
		paths := []string{input.Volume}
		if input.Op == "diff" {
			paths = []string{input.From, input.To, input.IgnoreFrom}
		}
		for at, path := range paths {
			file, err := os.Open(path)
			if err != nil {
				return isolate.Fail(err)
			}
			defer file.Close()
			spec.Files = append(spec.Files, file)
			t.Images = append(t.Images, descriptor(spec.Handed(at)))
		}
		spec.Capabilities = nil
	case input.Op == "diff":
		spec.Mounts = []isolate.Mount{
			{Host: input.From, Target: mounted.from[1:], ReadOnly: true},
			{Host: input.To, Target: mounted.to[1:], ReadOnly: true},
			{Host: input.IgnoreFrom, Target: mounted.ignoreFrom[1:], ReadOnly: true},
		}
		t.Proof = prove(input.From, input.To)
	default:
		spec.Mounts = []isolate.Mount{{Host: input.Volume, Target: mounted.export[1:], ReadOnly: true}}
	}
	spec.Input = t
	return isolate.Host(spec)
}

func inside() int {
	var t task
	if err := isolate.Enter(&t); err != nil {
		return isolate.Fail(err)
	}
	var result any
	var err error
	switch isDiff, isImage := t.Input.Op == "diff", t.Input.Image != nil; {
	case isDiff && isImage:
		result, err = diffImages(t, os.Stdout)
	case isDiff:
		result, err = diff(t, mounted.sides(), newEmitter(t.Input, os.Stdout))
	case isImage:
		result, err = exportImage(t.Input.Path, t.Images[0], t.Input.Image, newFrameStream(os.Stdout))
	default:
		result, err = export(t.Input.Path, mountedVolume(mounted.export), newFrameStream(os.Stdout))
	}
	if err != nil {
		return isolate.Fail(err)
	}
	return isolate.Succeed(result)
}
