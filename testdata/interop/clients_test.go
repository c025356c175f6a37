package interop

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib"
	"github.com/matrix-org/gomatrixserverlib/fclient"
	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/require"
	"go.mau.fi/util/exhttp"
	"go.mau.fi/util/jsontime"
	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix"
	mautrixfed "maunium.net/go/mautrix/federation"
	"maunium.net/go/mautrix/id"

	"mxdiscover/resolver"
)

// A peer is the homeserver for which the clients speak: a name and a key, which it publishes for
// Dendrite to verify signatures with.
type peer struct {
	name string // 127.0.0.1:PORT, which Dendrite's own client finds without DNS
	id   string // of the key
	key  ed25519.PrivateKey
}

func (f *federation) startPeer(t *testing.T) *peer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	p := &peer{id: "ed25519:peer", key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_matrix/key/v2/server", func(w http.ResponseWriter, _ *http.Request) {
		unsigned, err := json.Marshal(gomatrixserverlib.ServerKeyFields{
			ServerName: spec.ServerName(p.name),
			VerifyKeys: map[gomatrixserverlib.KeyID]gomatrixserverlib.VerifyKey{
				gomatrixserverlib.KeyID(p.id): {Key: spec.Base64Bytes(key.Public().(ed25519.PublicKey))},
			},
			ValidUntilTS:  spec.AsTimestamp(time.Now().Add(time.Hour)),
			OldVerifyKeys: map[gomatrixserverlib.KeyID]gomatrixserverlib.OldVerifyKey{},
		})
		if err == nil {
			unsigned, err = gomatrixserverlib.SignJSON(p.name, gomatrixserverlib.KeyID(p.id), key, unsigned)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(unsigned)
	})
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{f.certificate(t, "127.0.0.1")}}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.name = server.Listener.Addr().String()
	return p
}

// A federationClient is what the tests ask of both libraries.
type federationClient interface {
	// serverKeys checks the signature of what it returns: server name and key.
	serverKeys(ctx context.Context, server string) (name string, key []byte, err error)
	version(ctx context.Context, server string) (name string, err error)
	// displayName is a signed GET.
	displayName(ctx context.Context, server, user string) (string, error)
	// event is a signed GET with what may be any text in its path.
	event(ctx context.Context, server, event string) error
	// sendEDU is a signed PUT.
	sendEDU(ctx context.Context, server, transaction string, edu map[string]any) error
}

// gomatrixserverlib writes matrix:// URLs.
type gomatrixserverlibClient struct {
	peer   *peer
	client fclient.FederationClient
	plain  *fclient.Client // requests without a signature
}

func newGomatrixserverlib(p *peer, options ...fclient.ClientOption) federationClient {
	return gomatrixserverlibClient{p,
		fclient.NewFederationClient([]*fclient.SigningIdentity{{
			ServerName: spec.ServerName(p.name), KeyID: gomatrixserverlib.KeyID(p.id), PrivateKey: p.key,
		}}, options...),
		fclient.NewClient(append(options, fclient.WithWellKnownSRVLookups(true))...), // as Dendrite does
	}
}

func (c gomatrixserverlibClient) serverKeys(ctx context.Context, server string) (string, []byte, error) {
	keys, err := c.client.GetServerKeys(ctx, spec.ServerName(server))
	if err != nil {
		return "", nil, err
	}
	checks, all := gomatrixserverlib.CheckKeys(spec.ServerName(server), time.Now(), keys)
	if !checks.AllChecksOK {
		return "", nil, errors.New("the keys are not valid")
	}
	for _, key := range all {
		return string(keys.ServerName), key, nil
	}
	return "", nil, errors.New("there is no key")
}

func (c gomatrixserverlibClient) version(ctx context.Context, server string) (string, error) {
	v, err := c.plain.GetVersion(ctx, spec.ServerName(server))
	return v.Server.Name, err
}

func (c gomatrixserverlibClient) displayName(ctx context.Context, server, user string) (string, error) {
	profile, err := c.client.LookupProfile(ctx, spec.ServerName(c.peer.name), spec.ServerName(server), user, "")
	return profile.DisplayName, err
}

func (c gomatrixserverlibClient) event(ctx context.Context, server, event string) error {
	_, err := c.client.GetEvent(ctx, spec.ServerName(c.peer.name), spec.ServerName(server), event)
	return err
}

func (c gomatrixserverlibClient) sendEDU(ctx context.Context, server, transaction string, edu map[string]any) error {
	content, err := json.Marshal(edu["content"])
	if err != nil {
		return err
	}
	_, err = c.client.SendTransaction(ctx, gomatrixserverlib.Transaction{
		TransactionID:  gomatrixserverlib.TransactionID(transaction),
		Origin:         spec.ServerName(c.peer.name),
		Destination:    spec.ServerName(server),
		OriginServerTS: spec.AsTimestamp(time.Now()),
		PDUs:           []json.RawMessage{},
		EDUs:           []gomatrixserverlib.EDU{{Type: edu["edu_type"].(string), Origin: c.peer.name, Content: content}},
	})
	return err
}

