package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWebhook: what is posted, in which order, and what counts as an answer.
func TestWebhook(t *testing.T) {
	t.Parallel()
	var (
		status = http.StatusNoContent
		got    []string
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodPost, r.Method)
		assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
		assert.Equal(t, "/hook", r.URL.Path, "redirects are not followed")
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		if status < 300 {
			var c change
			assert.NoError(t, json.Unmarshal(body, &c))
			assert.Equal(t, changeVersion, c.Version)
			got = append(got, c.ServerName)
		}
	}))
	defer server.Close()
	h, err := newWebhook(server.URL + "/hook?token=secret")
	require.NoError(t, err)
	assert.Equal(t, server.URL, h.name)
	for _, status = range []int{302, 404, 500} {
		h.pending = []*change{{Version: changeVersion, ServerName: "a.example"}, {Version: changeVersion, ServerName: "b.example"}}
		assert.EqualError(t, h.send(t.Context()), fmt.Sprintf("status %d", status))
		assert.Len(t, h.pending, 2)
	}
	status = 204
	require.NoError(t, h.send(t.Context()))
	assert.Equal(t, []string{"a.example", "b.example"}, got)
	assert.Empty(t, h.pending)

	server.Close()
	h.add(&change{})
	err = h.send(t.Context())
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "secret")
	assert.Len(t, h.pending, 1)
}

// TestWebhookSilent: one that never answers costs a round ten seconds, and the
// changes that wait for it are bounded.
func TestWebhookSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := newWebhook("https://hooks.example/x")
		require.NoError(t, err)
		h.client.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		})
		for range maxPending + 2 {
			h.add(&change{})
		}
		began := time.Now()
		assert.ErrorContains(t, h.send(t.Context()), "(and 2 changes were given up, the oldest)")
		assert.Equal(t, hookTimeout, time.Since(began))
		assert.Len(t, h.pending, maxPending)
	})
}

func TestWebhookURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "hooks.example", "ftp://hooks.example/", "http://", "https:///x", "http://[::1", "http://a b/", "http://:80/"} {
		_, err := newWebhook(bad)
		assert.Error(t, err, bad)
	}
	for _, good := range []string{"http://127.0.0.1:9/x", "https://hooks.example/a?b#c", "http://[::1]:80"} {
		_, err := newWebhook(good)
		assert.NoError(t, err, good)
	}
}
