// Package buildinfo knows which build this is.
package buildinfo

import "runtime/debug"

// version is set by the linker (see the Makefile).
var version string

// Version returns the version of the build: the linker's, else the module's, else "unknown".
func Version() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "unknown"
}