// mautrix-go writes matrix-federation:// URLs.
type mautrixClient struct{ client *mautrixfed.Client }

func newMautrix(p *peer, transport http.RoundTripper) mautrixClient {
	client := mautrixfed.NewClient(p.name, &mautrixfed.SigningKey{
		ID:   id.KeyID(p.id),
		Pub:  id.SigningKey(base64.RawStdEncoding.EncodeToString(p.key.Public().(ed25519.PublicKey))),
		Priv: p.key,
	}, nil, exhttp.SensibleClientSettings)
	client.HTTP.Transport = transport
	return mautrixClient{client}
}

func (c mautrixClient) serverKeys(ctx context.Context, server string) (string, []byte, error) {
	keys, err := c.client.ServerKeys(ctx, server)
	if err != nil {
		return "", nil, err
	}
	if err := keys.VerifySelfSignature(); err != nil {
		return "", nil, err
	}
	for _, key := range keys.VerifyKeys {
		raw, err := key.Decode()
		return keys.ServerName, raw, err
	}
	return "", nil, errors.New("there is no key")
}

func (c mautrixClient) version(ctx context.Context, server string) (string, error) {
	v, err := c.client.Version(ctx, server)
	if err != nil {
		return "", err
	}
	return v.Server.Name, nil
}

func (c mautrixClient) displayName(ctx context.Context, server, user string) (string, error) {
	profile, err := c.client.QueryProfile(ctx, server, id.UserID(user))
	if err != nil {
		return "", err
	}
	return profile.DisplayName, nil
}

func (c mautrixClient) event(ctx context.Context, server, event string) error {
	_, err := c.client.GetEvent(ctx, server, id.EventID(event))
	return err
}

func (c mautrixClient) sendEDU(ctx context.Context, server, transaction string, edu map[string]any) error {
	text, err := json.Marshal(edu)
	if err != nil {
		return err
	}
	_, err = c.client.SendTransaction(ctx, &mautrixfed.ReqSendTransaction{
		Destination: server, TxnID: transaction, Origin: c.client.ServerName,
		OriginServerTS: jsontime.UnixMilliNow(), PDUs: []mautrixfed.PDU{}, EDUs: []mautrixfed.EDU{text},
	})
	return err
}

// contentType adds what the specification wants of a request with JSON and mautrix-go leaves out (S2S, API
// standards): Dendrite takes no other.
type contentType struct{ http.RoundTripper }

func (c contentType) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req = req.Clone(req.Context())
		req.Header.Set("Content-Type", "application/json")
	}
	return c.RoundTripper.RoundTrip(req)
}

// A library makes clients that send through a Transport, and clients that send through the transport of
// the library, which take any certificate.
type library struct {
	with func(*peer, http.RoundTripper) federationClient
	own  func(*peer) federationClient
}

var libraries = map[string]library{
	"gomatrixserverlib": {
		with: func(p *peer, transport http.RoundTripper) federationClient {
			return newGomatrixserverlib(p, fclient.WithTransport(transport))
		},
		own: func(p *peer) federationClient {
			return newGomatrixserverlib(p, fclient.WithSkipVerify(true), fclient.WithKeepAlives(true))
		},
	},
	"mautrix": {
		with: func(p *peer, transport http.RoundTripper) federationClient {
			return newMautrix(p, contentType{transport})
		},
		own: func(p *peer) federationClient {
			own := mautrixfed.NewServerResolvingTransport(nil, new(net.Dialer).DialContext, exhttp.SensibleClientSettings)
			own.Transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			return newMautrix(p, contentType{own})
		},
	},
}

