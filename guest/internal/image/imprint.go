package image

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/ext4"
	"pyro.dev/agent/internal/identity"
	"pyro.dev/agent/internal/isolate"
	"pyro.dev/agent/internal/message"
	"pyro.dev/agent/internal/pattern"
)

// imprint mirrors imprintInput in packages/protocol/src/guest/offline.ts.
type imprint struct {
	// File is a fresh copy of an environment's image: nobody else has written to it yet.
	File     string            `json:"file"`
	Label    string            `json:"label"`
	Identity identity.Identity `json:"identity"`
	Mapping  isolate.Mapping   `json:"mapping"`
}

var labelPattern = pattern.Lazy(`^[a-z0-9-]{1,15}$`)

const (
	dbusFolder = "/var/lib/dbus"
	machineID  = "machine-id"
	// machineIDPath is what dbus is led to.
	machineIDPath = "/etc/" + machineID
	fileMode      = unix.S_IFREG | 0o644
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
	if !labelPattern().MatchString(in.Label) {
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
	etc, dbus, err := places(image)
	if err != nil {
		return err
	}
	files := []*os.File{image}
	// Numbers of folders, because debugfs does not follow every symlink. It names what goes wrong, and goes on.
	script := fmt.Sprintf("cd <%d>\n", etc.Number)
	for _, file := range texts {
		content, err := memoryFile(file.Name, file.Text)
		if err != nil {
			return err
		}
		defer content.Close()
		if _, err := etc.Child(file.Name); err == nil {
			script += fmt.Sprintf("rm %s\n", file.Name)
		} else if !isMissing(err) {
			return err
		}
		script += fmt.Sprintf("write %[2]s %[1]s\nsif %[1]s mode 0%[3]o\n", file.Name, handed(len(files)), fileMode)
		files = append(files, content)
	}
	if dbus != nil {
		script += fmt.Sprintf("cd <%[1]d>\nrm %[2]s\nsymlink %[2]s %[3]s\n", dbus.Number, machineID, machineIDPath)
	}
	script += fmt.Sprintf("ssv volume_name %s\n", in.Label)
	if err := in.debugfs(script, files); err != nil {
		return err
	}
	if err := in.check(texts, image, dbus != nil); err != nil {
		return err
	}
	if err := image.Sync(); err != nil {
		return err
	}
	return image.Chown(0, 0)
}

// places are the folders that /etc and /var/lib/dbus lead to, the latter only where dbus has an id of its own.
func places(image *os.File) (etc, dbus *ext4.Inode, err error) {
	filesystem, err := ext4.Open(image)
	if err != nil {
		return nil, nil, err
	}
	etc, err = filesystem.Follow("/etc")
	if isMissing(err) || err == nil && !etc.IsFolder() {
		return nil, nil, errors.New("its /etc is not a folder")
	}
	if err != nil {
		return nil, nil, err
	}
	dbus, err = filesystem.Follow(dbusFolder)
	if err == nil {
		_, err = dbus.Child(machineID)
	}
	if isMissing(err) || err == nil && dbus.Number == etc.Number {
		return etc, nil, nil
	}
	return etc, dbus, err
}

func isMissing(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

// check reads again what was written, from the root on.
func (in imprint) check(texts []identity.File, image *os.File, hasDbusID bool) error {
	filesystem, err := ext4.Open(image)
	if err != nil {
		return err
	}
	if filesystem.Label != in.Label {
		return errors.New("the label was not written")
	}
	etc, err := filesystem.Follow("/etc")
	if err != nil {
		return err
	}
	for _, file := range texts {
		if got, err := textOf(etc, file.Name); err != nil {
			return fmt.Errorf("read /etc/%s again: %w", file.Name, err)
		} else if got != file.Text {
			return fmt.Errorf("/etc/%s was not written", file.Name)
		}
	}
	if !hasDbusID {
		return nil
	}
	dbus, err := filesystem.Follow(dbusFolder)
	if err != nil {
		return err
	}
	link, err := dbus.Child(machineID)
	if err != nil {
		return fmt.Errorf("read %s/%s again: %w", dbusFolder, machineID, err)
	}
	if target, err := link.Target(); err != nil || target != machineIDPath {
		return fmt.Errorf("%s/%s was not linked", dbusFolder, machineID)
	}
	return nil
}

// textOf is what a file of the identity holds; "" where it is none.
func textOf(folder *ext4.Inode, name string) (string, error) {
	node, err := folder.Child(name)
	if err != nil || node.Mode != fileMode || node.Size > inputLimitBytes {
		return "", err
	}
	text := make([]byte, node.Size)
	n, err := node.Content().Read(text, 0)
	return string(text[:n]), err
}

func (in imprint) debugfs(script string, files []*os.File) error {
	t := tool{
		name: "debugfs", args: []string{"-w", "-f", "-", handed(0)}, stdin: strings.NewReader(script),
		files: files, mapping: in.Mapping,
	}
	return t.run()
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
