package resolver_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
	"mxdiscover/internal/world"
	"mxdiscover/resolver"
	"mxdiscover/srv"
)

// inside is a Resolver that acts in w.
func inside(w *world.World) *resolver.Resolver {
	o := w.Options()
	r := &resolver.Resolver{
		DNS: &srv.Client{
			Servers:   w.DNSServers(),
			Timeout:   o.DNSTimeout,
			Attempts:  o.DNSAttempts,
			HostsFile: os.DevNull,
			Dial:      w.DNSDial(),
		},
		RootCAs:     w.Roots(),
		AllowNets:   w.AllowNets(),
		DialContext: w.DialContext,
		LenientSRV:  o.LenientSRV,
	}
	if o.Rules == "draft-2019" {
		r.Rules = resolver.Draft2019
	}
	return r
}

// TestScenes runs every scene through the library, in memory and in virtual
// time. cmd/mxdiscover runs the same scenes through the command.
func TestScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../testdata/worlds/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			scene, err := world.Load(file)
			require.NoError(t, err)
			require.NotEmpty(t, scene.Script(), "a scene without expectations shows nothing")
			synctest.Test(t, func(t *testing.T) { play(t, scene) })
		})
	}
}

func play(t *testing.T, scene *world.Scene) {
	w, err := scene.Start(world.Memory{Network: &memnet.Network{}})
	require.NoError(t, err)
	defer w.Close()
	r := inside(w)
	timeout := w.Options().Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	resolve := func(step world.Resolve) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		got, err := json.Marshal(r.Explain(ctx, step.Name))
		if assert.NoError(t, err) {
			assert.NoError(t, world.MatchJSON(step.Want, got), "%s: %s gave\n%s", step.Position(), step.Name, got)
		}
	}
	for _, step := range scene.Script() {
		switch step := step.(type) {
		case world.Resolve:
			var wg sync.WaitGroup
			for range step.Times {
				wg.Go(func() { resolve(step) })
			}
			wg.Wait()
		case world.Forget:
			r.Forget(step.Name)
		case world.Advance:
			time.Sleep(step.By) // virtual
		case world.Asked:
			synctest.Wait() // what runs in the background belongs to it
			got := w.Asked()
			w.ResetAsked()
			assert.NoError(t, step.Check(got), step.Position())
		default:
			t.Fatalf("%s: unknown step %T", step.Position(), step)
		}
	}
	// Nothing outlives its work: everything under way ends by its own
	// deadline, and then the bubble is empty.
	time.Sleep(time.Minute)
}