// testClients sends every request to every server with every library.
func testClients(t *testing.T, f *federation, servers []*dendrite) {
	peer := f.startPeer(t)
	for _, server := range servers {
		server.must(t, "PUT", "/_matrix/client/v3/profile/"+server.user+"/displayname",
			map[string]string{"displayname": "User of " + server.name}, nil)
	}
	for libraryName, library := range libraries {
		t.Run(libraryName, func(t *testing.T) {
			transport, err := f.settings.New()
			require.NoError(t, err)
			t.Cleanup(transport.CloseIdleConnections)
			client := library.with(peer, transport)
			for _, server := range servers {
				t.Run("rule "+server.step, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
					defer cancel()

					res, err := transport.Resolver.Resolve(ctx, server.name)
					require.NoError(t, err)
					require.Equal(t, server.step, res.Step)

					name, err := client.version(ctx, server.name)
					require.NoError(t, err)
					require.Equal(t, "Dendrite", name)

					name, key, err := client.serverKeys(ctx, server.name)
					require.NoError(t, err)
					require.Equal(t, server.name, name)
					require.Len(t, key, ed25519.PublicKeySize)

					name, err = client.displayName(ctx, server.name, server.user)
					require.NoError(t, err)
					require.Equal(t, "User of "+server.name, name)

					text := "a letter by " + libraryName
					require.NoError(t, client.sendEDU(ctx, server.name, libraryName, map[string]any{
						"edu_type": "m.direct_to_device",
						"content": map[string]any{
							"sender": "@writer:" + peer.name, "type": "interop.letter", "message_id": libraryName,
							"messages": map[string]any{server.user: map[string]any{"*": map[string]string{"text": text}}},
						},
					}))
					// Dendrite answers 200 before it looks at EDUs. Its user has the last word.
					server.awaitEvent(t, func(e event) bool {
						var letter struct{ Text string }
						return e.Type == "interop.letter" && e.Sender == "@writer:"+peer.name &&
							json.Unmarshal(e.Content, &letter) == nil && letter.Text == text
					})
				})
			}
		})
	}

	for name, library := range libraries {
		t.Run(name+" is not believed", func(t *testing.T) {
			transport, err := f.settings.New()
			require.NoError(t, err)
			t.Cleanup(transport.CloseIdleConnections)
			_, key, err := ed25519.GenerateKey(nil)
			require.NoError(t, err)
			forger := *peer
			forger.key = key
			_, err = library.with(&forger, transport).displayName(t.Context(), servers[0].name, servers[0].user)
			require.ErrorContains(t, err, "401")

			// The certificate is for the address.
			address := servers[slices.IndexFunc(servers, func(d *dendrite) bool { return d.step == "1" })]
			_, err = library.with(peer, transport).version(t.Context(), fmt.Sprintf("localhost:%d", address.federation))
			require.ErrorIs(t, err, resolver.TLSFailed)
		})
	}

	t.Run("mautrix without Content-Type", func(t *testing.T) {
		// Not the Transport's to mend. When this fails, contentType can go.
		transport, err := f.settings.New()
		require.NoError(t, err)
		t.Cleanup(transport.CloseIdleConnections)
		err = newMautrix(peer, transport).sendEDU(t.Context(), servers[0].name, "untyped", map[string]any{"edu_type": "x"})
		var failed mautrix.HTTPError
		require.ErrorAs(t, err, &failed)
		require.True(t, failed.IsStatus(http.StatusBadRequest), "%v", err)
	})
}

// testRestarts stops a server with open connections and starts it again.
func testRestarts(t *testing.T, f *federation, server *dendrite) {
	peer := f.startPeer(t)
	transport, err := f.settings.New()
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	client := libraries["gomatrixserverlib"].with(peer, transport)
	send := func(transaction string) error {
		return client.sendEDU(t.Context(), server.name, transaction, map[string]any{"edu_type": "m.nothing", "content": map[string]any{}})
	}
	many := func() {
		var group errgroup.Group
		for range 50 {
			group.Go(func() error {
				_, err := client.version(t.Context(), server.name)
				return err
			})
		}
		require.NoError(t, group.Wait())
	}
	require.NoError(t, send("before"))
	many()

	// Nobody has noticed: the connections that were kept are of no use, and no request fails of it.
	server.stop()
	server.start(t)
	server.awaitStart(t)
	require.NoError(t, send("after"))
	many()

	server.kill()
	server.start(t)
	server.awaitStart(t)
	require.NoError(t, send("after-a-crash"))
	many()

	// Whoever asks in between is told so, and may ask again once the server is known to be back.
	server.stop()
	require.ErrorIs(t, send("to-nobody"), resolver.ConnectFailed)
	server.start(t)
	server.awaitStart(t)
	var remembered *resolver.ConnectError
	require.ErrorAs(t, send("too-early"), &remembered)
	require.True(t, remembered.Remembered)
	transport.MarkAlive(server.name)
	require.NoError(t, send("at-last"))
	many()
}

// TestErrors tells why a server was not reached through the error types of both libraries.
func TestErrors(t *testing.T) {
	t.Parallel()
	nobody := newPlaces(t, "3.2", "4", "1")
	f := newFederation(t, nobody...)
	peer := f.startPeer(t)
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport, err := f.settings.New()
			require.NoError(t, err)
			client := library.with(peer, transport)
			for _, server := range nobody {
				_, err := client.version(t.Context(), server.name)
				require.ErrorIs(t, err, resolver.Unreachable)
				require.ErrorIs(t, err, resolver.ConnectFailed)
				var why *resolver.ConnectError
				require.ErrorAs(t, err, &why)
				require.Equal(t, server.name, why.ServerName)
				require.Equal(t, server.step, why.Result.Step)
			}

			_, err = client.version(t.Context(), "not-there.example")
			require.ErrorIs(t, err, resolver.Unreachable)
			require.ErrorIs(t, err, resolver.NoAddress)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.False(t, timeout.Timeout())

			_, err = client.version(t.Context(), "not-a-name:99999")
			require.ErrorIs(t, err, resolver.InvalidServerName)

			closed := f.settings
			closed.AllowNets = nil
			transport, err = closed.New()
			require.NoError(t, err)
			_, err = library.with(peer, transport).version(t.Context(), nobody[2].name)
			require.ErrorIs(t, err, resolver.AddressDenied)

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = client.version(ctx, nobody[0].name)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}
