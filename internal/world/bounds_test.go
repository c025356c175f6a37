package world

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBounds asks for more than a world keeps.
func TestBounds(t *testing.T) {
	t.Parallel()
	s, err := Parse("t", []byte("-- zone --\n*.example. A 203.0.113.10\n-- servers --\n203.0.113.10:443\n"))
	require.NoError(t, err)
	w, err := s.Start(Memory{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.Close()) })
	for i := range maxCertificates + 10 {
		c, err := w.certificate(s.endpoints[0], serverOptions{}, fmt.Sprintf("n%d.example", i))
		require.NoError(t, err)
		again, err := w.certificate(s.endpoints[0], serverOptions{}, fmt.Sprintf("N%d.example", i))
		require.NoError(t, err)
		assert.Same(t, c, again)
	}
	assert.LessOrEqual(t, len(w.certs), maxCertificates)
	for range maxAsked + 10 {
		w.log("A example")
	}
	assert.Len(t, w.Asked(), maxAsked)
}
