package interop

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	"mxdiscover/resolver"
)

// A recorder is a server that answers as it is told by the event that it is asked for, and
// remembers what it was asked.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	header := req.Header.Clone()
	if header.Get("Authorization") != "" {
		header.Set("Authorization", "signed") // a transaction has a time in it
	}
	r.mu.Lock()
	r.seen = append(r.seen, fmt.Sprintf("%s %s %s, Host %s, SNI %q, %d bytes, %v, %v",
		req.Proto, req.Method, req.RequestURI, req.Host, req.TLS.ServerName, len(body), err, header))
	r.mu.Unlock()

	const answer = `{"origin":"recorder.example","server":{"name":"recorder"}}`
	switch what := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]; what {
	case "not-found":
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errcode":"M_NOT_FOUND","error":"no such event"}`)
	case "gzip":
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, answer)
		z.Close()
	case "relative":
		http.Redirect(w, req, "/_matrix/elsewhere", http.StatusTemporaryRedirect)
	case "absolute":
		http.Redirect(w, req, "https://"+req.Host+"/_matrix/elsewhere", http.StatusTemporaryRedirect)
	case "broken":
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, answer)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	default:
		io.WriteString(w, answer)
	}
}

// take returns what was asked since the last call.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// strict checks what a RoundTripper promises: the request is left as it is, and the response knows it.
type strict struct {
	t    *testing.T
	next http.RoundTripper
}

func (s strict) RoundTrip(req *http.Request) (*http.Response, error) {
	before := req.Clone(req.Context())
	resp, err := s.next.RoundTrip(req)
	if !reflect.DeepEqual(before.URL, req.URL) || before.Host != req.Host || !reflect.DeepEqual(before.Header, req.Header) {
		s.t.Errorf("the request was changed: %v, was %v", req, before)
	}
	if (resp == nil) == (err == nil) {
		s.t.Errorf("response %v and error %v", resp, err)
	}
	if resp != nil && (resp.Request != req || resp.TLS == nil) {
		s.t.Errorf("the response has another request, or no certificate")
	}
	return resp, err
}

// TestWire compares what a server sees, and what the program gets, with the transport of each library and
// with a Transport.
func TestWire(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	peer := f.startPeer(t)
	type call = func(ctx context.Context, c federationClient, server string) error
	event := func(event string) call {
		return func(ctx context.Context, c federationClient, server string) error { return c.event(ctx, server, event) }
	}
	calls := []struct {
		name string
		call call
	}{
		{"version", func(ctx context.Context, c federationClient, server string) error {
			_, err := c.version(ctx, server)
			return err
		}},
		{"send", func(ctx context.Context, c federationClient, server string) error {
			return c.sendEDU(ctx, server, "a/b", map[string]any{"edu_type": "m.nothing", "content": map[string]any{}})
		}},
		{"plain", event("$plain")},
		{"odd characters", event("!a/b?c=d&e%2Ff:g é\u2028#h")},
		{"not found", event("not-found")},
		{"gzip", event("gzip")},
		{"relative redirect", event("relative")},
		{"broken body", event("broken")},
		{"plain again", event("$plain")},
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		record := new(recorder)
		server := httptest.NewUnstartedServer(record)
		server.EnableHTTP2 = protocol == "HTTP/2.0"
		server.TLS = &tls.Config{Certificates: []tls.Certificate{f.certificate(t, "127.0.0.1")}}
		server.StartTLS()
		t.Cleanup(server.Close)
		name := server.Listener.Addr().String()
		for libraryName, library := range libraries {
			transport, err := f.settings.New()
			require.NoError(t, err)
			t.Cleanup(transport.CloseIdleConnections)
			own, ours := library.own(peer), library.with(peer, strict{t, transport})
			for _, c := range calls {
				t.Run(protocol+" "+libraryName+" "+c.name, func(t *testing.T) {
					want := outcome(c.call(t.Context(), own, name))
					wantSeen := record.take()
					require.NotEmpty(t, wantSeen)
					require.True(t, strings.HasPrefix(wantSeen[0], protocol), wantSeen)
					require.Equal(t, want, outcome(c.call(t.Context(), ours, name)))
					require.Equal(t, wantSeen, record.take())
				})
			}

			t.Run(protocol+" "+libraryName+" absolute redirect", func(t *testing.T) {
				err := ours.event(t.Context(), name, "absolute")
				require.Len(t, record.take(), 1)
				if libraryName == "mautrix" { // which follows none
					var failed mautrix.HTTPError
					require.ErrorAs(t, err, &failed)
					require.True(t, failed.IsStatus(http.StatusTemporaryRedirect), "%v", err)
					return
				}
				// Its own transport would ask for the server that has the name of that web server.
				require.ErrorIs(t, err, resolver.InvalidRequest)

				// A Transport for two schemes of an http.Transport leaves the others to that.
				web := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
				t.Cleanup(web.CloseIdleConnections)
				web.TLSClientConfig.RootCAs.AppendCertsFromPEM(f.world.CAPEM())
				web.RegisterProtocol("matrix", strict{t, transport})
				require.NoError(t, library.with(peer, web).event(t.Context(), name, "absolute"))
				require.Len(t, record.take(), 2)
			})
		}
	}
}

// outcome is what does not differ from run to run of an error.
func outcome(err error) string {
	return fmt.Sprintf("%T %s", err, streamID.ReplaceAllString(fmt.Sprint(err), "stream"))
}

var streamID = regexp.MustCompile(`stream ID \d+`)
