module pyro.dev/agent

go 1.24.0

require golang.org/x/sys v0.40.0

require github.com/klauspost/compress v1.18.0

require golang.org/x/net v0.49.0
