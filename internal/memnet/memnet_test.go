package memnet_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/memnet"
)

const (
	latency = 10 * time.Millisecond
	there   = "203.0.113.1:443"
)

// pair connects two ends of a stream.
func pair(t *testing.T, n *memnet.Network) (client, server net.Conn) {
	t.Helper()
	l, err := n.Listen(there)
	require.NoError(t, err)
	client, err = n.DialContext(t.Context(), "tcp", there)
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return client, server
}

func TestDialTakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c, s := pair(t, &memnet.Network{Latency: latency})
		assert.Equal(t, 2*latency, time.Since(start))
		assert.IsType(t, &net.TCPAddr{}, c.LocalAddr())
		assert.Equal(t, there, c.RemoteAddr().String())
		assert.Equal(t, there, s.LocalAddr().String())
		assert.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
	})
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, network, addr string
		want                error
		after               time.Duration
	}{
		{"nobody", "tcp", "203.0.113.9:443", syscall.ECONNREFUSED, 2 * latency},
		{"nobody ipv6", "tcp6", "[2001:db8::9]:443", syscall.ECONNREFUSED, 2 * latency},
		{"black hole", "tcp", "203.0.113.8:443", context.DeadlineExceeded, time.Second},
		{"a name", "tcp", "example.org:443", nil, 0},
		{"unix", "unix", "203.0.113.9:443", net.UnknownNetworkError("unix"), 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Latency: latency}
				n.Drop("203.0.113.8:443")
				n.Drop("not an address")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				conn, err := n.DialContext(ctx, c.network, c.addr)
				assert.Nil(t, conn)
				assert.Equal(t, c.after, time.Since(start))
				var op *net.OpError
				require.ErrorAs(t, err, &op)
				if c.want != nil {
					assert.ErrorIs(t, err, c.want)
				}
			})
		})
	}
}

func TestDialGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: latency}
		_, err := n.Listen(there)
		require.NoError(t, err)
		for _, d := range []time.Duration{0, latency / 2, latency * 3 / 2} {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			_, err := n.DialContext(ctx, "tcp", there)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			var ne net.Error
			require.ErrorAs(t, err, &ne)
			assert.True(t, ne.Timeout())
			cancel()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = n.DialContext(ctx, "udp", there)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestFullBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		l, err := n.Listen(there)
		require.NoError(t, err)
		var first net.Conn
		for range 128 {
			c, err := n.DialContext(t.Context(), "tcp", there)
			require.NoError(t, err)
			if first == nil {
				first = c
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.DialContext(ctx, "tcp", there)
		assert.ErrorIs(t, err, context.DeadlineExceeded)

		// What nobody accepted is reset, and whoever waits is refused.
		waiting := make(chan error)
		go func() {
			_, err := n.DialContext(t.Context(), "tcp", there)
			waiting <- err
		}()
		synctest.Wait()
		require.NoError(t, l.Close())
		_, err = first.Read(make([]byte, 1))
		assert.ErrorIs(t, err, syscall.ECONNRESET)
		if err := <-waiting; err != nil { // it may have slipped in while the queue was drained
			assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		}
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	var n memnet.Network
	l, err := n.Listen(there)
	require.NoError(t, err)
	_, err = n.Listen(there)
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	p, err := n.ListenPacket(there)
	require.NoError(t, err)
	_, err = n.ListenPacket(there)
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	_, err = n.Listen("nowhere")
	assert.Error(t, err)
	_, err = n.ListenPacket("nowhere")
	assert.Error(t, err)

	a, err := n.Listen("203.0.113.1:0")
	require.NoError(t, err)
	b, err := n.Listen("203.0.113.1:0")
	require.NoError(t, err)
	assert.NotEqual(t, a.Addr().String(), b.Addr().String())
	u, err := n.ListenPacket("203.0.113.1:0")
	require.NoError(t, err)
	assert.NotZero(t, u.LocalAddr().(*net.UDPAddr).Port)

	require.NoError(t, l.Close())
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, p.Close())
	assert.ErrorIs(t, p.Close(), net.ErrClosed)
	_, err = n.Listen(there) // free again
	assert.NoError(t, err)
}

func TestCloseWakesAccept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n memnet.Network
		l, err := n.Listen(there)
		require.NoError(t, err)
		got := make(chan error)
		go func() {
			_, err := l.Accept()
			got <- err
		}()
		synctest.Wait()
		require.NoError(t, l.Close())
		assert.ErrorIs(t, <-got, net.ErrClosed)
	})
}

func TestStreamInOrderAndLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, &memnet.Network{Latency: latency})
		start := time.Now()
		for _, text := range []string{"a", "bc", "def"} {
			_, err := c.Write([]byte(text))
			require.NoError(t, err)
		}
		time.Sleep(latency / 2)
		_, err := c.Write([]byte("ghi"))
		require.NoError(t, err)
		buf := make([]byte, 100)
		k, err := s.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "abcdef", string(buf[:k]))
		assert.Equal(t, latency, time.Since(start))
		k, err = s.Read(buf[:2])
		require.NoError(t, err)
		assert.Equal(t, "gh", string(buf[:k]))
		assert.Equal(t, latency*3/2, time.Since(start))
		require.NoError(t, c.Close())
		rest, err := io.ReadAll(s)
		require.NoError(t, err)
		assert.Equal(t, "i", string(rest))
		k, err = s.Read(nil)
		assert.Zero(t, k)
		assert.NoError(t, err)
	})
}

func TestBackPressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, &memnet.Network{Latency: latency})
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // 256 KiB
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		k, err := c.Write(big)
		assert.Equal(t, 64<<10, k)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, c.SetDeadline(time.Time{}))
		go func() {
			c.Write(big[k:])
			c.Close()
		}()
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(big, got))
	})
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := pair(t, &memnet.Network{Latency: latency})
		start := time.Now()
		require.NoError(t, c.SetReadDeadline(start.Add(time.Minute)))
		_, err := c.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var ne net.Error
		require.ErrorAs(t, err, &ne)
		assert.True(t, ne.Timeout())
		assert.Equal(t, time.Minute, time.Since(start))

		// A deadline that is set during a Read counts for it.
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		got := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			got <- err
		}()
		synctest.Wait()
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
		assert.ErrorIs(t, <-got, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetWriteDeadline(time.Unix(1, 0)))
		_, err = c.Write([]byte("x"))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestCloseAndReset(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name       string
		end        func(net.Conn) error
		own        error // of the ended side's next Read and Write
		read       error // of the peer, after the bytes
		write      error // of the peer, once it knows
		writeStays bool
	}{
		{"close", net.Conn.Close, net.ErrClosed, io.EOF, syscall.EPIPE, false},
		{"reset", func(c net.Conn) error { return c.(interface{ Reset() error }).Reset() }, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNRESET, false},
		{"close-write", func(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }, net.ErrClosed, io.EOF, nil, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, s := pair(t, &memnet.Network{Latency: latency})
				_, err := s.Write([]byte("bytes before"))
				require.NoError(t, err)
				require.NoError(t, tc.end(s))
				_, err = s.Write([]byte("x"))
				assert.ErrorIs(t, err, tc.own)
				if !tc.writeStays {
					_, err = s.Read(make([]byte, 1))
					assert.ErrorIs(t, err, tc.own)
					assert.ErrorIs(t, tc.end(s), net.ErrClosed)
				}
				_, err = c.Write([]byte("sent before it is known"))
				require.NoError(t, err)
				buf := make([]byte, 100)
				k, err := c.Read(buf)
				require.NoError(t, err)
				assert.Equal(t, "bytes before", string(buf[:k]))
				for range 2 {
					_, err = c.Read(buf)
					assert.ErrorIs(t, err, tc.read)
				}
				_, err = c.Write([]byte("x"))
				if tc.writeStays {
					require.NoError(t, err)
					require.NoError(t, c.Close())
					got, err := io.ReadAll(s)
					require.NoError(t, err)
					assert.Equal(t, "sent before it is knownx", string(got))
					require.NoError(t, s.Close())
					assert.ErrorIs(t, tc.end(s), net.ErrClosed)
					return
				}
				assert.ErrorIs(t, err, tc.write)
			})
		})
	}
}

func TestCloseWakesReadAndWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, &memnet.Network{Latency: latency})
		errs := make(chan error, 3)
		go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := c.Write(make([]byte, 1<<20)); errs <- err }()
		go func() { _, err := s.Write(make([]byte, 65<<10)); errs <- err }()
		synctest.Wait()
		require.NoError(t, c.Close())
		for range 3 {
			if err := <-errs; err != nil { // the peer's write may end well: it cannot know yet
				assert.ErrorIs(t, err, net.ErrClosed)
			}
		}
	})
}

