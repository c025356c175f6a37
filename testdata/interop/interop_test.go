package interop

import (
	"slices"
	"testing"
)

// The rules by which the servers are found. Those without the patch come first.
var (
	plainSteps   = []string{"3.2", "4", "1"}
	patchedSteps = []string{"1", "3.3", "5"}
)

// TestInterop starts all the servers once.
func TestInterop(t *testing.T) {
	t.Parallel()
	p := buildPrograms(t)
	plain, patched := newPlaces(t, plainSteps...), newPlaces(t, patchedSteps...)
	places := slices.Concat(plain, patched)
	f := newFederation(t, places...)
	servers := f.startDendrites(t, p, func(at *place) bool { return slices.Contains(patched, at) }, places...)
	plainServers, patchedServers := servers[:len(plain)], servers[len(plain):]

	t.Run("clients", func(t *testing.T) { testClients(t, f, plainServers) })
	t.Run("servers", func(t *testing.T) { testServers(t, f, plainServers, patchedServers) })
	t.Run("restarts", func(t *testing.T) { testRestarts(t, f, plainServers[0]) })
	t.Run("outage", func(t *testing.T) { testOutage(t, plainServers[1], patchedServers[0]) })
}
