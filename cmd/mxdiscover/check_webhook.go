package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// hookTimeout bounds one POST. A receiver has nothing to do but to write a
	// kilobyte down.
	hookTimeout = 10 * time.Second

	// sendTimeout bounds all of them in one round: a receiver that is slow does not
	// keep the checks from going on.
	sendTimeout = 30 * time.Second

	// maxPending bounds the changes that wait for a webhook that does not
	// answer: a day of one name that changes every few minutes.
	maxPending = 300

	// maxHookAnswer is what is read of an answer, so that the connection can be
	// used again. Nobody looks at it.
	maxHookAnswer = 4 << 10
)

// webhook is told of changes, in their order.
type webhook struct {
	url     string
	name    string // scheme and host: a path or query may be a secret
	client  http.Client
	pending []*change
	dropped int // since the last one that was told
}

// newWebhook checks the URL. It is the operator's own word, so any address will
// do, private ones too.
func newWebhook(text string) (*webhook, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, usagef("--webhook is not a URL such as https://hooks.example/x")
	}
	return &webhook{url: u.String(), name: u.Scheme + "://" + u.Host, client: http.Client{
		Timeout: hookTimeout,
		// Who is meant is who was named: a redirect is no answer of theirs.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (h *webhook) add(c *change) {
	if len(h.pending) == maxPending {
		h.pending = h.pending[1:]
		h.dropped++
	}
	h.pending = append(h.pending, c)
}

// send posts what is pending, until one fails; the rest stays.
func (h *webhook) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	for len(h.pending) > 0 {
		if err := h.post(ctx, h.pending[0]); err != nil {
			if h.dropped > 0 {
				err = fmt.Errorf("%w (and %s given up, the oldest)", err, plural(h.dropped, "change was", "changes were"))
			}
			return err
		}
		h.pending, h.dropped = h.pending[1:], 0
	}
	return nil
}

func (h *webhook) post(ctx context.Context, c *change) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(escapeControls(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mxdiscover")
	resp, err := h.client.Do(req)
	var failed *url.Error
	switch {
	case errors.As(err, &failed):
		return failed.Err // without the URL
	case err != nil:
		return err
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxHookAnswer)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