func TestDatagrams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: latency}
		p, err := n.ListenPacket("192.0.2.53:53")
		require.NoError(t, err)
		c, err := n.DialContext(t.Context(), "udp", "192.0.2.53:53")
		require.NoError(t, err)
		assert.Implements(t, (*net.PacketConn)(nil), c)
		assert.IsType(t, &net.UDPAddr{}, c.LocalAddr())
		assert.Equal(t, "192.0.2.53:53", c.RemoteAddr().String())
		start := time.Now()
		_, err = c.Write([]byte("question"))
		require.NoError(t, err)
		buf := make([]byte, 100)
		k, from, err := p.ReadFrom(buf)
		require.NoError(t, err)
		assert.Equal(t, "question", string(buf[:k]))
		assert.Equal(t, c.LocalAddr().String(), from.String())
		assert.Equal(t, latency, time.Since(start))

		// A connected socket hears its peer alone.
		q, err := n.ListenPacket("192.0.2.66:53")
		require.NoError(t, err)
		_, err = q.WriteTo([]byte("forged"), from)
		require.NoError(t, err)
		_, err = p.WriteTo([]byte("answer"), from)
		require.NoError(t, err)
		k, err = c.Read(buf[:3]) // the rest of a datagram is lost
		require.NoError(t, err)
		assert.Equal(t, "ans", string(buf[:k]))

		require.NoError(t, c.SetDeadline(time.Now().Add(time.Second)))
		_, err = c.Read(buf)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = c.Write(buf)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetDeadline(time.Time{}))

		_, err = c.(net.PacketConn).WriteTo(buf, from)
		assert.ErrorIs(t, err, net.ErrWriteToConnected)
		_, err = p.(net.Conn).Write(buf)
		assert.ErrorIs(t, err, syscall.EDESTADDRREQ)
		_, err = c.Write(make([]byte, 65508))
		assert.ErrorIs(t, err, syscall.EMSGSIZE)
		_, err = p.WriteTo(buf, &net.UnixAddr{Name: "x"})
		assert.Error(t, err)

		require.NoError(t, c.Close())
		assert.ErrorIs(t, c.Close(), net.ErrClosed)
		_, err = c.Read(buf)
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Write(buf)
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestDatagramsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: latency}
		buf := make([]byte, 10)

		c, err := n.DialContext(t.Context(), "udp", "192.0.2.99:53") // nobody
		require.NoError(t, err)
		start := time.Now()
		_, err = c.Write(buf)
		require.NoError(t, err)
		_, err = c.Read(buf)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.Equal(t, 2*latency, time.Since(start))

		p, err := n.ListenPacket("[2001:db8::53]:53")
		require.NoError(t, err)
		c, err = n.DialContext(t.Context(), "udp6", "[2001:db8::53]:53")
		require.NoError(t, err)
		for range 300 { // more than a socket holds
			_, err = c.Write(buf)
			require.NoError(t, err)
		}
		n.Drop("[2001:db8::53]:53")
		_, err = c.Write(buf)
		require.NoError(t, err)
		require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Second)))
		got := 0
		for ; err == nil; got++ {
			_, _, err = p.ReadFrom(buf)
		}
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, 256+1, got)
	})
}

// certificate makes one for a name, and the pool that trusts it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TestHTTPS runs the stack that the network is for, in virtual time.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := &memnet.Network{Latency: latency}
			l, err := n.Listen(there)
			require.NoError(t, err)
			cert, roots := certificate(t, "example.org")
			server := &http.Server{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, r.Proto+" "+strings.Repeat("x", 200<<10))
				}),
				TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
			}
			go server.ServeTLS(l, "", "")
			transport := &http.Transport{
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return n.DialContext(ctx, network, there)
				},
				TLSClientConfig:   &tls.Config{RootCAs: roots},
				ForceAttemptHTTP2: h2,
			}
			client := &http.Client{Transport: transport}
			for range 2 {
				start := time.Now()
				res, err := client.Get("https://example.org/")
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				assert.Len(t, body, 200<<10+9)
				assert.True(t, strings.HasPrefix(string(body), map[bool]string{false: "HTTP/1.1 ", true: "HTTP/2.0 "}[h2]))
				assert.GreaterOrEqual(t, time.Since(start), 2*latency)
				assert.Less(t, time.Since(start), time.Second)
			}
			transport.CloseIdleConnections()
			require.NoError(t, server.Shutdown(t.Context()))
			_, err = client.Get("https://example.org/")
			assert.True(t, errors.Is(err, syscall.ECONNREFUSED), "%v", err)
		})
	}
}

func BenchmarkStream(b *testing.B) {
	n := &memnet.Network{}
	l, err := n.Listen(there)
	require.NoError(b, err)
	c, err := n.DialContext(b.Context(), "tcp", there)
	require.NoError(b, err)
	s, err := l.Accept()
	require.NoError(b, err)
	buf := make([]byte, 1<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, buf); err != nil {
			b.Fatal(err)
		}
	}
}
