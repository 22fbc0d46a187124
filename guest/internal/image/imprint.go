package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
)

// imprint mirrors imprintInput in packages/protocol/src/guest/offline.ts.
type imprint struct {
	// File is a fresh copy of an environment's image: nobody else has written to it yet.
	File     string            `json:"file"`
	Label    string            `json:"label"`
	Identity identity.Identity `json:"identity"`
	Mapping  isolate.Mapping   `json:"mapping"`
}

var labelPattern = regexp.MustCompile(`^[a-z0-9-]{1,15}$`)

const (
	dbusFolder = "/var/lib/dbus"
	machineID  = "machine-id"
)

// Imprint is the role `imprint`. It returns 0 when all was written and read again.
func Imprint(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: pyro-agent imprint INPUT")
		return exitUsage
	}
	var in imprint
	err := message.Decode(strings.NewReader(args[0]), inputLimitBytes, &in)
	if err == nil {
		err = in.write()
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "imprint:", err)
	return exitFailed
}

func (in imprint) write() error {
	if !labelPattern.MatchString(in.Label) {
		return fmt.Errorf("not a label: %q", in.Label)
	}
	texts, err := in.Identity.Files()
	if err != nil {
		return err
	}
	image, err := os.OpenFile(in.File, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := image.Chown(in.Mapping.Base, in.Mapping.Base); err != nil {
		return err
	}
	files := []*os.File{image}
	script := "cd /etc\n"
	for _, file := range texts {
		content, err := memoryFile(file.Name, file.Text)
		if err != nil {
			return err
		}
		defer content.Close()
		script += fmt.Sprintf("rm %[1]s\nwrite %[2]s %[1]s\nsif %[1]s mode 0100644\ncat %[1]s\n", file.Name, handed(len(files)))
		files = append(files, content)
	}
	script += fmt.Sprintf("ssv volume_name %s\nstats -h\nstat %s/%s\n", in.Label, dbusFolder, machineID)
	said, err := in.debugfs(script, files)
	if err != nil {
		return err
	}
	for _, file := range texts {
		// It names what goes wrong, and goes on.
		if !strings.Contains(said, fmt.Sprintf("debugfs: cat %s\n%sdebugfs: ", file.Name, file.Text)) {
			return fmt.Errorf("/etc/%s was not written", file.Name)
		}
	}
	if !regexp.MustCompile(`(?m)^Filesystem volume name: +` + in.Label + `$`).MatchString(said) {
		return errors.New("the label was not written")
	}
	if err := in.linkDbusID(said, image); err != nil {
		return err
	}
	return image.Chown(0, 0)
}

// linkDbusID makes dbus agree with systemd, where dbus has an id of its own: then the last thing that was said is what it is.
func (in imprint) linkDbusID(said string, image *os.File) error {
	if at := strings.LastIndex(said, "debugfs: stat "); !strings.Contains(said[at:], "Inode: ") {
		return nil
	}
	script := fmt.Sprintf("cd %[1]s\nrm %[2]s\nsymlink %[2]s /etc/%[2]s\nstat %[2]s\n", dbusFolder, machineID)
	said, err := in.debugfs(script, []*os.File{image})
	if err == nil && !strings.Contains(said, `"/etc/`+machineID+`"`) {
		return fmt.Errorf("%s/%s was not linked", dbusFolder, machineID)
	}
	return err
}

func (in imprint) debugfs(script string, files []*os.File) (string, error) {
	var said bytes.Buffer
	t := tool{
		name: "debugfs", args: []string{"-w", "-f", "-", handed(0)}, stdin: strings.NewReader(script), stdout: &said,
		files: files, mapping: in.Mapping,
	}
	err := t.run()
	return said.String(), err
}

func memoryFile(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.WriteString(text); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
