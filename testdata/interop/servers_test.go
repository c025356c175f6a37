package interop

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testServers lets users of the patched Dendrites join rooms of others. patched are: one that is found by its
// address, and two that only a Transport finds.
func testServers(t *testing.T, f *federation, plain, patched []*dendrite) {
	for _, host := range plain {
		if host.step == "1" {
			continue // a name that Dendrite finds without help proves less
		}
		t.Run("Dendrite by rule "+host.step+" and Dendrite with Transport", func(t *testing.T) {
			t.Parallel()
			testFederation(t, host, patched[0])
		})
	}
	t.Run("both with Transport", func(t *testing.T) {
		t.Parallel()
		testFederation(t, patched[1], patched[2])
		testFederation(t, patched[2], patched[1])

		// Nobody else has asked for these.
		asked := f.world.Asked()
		for _, want := range []string{
			"GET https://delegated33.example/.well-known/matrix/server",
			"SRV _matrix-fed._tcp.matrix.delegated33.example",
			"SRV _matrix-fed._tcp.srv5.example",
			"SRV _matrix._tcp.srv5.example",
		} {
			require.Contains(t, asked, want)
		}
		requireSent(t, patched[1], "PUT", patched[2].name, "/_matrix/federation/v1/send/")
	})
}

// testFederation lets the guest, who sends through a Transport, join a room of the host. They talk and
// exchange a file.
func testFederation(t *testing.T, host, guest *dendrite) {
	t.Helper()
	room := joinRoom(t, host, guest)
	guest.say(t, room, "hello from the guest")
	host.awaitMessage(t, guest, "hello from the guest")
	host.say(t, room, "hello from the host")
	guest.awaitMessage(t, host, "hello from the host")

	file := []byte(strings.Repeat("a file of "+host.name+"\n", 1<<16)) // more than fits any buffer on the way
	var upload struct {
		URI string `json:"content_uri"`
	}
	host.must(t, "POST", "/_matrix/media/v3/upload?filename=file.txt", file, &upload)
	var got []byte
	guest.must(t, "GET", "/_matrix/client/v1/media/download/"+strings.TrimPrefix(upload.URI, "mxc://"), nil, &got)
	require.True(t, slices.Equal(file, got), "%d bytes of %d", len(got), len(file))

	for _, r := range []struct{ method, path string }{
		{"GET", "/_matrix/federation/v1/query/directory"},
		{"GET", "/_matrix/federation/v1/make_join/"},
		{"PUT", "/_matrix/federation/v2/send_join/"},
		{"GET", "/_matrix/key/v2/server"},
		{"PUT", "/_matrix/federation/v1/send/"},
		{"GET", "/_matrix/federation/v1/media/download/"},
	} {
		requireSent(t, guest, r.method, host.name, r.path)
	}
}

// testOutage lets a user of the guest write to one of the host while that server is down.
func testOutage(t *testing.T, host, guest *dendrite) {
	room := joinRoom(t, host, guest)
	host.stop()
	guest.say(t, room, "are you there?")
	eventually(t, answerTimeout, "a request fails", func(context.Context) error {
		if !slices.ContainsFunc(guest.sent(), func(line string) bool {
			return strings.HasPrefix(line, "PUT matrix://"+host.name+"/_matrix/federation/v1/send/") &&
				strings.Contains(line, "connection refused")
		}) {
			return errors.New("none has failed")
		}
		return nil
	})
	host.start(t)
	host.awaitStart(t)
	host.awaitMessage(t, guest, "are you there?")
}

// joinRoom makes a room that users of both servers are in.
func joinRoom(t *testing.T, host, guest *dendrite) (room string) {
	t.Helper()
	alias := "room-" + rand.Text()
	type answer struct {
		ID string `json:"room_id"`
	}
	var created, joined answer
	host.must(t, "POST", "/_matrix/client/v3/createRoom",
		map[string]any{"preset": "public_chat", "room_alias_name": alias}, &created)
	guest.must(t, "POST", "/_matrix/client/v3/join/"+url.PathEscape("#"+alias+":"+host.name), map[string]any{}, &joined)
	require.Equal(t, created.ID, joined.ID)
	return joined.ID
}

func (d *dendrite) say(t *testing.T, room, text string) {
	t.Helper()
	d.must(t, "PUT", "/_matrix/client/v3/rooms/"+url.PathEscape(room)+"/send/m.room.message/"+rand.Text(),
		map[string]string{"msgtype": "m.text", "body": text}, nil)
}

func (d *dendrite) awaitMessage(t *testing.T, from *dendrite, text string) {
	t.Helper()
	d.awaitEvent(t, func(e event) bool {
		var message struct{ Body string }
		return e.Type == "m.room.message" && e.Sender == from.user &&
			json.Unmarshal(e.Content, &message) == nil && message.Body == text
	})
}

// requireSent checks that a request went through the Transport of a Dendrite, and was answered with 200.
func requireSent(t *testing.T, from *dendrite, method, to, path string) {
	t.Helper()
	sent := from.sent()
	require.True(t, slices.ContainsFunc(sent, func(line string) bool {
		return strings.HasPrefix(line, method+" matrix://"+to+path) && strings.HasSuffix(line, " 200 OK")
	}), "%s %s to %s is not among:\n%s", method, path, to, strings.Join(sent, "\n"))
}
