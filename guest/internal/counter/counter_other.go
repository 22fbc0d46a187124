//go:build !amd64

package counter

const supported = false

func stamp() uint64       { return 0 }
func monotonicNs() uint64 { return 0 }
