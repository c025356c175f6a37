package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mxdiscover/internal/guard"
	"mxdiscover/internal/memnet"
)

// net in memory: documentation addresses stand for public ones.
func lab(n *memnet.Network, six, four answerIn) *Dialer {
	return &Dialer{
		Guard:       guard.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("203.0.113.0/24")}},
		DialContext: n.DialContext,
		Lookup: func(ctx context.Context, _ string, v6 bool) ([]netip.Addr, error) {
			a := four
			if v6 {
				a = six
			}
			select {
			case <-time.After(a.after):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			var addrs []netip.Addr
			for _, text := range a.addrs {
				addrs = append(addrs, netip.MustParseAddr(text))
			}
			return addrs, a.err
		},
	}
}

type answerIn struct {
	after time.Duration
	addrs []string
	err   error
}

func serve(t *testing.T, n *memnet.Network, addrs ...string) {
	for _, addr := range addrs {
		l, err := n.Listen(addr)
		require.NoError(t, err)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
			}
		}()
		t.Cleanup(func() { l.Close() })
	}
}

// TestRace: RFC 8305, in virtual time, where one way takes 10 ms.
func TestRace(t *testing.T) {
	t.Parallel()
	const (
		six1, six2   = "2001:db8::1", "2001:db8::2"
		four1, four2 = "203.0.113.1", "203.0.113.2"
	)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, test := range []struct {
		about     string
		six, four answerIn
		up, drop  []string
		want      string
		took      time.Duration
		kind      Kind
	}{
		{about: "IPv6 is first", six: answerIn{addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, up: []string{six1, four1}, want: six1, took: ms(20)},
		{about: "IPv6 refused, IPv4 at once", six: answerIn{addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, up: []string{four1}, want: four1, took: ms(40)},
		{about: "IPv6 silent, IPv4 after 250 ms", six: answerIn{addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, up: []string{four1}, drop: []string{six1}, want: four1, took: ms(270)},
		{about: "IPv4 answers first and waits 50 ms", six: answerIn{after: ms(500), addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, up: []string{six1, four1}, want: four1, took: ms(70)},
		{about: "IPv6 comes within the 50 ms", six: answerIn{after: ms(30), addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, up: []string{six1, four1}, want: six1, took: ms(50)},
		{about: "no IPv6: no wait", six: answerIn{after: ms(5)}, four: answerIn{addrs: []string{four1}}, up: []string{four1}, want: four1, took: ms(25)},
		{about: "families in turn", six: answerIn{addrs: []string{six1, six2}}, four: answerIn{addrs: []string{four1, four2}}, up: []string{four2}, drop: []string{six1, four1, six2}, want: four2, took: ms(770)},
		{about: "a late answer is used at once when an attempt is due", six: answerIn{addrs: []string{six1}}, four: answerIn{after: ms(400), addrs: []string{four1}}, up: []string{four1}, drop: []string{six1}, want: four1, took: ms(420)},
		{about: "one family unknown, the other good", six: answerIn{err: errors.New("SERVFAIL")}, four: answerIn{addrs: []string{four1}}, up: []string{four1}, want: four1, took: ms(20)},
		{about: "nothing listens", six: answerIn{addrs: []string{six1}}, four: answerIn{addrs: []string{four1}}, kind: ConnectFailed, took: ms(40)},
		{about: "no address", kind: NoAddress},
		{about: "unknown", six: answerIn{err: errors.New("SERVFAIL")}, kind: LookupFailed},
		{about: "both unknown", six: answerIn{err: errors.New("SERVFAIL")}, four: answerIn{err: errors.New("REFUSED")}, kind: LookupFailed},
		{about: "denied", four: answerIn{addrs: []string{"10.0.0.1", "127.0.0.1"}}, kind: Denied},
		{about: "denied counts more than unknown", six: answerIn{err: errors.New("SERVFAIL")}, four: answerIn{addrs: []string{"10.0.0.1"}}, kind: Denied},
		{about: "one denied, the other dialled", four: answerIn{addrs: []string{"10.0.0.1", four1}}, up: []string{four1}, want: four1, took: ms(20)},
		{about: "all silent", four: answerIn{addrs: []string{four1}}, drop: []string{four1}, kind: TimedOut, took: 10 * time.Second},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Latency: ms(10)}
				for _, addr := range test.up {
					serve(t, n, netip.AddrPortFrom(netip.MustParseAddr(addr), 443).String())
				}
				for _, addr := range test.drop {
					n.Drop(netip.AddrPortFrom(netip.MustParseAddr(addr), 443).String())
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				begun := time.Now()
				conn, err := lab(n, test.six, test.four).Dial(ctx, "host.example", 443, nil)
				assert.Equal(t, test.took, time.Since(begun))
				if test.kind != "" {
					var e *Error
					require.ErrorAs(t, err, &e)
					assert.Equal(t, test.kind, e.Kind)
					assert.Contains(t, e.Error(), "host.example")
					assert.NotContains(t, e.Error(), "\n")
				} else {
					require.NoError(t, err)
					assert.Equal(t, test.want, conn.Addr.Addr().String())
					conn.Close()
				}
				cancel()
				synctest.Wait() // nobody is left behind
			})
		})
	}
}

// TestHandshake: an address whose handshake fails is a failed one, and a
// handshake under way is given more time than a connection.
func TestHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: 10 * time.Millisecond}
		serve(t, n, "[2001:db8::1]:443", "203.0.113.1:443")
		d := lab(n, answerIn{addrs: []string{"2001:db8::1"}}, answerIn{addrs: []string{"203.0.113.1"}})
		bad := errors.New("bad certificate")
		var tried []string
		handshake := func(ctx context.Context, conn net.Conn) (net.Conn, error) {
			tried = append(tried, conn.RemoteAddr().String())
			time.Sleep(time.Second) // longer than attemptDelay
			if len(tried) == 1 {
				return nil, bad
			}
			return conn, nil
		}
		begun := time.Now()
		conn, err := d.Dial(t.Context(), "host.example", 443, handshake)
		require.NoError(t, err)
		conn.Close()
		assert.Equal(t, []string{"[2001:db8::1]:443", "203.0.113.1:443"}, tried)
		assert.Equal(t, 2040*time.Millisecond, time.Since(begun))
	})
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		l, err := n.Listen("[2001:db8::1]:443")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			if conn, err := l.Accept(); err == nil {
				conn.Close()
			}
		}()
		d := lab(n, answerIn{addrs: []string{"2001:db8::1"}}, answerIn{addrs: []string{"203.0.113.1"}})
		_, _, err = d.DialTLS(t.Context(), "host.example", 443, &tls.Config{ServerName: "host.example", InsecureSkipVerify: true})
		var e *Error
		require.ErrorAs(t, err, &e)
		// The server that closes the connection says more than the address
		// where nobody listens.
		assert.Equal(t, TLSFailed, e.Kind)
		assert.Len(t, e.Attempts, 2)
	})
}

