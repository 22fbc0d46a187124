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
	// It names what goes wrong, and goes on.
	script := "cd /etc\n"
	for _, file := range texts {
		content, err := memoryFile(file.Name, file.Text)
		if err != nil {
			return err
		}
		defer content.Close()
		script += fmt.Sprintf("rm %[1]s\nwrite %[2]s %[1]s\nsif %[1]s mode 0100644\n", file.Name, handed(len(files)))
		files = append(files, content)
	}
	script += fmt.Sprintf("ssv volume_name %s\n", in.Label)
	if _, err := in.debugfs(script, true, files); err != nil {
		return err
	}
	hasDbusID, err := in.check(texts, image)
	if err == nil && hasDbusID {
		err = in.linkDbusID(image)
	}
	if err != nil {
		return err
	}
	if err := image.Sync(); err != nil {
		return err
	}
	return image.Chown(0, 0)
}

// check reads again what was written, from the root on, and looks whether dbus has an id of its own.
func (in imprint) check(texts []identity.File, image *os.File) (hasDbusID bool, err error) {
	script := "stats -h\n"
	for _, file := range texts {
		script += "cat /etc/" + file.Name + "\n"
	}
	script += fmt.Sprintf("stat %[1]s\nstat %[1]s/%[2]s\nclose\n", dbusFolder, machineID)
	said, err := in.debugfs(script, false, []*os.File{image})
	if err != nil {
		return false, err
	}
	for _, file := range texts {
		if !strings.Contains(said, fmt.Sprintf("debugfs: cat /etc/%s\n%sdebugfs: ", file.Name, file.Text)) {
			return false, fmt.Errorf("/etc/%s was not written", file.Name)
		}
	}
	if !regexp.MustCompile(`(?m)^Filesystem volume name: +` + in.Label + `$`).MatchString(said) {
		return false, errors.New("the label was not written")
	}
	_, said, _ = strings.Cut(said, "debugfs: stat "+dbusFolder+"\n")
	folder, file, _ := strings.Cut(said, "debugfs: stat ")
	return strings.Contains(folder, "Type: directory") && strings.Contains(file, "Inode: "), nil
}

// linkDbusID makes dbus agree with systemd.
func (in imprint) linkDbusID(image *os.File) error {
	script := fmt.Sprintf("cd %[1]s\nrm %[2]s\nsymlink %[2]s /etc/%[2]s\nstat %[1]s/%[2]s\n", dbusFolder, machineID)
	said, err := in.debugfs(script, true, []*os.File{image})
	if err == nil && !strings.Contains(said, `"/etc/`+machineID+`"`) {
		return fmt.Errorf("%s/%s was not linked", dbusFolder, machineID)
	}
	return err
}

func (in imprint) debugfs(script string, writes bool, files []*os.File) (string, error) {
	args := []string{"-f", "-", handed(0)}
	if writes {
		args = append([]string{"-w"}, args...)
	}
	var said bytes.Buffer
	t := tool{
		name: "debugfs", args: args, stdin: strings.NewReader(script), stdout: &said,
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
