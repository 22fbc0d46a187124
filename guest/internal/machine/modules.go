package machine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesFile names the modules of the initramfs, one a line, in an order in which each finds what it needs: its path, and
// the type of device that it is for, if it is not for all machines.
const modulesFile = "/modules/order"

// modules are the paths to load.
type modules struct {
	always []string
	// of are for devices of one type each.
	of map[string][]string
}

func parseModules(text string) modules {
	m := modules{of: map[string][]string{}}
	for line := range strings.Lines(text) {
		switch fields := strings.Fields(line); len(fields) {
		case 1:
			m.always = append(m.always, fields[0])
		case 2:
			m.of[fields[1]] = append(m.of[fields[1]], fields[0])
		}
	}
	return m
}

// loadModules loads those of the bus, and then, side by side, those of the devices that are found there.
func loadModules() error {
	text, err := os.ReadFile(modulesFile)
	if err != nil {
		return err
	}
	m := parseModules(string(text))
	if err := loadAll(m.always); err != nil {
		return err
	}
	types, err := deviceTypes("/sys")
	if err != nil {
		return err
	}
	loaded := make(chan error, len(types))
	for _, device := range types {
		go func() { loaded <- loadAll(m.of[device]) }()
	}
	for range types {
		err = errors.Join(err, <-loaded)
	}
	return err
}

// deviceTypes tells each type of device on the bus once.
func deviceTypes(sys string) ([]string, error) {
	paths, err := filepath.Glob(sys + "/bus/virtio/devices/*/device")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var types []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if device := strings.TrimSpace(string(text)); !seen[device] {
			seen[device] = true
			types = append(types, device)
		}
	}
	return types, nil
}

func loadAll(paths []string) error {
	for _, path := range paths {
		if err := loadModule(path); err != nil {
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