// TestConnectTo: what the operator names is not asked of the guard; the same
// host at another port is.
func TestConnectTo(t *testing.T) {
	t.Parallel()
	n := &memnet.Network{}
	serve(t, n, "127.0.0.1:8443")
	d := lab(n, answerIn{}, answerIn{addrs: []string{"10.0.0.1"}})
	d.ConnectTo = func(host string, port uint16) (string, uint16, bool) {
		switch host {
		case "a.example":
			return "127.0.0.1", 8443, port == 443
		case "b.example":
			return "B.Example", 8443, true
		}
		return "", 0, false
	}
	conn, err := d.Dial(t.Context(), "a.example", 443, nil)
	require.NoError(t, err)
	conn.Close()
	usable, refused, err := d.Addresses(t.Context(), "a.example", 443)
	require.NoError(t, err)
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8443")}, usable)
	assert.Empty(t, refused)
	for _, host := range []string{"a.example", "b.example"} {
		_, err = d.Dial(t.Context(), host, 80, nil)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, Denied, e.Kind, host)
	}
}

// TestSocketIsChecked: without a DialContext the address is checked once more
// where it is used.
func TestSocketIsChecked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()

	open := Dialer{Guard: guard.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	conn, err := open.Dial(t.Context(), "127.0.0.1", port, nil)
	require.NoError(t, err)
	conn.Close()

	var shut Dialer
	r := race{d: &shut, plan: shut.plan("127.0.0.1", port)}
	out := r.attempt(t.Context(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), nil)
	require.Error(t, out.Err)
	assert.NotErrorIs(t, out.Err, syscall.ECONNREFUSED)
	var denied *guard.DeniedError
	assert.ErrorAs(t, out.Err, &denied)
}

