package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// linkPort is the name that a VMM gives to the serial port of the link.
	linkPort = "pyro.link"
	// vsockDevice is what the kernel calls the type of a socket device (virtio specification, 5).
	vsockDevice = "0x0013"
	// devicesLimit is how long the kernel may take to find its devices.
	devicesLimit = 10 * time.Second
	devicesPause = time.Millisecond
)

// vmm is what differs between the VMMs that a machine may run on: a serial port and disks with serial numbers of ours, or
// a socket device and disks in an order.
type vmm struct {
	link link
	disk func(name string) (string, error)
}

// link leads to the engine.
type link interface {
	// await waits for an engine, for ever.
	await() (net.Conn, error)
	// dial gives a connection after the first one.
	dial() (net.Conn, error)
}

// findVMM returns once link and config are there.
func findVMM(sys string) (*vmm, error) {
	for deadline := time.Now().Add(devicesLimit); ; time.Sleep(devicesPause) {
		found, err := lookForVMM(sys)
		if err != nil {
			return nil, err
		}
		if found != nil {
			_, err := found.disk(configDisk)
			return found, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("the machine has neither a port nor a socket device for its link")
		}
	}
}

// lookForVMM gives nil when no link is there yet. A machine has one of the two.
func lookForVMM(sys string) (*vmm, error) {
	port, err := findValue(sys+"/class/virtio-ports/*/name", linkPort)
	if err != nil {
		return nil, err
	}
	if port != "" {
		disks := &serialDisks{sys: sys, devices: map[string]string{}}
		return &vmm{&serialPort{"/dev/" + port}, disks.find}, nil
	}
	device, err := findValue(sys+"/bus/virtio/devices/*/device", vsockDevice)
	if device == "" || err != nil {
		return nil, err
	}
	return &vmm{&hostSocket{port: enginePort}, func(name string) (string, error) { return diskByPlace(sys, name) }}, nil
}

// findValue gives the name of the folder whose file holds a text, or "".
func findValue(pattern, wanted string) (string, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == wanted {
			return filepath.Base(filepath.Dir(path)), nil
		}
	}
	return "", nil
}

// serialDisks knows the disks that it has seen by their serial numbers.
type serialDisks struct {
	sys     string
	devices map[string]string
}

func (d *serialDisks) find(name string) (string, error) {
	return awaitDisk(name, func() (string, error) {
		if d.devices[name] == "" {
			if err := d.look(); err != nil {
				return "", err
			}
		}
		return d.devices[name], nil
	})
}

func (d *serialDisks) look() error {
	paths, err := filepath.Glob(d.sys + "/block/vd*/serial")
	if err != nil {
		return err
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil {
			d.devices[strings.TrimPrefix(strings.TrimSpace(string(text)), "pyro-")] = filepath.Base(filepath.Dir(path))
		}
	}
	return nil
}

// diskByPlace counts on the kernel's naming disks in the order in which the VMM lists them: the config's first.
func diskByPlace(sys, name string) (string, error) {
	place, known := map[string]string{configDisk: "vda", diskPrefix + "0": "vdb", diskPrefix + "1": "vdc", diskPrefix + "2": "vdd"}[name]
	if !known {
		return "", fmt.Errorf("no disk is called %s", name)
	}
	return awaitDisk(name, func() (string, error) {
		if _, err := os.Stat(sys + "/block/" + place); err != nil {
			return "", nil
		}
		return place, nil
	})
}

// awaitDisk gives the device that a look finds.
func awaitDisk(name string, look func() (string, error)) (string, error) {
	for deadline := time.Now().Add(devicesLimit); ; time.Sleep(devicesPause) {
		found, err := look()
		if err != nil {
			return "", err
		}
		if found != "" {
			return "/dev/" + found, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("there is no disk %s", name)
		}
	}
}
