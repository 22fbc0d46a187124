package machine

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"pyro.dev/agent/internal/message"
)

const (
	configDisk = "config"
	// diskPrefix is followed by the number of the disk, from 0 on.
	diskPrefix = "disk"

	// configLimitBytes bounds the config disk: one document, then zeros.
	configLimitBytes = 64 << 10
)

// Config is machineConfig of packages/protocol/src/guest/machine.ts.
type Config struct {
	Agent message.AgentConfig `json:"agent"`
	// Entropy is base64 of bytes that no other machine has.
	Entropy string `json:"entropy"`
	Limits  Limits `json:"limits"`
	// Root is nil in an inspector, which has Inspect instead, one for each disk.
	Root    *Filesystem  `json:"root"`
	Inspect []Filesystem `json:"inspect"`
}

// Filesystem is what a disk has to hold. The label says whose it is.
type Filesystem struct {
	UUID  string `json:"uuid"`
	Label string `json:"label"`
}

func (v *vmm) readConfig() (*Config, error) {
	device, err := v.disk(configDisk)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := readDocument(file)
	if err != nil {
		return nil, err
	}
	var config Config
	if err := message.Decode(bytes.NewReader(text), configLimitBytes, &config); err != nil {
		return nil, fmt.Errorf("config disk: %w", err)
	}
	if config.Agent.Protocol != message.Protocol {
		return nil, fmt.Errorf("the engine speaks protocol %d, this agent %d", config.Agent.Protocol, message.Protocol)
	}
	if (config.Root == nil) == (len(config.Inspect) == 0) {
		return nil, errors.New("the config has to name either a root or disks to inspect")
	}
	return &config, nil
}

// readDocument reads no more of the disk than it has to.
func readDocument(disk io.Reader) ([]byte, error) {
	text := make([]byte, 0, configLimitBytes)
	for len(text) < configLimitBytes {
		n, err := io.ReadFull(disk, text[len(text):min(len(text)+pageBytes, configLimitBytes)])
		text = text[:len(text)+n]
		if end := bytes.IndexByte(text, 0); end >= 0 {
			return text[:end], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return text, nil
}

// reseed makes the kernel's random numbers those of this machine alone.
func reseed(encoded string) error {
	const minimum = 32
	entropy, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(entropy) < minimum || len(entropy)%4 != 0 {
		return fmt.Errorf("the config holds no entropy of at least %d bytes", minimum)
	}
	pool, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer pool.Close()
	request := make([]byte, 8+len(entropy))
	*(*int32)(unsafe.Pointer(&request[0])) = int32(8 * len(entropy))
	*(*int32)(unsafe.Pointer(&request[4])) = int32(len(entropy))
	copy(request[8:], entropy)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, pool.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&request[0]))); errno != 0 {
		return os.NewSyscallError("RNDADDENTROPY", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, pool.Fd(), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return os.NewSyscallError("RNDRESEEDCRNG", errno)
	}
	return nil
}

// Where an ext2, ext3 or ext4 filesystem has its magic number, UUID and label (Documentation/filesystems/ext4, super block).
const (
	superBlockOffset = 1024
	magicOffset      = superBlockOffset + 0x38
	uuidOffset       = superBlockOffset + 0x68
	labelOffset      = superBlockOffset + 0x78
	labelBytes       = 16
	superBlockEnd    = superBlockOffset + 1024
)

// verify refuses a disk that is not the one the record speaks of. It looks before anything is mounted, which may write.
func (f *Filesystem) verify(device string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, superBlockEnd)
	if _, err := io.ReadFull(file, block); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the disk is too short for a filesystem")
	} else if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	if block[magicOffset] != 0x53 || block[magicOffset+1] != 0xef {
		return errors.New("the disk holds no ext4 filesystem")
	}
	if found := hex.EncodeToString(block[uuidOffset : uuidOffset+16]); found != strings.ReplaceAll(f.UUID, "-", "") {
		return fmt.Errorf("the disk holds the filesystem %s instead of %s", found, f.UUID)
	}
	label, _, _ := strings.Cut(string(block[labelOffset:labelOffset+labelBytes]), "\x00")
	if label == f.Label {
		return nil
	}
	return fmt.Errorf("the disk belongs to %q instead of %s", label, f.Label)
}