// TestMisbehavingDialContext: a caller's function cannot take the process
// down, nor hold a dial beyond its context.
func TestMisbehavingDialContext(t *testing.T) {
	t.Parallel()
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"nothing": func(context.Context, string, string) (net.Conn, error) { return nil, nil },
		"panic":   func(context.Context, string, string) (net.Conn, error) { panic("two\nlines") },
		"deaf": func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(time.Hour)
			return nil, errors.New("at last")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := Dialer{DialContext: dial}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				_, _, err := d.DialTLS(ctx, "8.8.8.8", 443, &tls.Config{ServerName: "8.8.8.8"})
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.NotContains(t, e.Error(), "\n")
				assert.LessOrEqual(t, time.Since(begun), time.Second)
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// TestAttemptsAreBounded: a stranger chooses how many addresses there are.
func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var six, four answerIn
		for i := range 16 {
			six.addrs = append(six.addrs, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)}).String())
			four.addrs = append(four.addrs, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String())
		}
		n := &memnet.Network{}
		d := lab(n, six, four)
		var tried atomic.Int64
		d.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			tried.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := d.Dial(ctx, "h.example", 443, nil)
		require.Error(t, err)
		assert.Equal(t, int64(maxAttempts), tried.Load())
	})
}

// TestErrorNamesTheRightAddress: that of the attempt whose error it tells.
func TestErrorNamesTheRightAddress(t *testing.T) {
	t.Parallel()
	d := lab(&memnet.Network{}, answerIn{}, answerIn{addrs: []string{"10.0.0.1", "203.0.113.7"}})
	_, err := d.Dial(t.Context(), "h.example", 443, nil)
	assert.EqualError(t, err, "h.example:443 (203.0.113.7:443): connection refused")
}

// TestAddressesOfAnEndedContext: what is known counts all the same.
func TestAddressesOfAnEndedContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		usable, _, err := new(Dialer).Addresses(ctx, "8.8.8.8", 443)
		require.NoError(t, err)
		require.Len(t, usable, 1)
	}
	d := lab(&memnet.Network{}, answerIn{after: time.Hour}, answerIn{after: time.Hour})
	for range 20 {
		_, _, err := d.Addresses(ctx, "h.example", 443)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, Canceled, e.Kind)
	}
}

// TestSameHost: another way to write a host is not another host, and stays
// behind the guard.
func TestSameHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host, to string
		denied   bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "::ffff:127.0.0.1", true},
		{"127.0.0.1", "[127.0.0.1]", true},
		{"::1", "[::1]", true},
		{"::1", "0:0:0:0:0:0:0:1", true},
		{"inside.example", "INSIDE.example.", true},
		{"inside.example", "127.0.0.1", false}, // the operator's own word
	} {
		n := new(memnet.Network)
		serve(t, n, "127.0.0.1:443", "[::1]:443")
		d := lab(n, answerIn{}, answerIn{addrs: []string{"127.0.0.1"}})
		d.ConnectTo = func(string, uint16) (string, uint16, bool) { return test.to, 443, true }
		conn, err := d.Dial(t.Context(), test.host, 8448, nil)
		if conn != nil {
			conn.Close()
		}
		var denied *guard.DeniedError
		assert.Equal(t, test.denied, errors.As(err, &denied), "%s -> %s: %v", test.host, test.to, err)
	}
}
