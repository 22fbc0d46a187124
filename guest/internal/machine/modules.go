package machine

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesFile names the modules of the initramfs, one path a line, in an order in which each finds what it needs.
const modulesFile = "/modules/order"

func loadModules() error {
	text, err := os.ReadFile(modulesFile)
	if err != nil {
		return err
	}
	for path := range strings.Lines(string(text)) {
		if err := loadModule(strings.TrimSpace(path)); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "finit_module", Path: path, Err: err}
	}
	return nil
}
