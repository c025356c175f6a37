package wellknown

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// maxWire bounds the bytes of one response as they are sent: header and body at
// their largest with room for chunks. It stands below every decoder, so that a
// stream which decodes to nothing ends too.
const maxWire = 256 << 10

var errTooMuch = errors.New("the answer is too large")

// exchange is a connection for one request and one response.
type exchange struct {
	net.Conn
	left atomic.Int64 // bytes that may still be read

	// net/http reads as soon as it has a connection, and writes what it did
	// not expect to the log of the process. What a server says before it was
	// asked is therefore read after the request.
	once sync.Once
	sent chan struct{}
}

func newExchange(conn net.Conn) *exchange {
	e := &exchange{Conn: conn, sent: make(chan struct{})}
	e.left.Store(maxWire)
	return e
}

// read is how many bytes have come.
func (e *exchange) read() int64 { return maxWire - e.left.Load() }

func (e *exchange) Write(p []byte) (int, error) {
	n, err := e.Conn.Write(p)
	e.once.Do(func() { close(e.sent) })
	return n, err
}

func (e *exchange) Close() error {
	e.once.Do(func() { close(e.sent) })
	return e.Conn.Close()
}

func (e *exchange) Read(p []byte) (int, error) {
	<-e.sent
	left := e.left.Load()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := e.Conn.Read(p[:min(int64(len(p)), left)])
	e.left.Add(-int64(n))
	return n, err
}
