//go:build tools

// Package tools names what `build` builds, so that go.mod keeps it.
package tools

import _ "github.com/dexidp/dex/cmd/dex"
