package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const connectLimit = 3 * time.Second

func connectTo(network string) func(string) (string, error) {
	return func(address string) (string, error) {
		connection, err := net.DialTimeout(network, address, connectLimit)
		if err != nil {
			return "", err
		}
		return "connected to " + address, connection.Close()
	}
}

func socketOf(family int) func(string) (string, error) {
	return func(string) (string, error) {
		kind := unix.SOCK_RAW
		switch family {
		case unix.AF_ALG:
			kind = unix.SOCK_SEQPACKET
		case unix.AF_VSOCK:
			kind = unix.SOCK_STREAM
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", fmt.Errorf("socket: %w", err)
		}
		return fmt.Sprintf("a socket of family %d", family), unix.Close(fd)
	}
}

func netlinkOf(protocol int) func(string) (string, error) {
	return func(string) (string, error) {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return "", fmt.Errorf("socket: %w", err)
		}
		return fmt.Sprintf("a socket of netlink %d", protocol), unix.Close(fd)
	}
}

// interfaces succeeds when there is more than the loopback.
func interfaces(string) (string, error) {
	entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	var names []string
	if err == nil {
		for _, entry := range entries {
			if name := entry.Name(); name != "all" && name != "default" && name != "lo" {
				names = append(names, name)
			}
		}
	}
	found, err := net.Interfaces()
	if err != nil && len(names) == 0 {
		return "", err
	}
	for _, one := range found {
		if one.Flags&net.FlagLoopback == 0 {
			names = append(names, one.Name)
		}
	}
	if len(names) == 0 {
		return "", errNothing
	}
	return strings.Join(names, " "), nil
}

// configureLink takes the loopback down and up.
func configureLink(string) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return "", err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return "", fmt.Errorf("SIOCSIFFLAGS: %w", err)
	}
	return "configured lo", nil
}
