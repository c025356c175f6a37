// Package oneshot speaks HTTP/1.1 over an open connection, once: one request,
// one answer. Who made the connection has judged where it leads; here net/http
// gets it and nothing else, so that a request can neither go elsewhere nor go
// twice.
//
// What [Do] sees to:
//
//   - The request is sent once. net/http would repeat one that a connection of
//     its pool has lost; there is no pool, and no second connection.
//   - The server speaks second. net/http reads as soon as it has a connection,
//     and writes what it did not expect to the log of the process.
//   - The answer has an end: its header is bounded, and, if the caller wants it,
//     so are its bytes as they are sent, below every decoder.
//   - Nothing is decoded or followed: no content coding, no redirect, no HTTP/2.
package oneshot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Limits bound an answer.
type Limits struct {
	Header int64 // bytes of the header
	Wire   int64 // bytes in all, as they are sent; if zero, any number
}

// The errors of an answer that is larger than its [Limits].
var (
	ErrHeader = errors.New("the header of the answer is too large")
	ErrWire   = errors.New("the answer is too large")
)

// Do sends req over conn and returns the answer as soon as its header is there.
// The URL's host is not looked at. In the end conn is closed: at once if Do
// fails, else some time after the answer's body was closed or has ended; a caller
// that wants it sooner closes it too. The end of req's context ends both.
//
// An error of net/http may quote what the server sent.
func Do(conn net.Conn, req *http.Request, limits Limits) (*http.Response, error) {
	x := &exchange{Conn: conn, wire: limits.Wire, sent: make(chan struct{})}
	x.http1.SetHTTP1(true)
	give := x.give
	x.transport = http.Transport{
		DialContext:            give,
		DialTLSContext:         give,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: limits.Header,
		Protocols:              &x.http1,
	}
	resp, err := x.transport.RoundTrip(req)
	if err == nil {
		return resp, nil
	}
	x.Close()                           // net/http may not have taken it
	if x.read.Load() >= limits.Header { // and the header has not ended
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return nil, err
}

// exchange is a connection for one request and one answer.
type exchange struct {
	net.Conn
	transport http.Transport
	http1     http.Protocols
	given     atomic.Bool

	wire int64        // bytes that may be read; 0 for any number
	read atomic.Int64 // bytes that have been

	once sync.Once
	sent chan struct{} // closed with the first byte of the request
}

// give is the dial function: there is one connection.
func (x *exchange) give(context.Context, string, string) (net.Conn, error) {
	if x.given.Swap(true) {
		return nil, net.ErrClosed
	}
	return x, nil
}

func (x *exchange) speak() { x.once.Do(func() { close(x.sent) }) }

func (x *exchange) Write(p []byte) (int, error) {
	n, err := x.Conn.Write(p)
	x.speak()
	return n, err
}

func (x *exchange) Close() error {
	x.speak()
	return x.Conn.Close()
}

func (x *exchange) Read(p []byte) (int, error) {
	<-x.sent
	if x.wire > 0 {
		left := x.wire - x.read.Load()
		if left <= 0 {
			return 0, ErrWire
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := x.Conn.Read(p)
	x.read.Add(int64(n))
	return n, err
}
