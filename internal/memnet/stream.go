package memnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A half is one direction of a stream.
type half struct {
	gate
	latency time.Duration

	segments []segment
	size     int // bytes in segments

	end    error     // what follows the segments: nil, io.EOF or ECONNRESET
	endAt  time.Time // when it reaches the reader
	gone   error     // what a writer gets once it knows that nobody reads
	goneAt time.Time // when it knows

	readClosed, writeClosed     bool // by this side's own Close
	readDeadline, writeDeadline time.Time
}

type segment struct {
	at   time.Time // when it reaches the reader
	data []byte
}

func (h *half) read(p []byte) (int, error) {
	h.Lock()
	defer h.Unlock()
	for {
		switch {
		case h.readClosed:
			return 0, net.ErrClosed
		case passed(h.readDeadline):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		now, n := time.Now(), 0
		for len(h.segments) > 0 && n < len(p) && !now.Before(h.segments[0].at) {
			s := &h.segments[0]
			k := copy(p[n:], s.data)
			n += k
			if s.data = s.data[k:]; len(s.data) == 0 {
				h.segments = h.segments[1:]
			}
		}
		if n > 0 {
			h.size -= n
			h.broadcast()
			return n, nil
		}
		next := h.endAt
		if len(h.segments) > 0 {
			next = h.segments[0].at
		} else if h.end != nil && passed(h.endAt) {
			return 0, h.end
		}
		h.wait(earlier(next, h.readDeadline))
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.Lock()
	defer h.Unlock()
	for {
		switch {
		case h.writeClosed || h.end != nil:
			return n, net.ErrClosed
		case passed(h.writeDeadline):
			return n, os.ErrDeadlineExceeded
		case h.gone != nil && passed(h.goneAt):
			return n, h.gone
		case h.gone != nil: // nobody reads, and the writer cannot know yet
			return len(p), nil
		case len(p) == 0:
			return 0, nil
		}
		room := min(maxBuffered-h.size, len(p)-n)
		if room > 0 {
			h.segments = append(h.segments, segment{time.Now().Add(h.latency), append([]byte(nil), p[n:n+room]...)})
			h.size += room
			n += room
			h.broadcast()
			if n == len(p) {
				return n, nil
			}
			continue
		}
		h.wait(earlier(h.goneAt, h.writeDeadline))
	}
}

// finish ends the direction from the writer's side.
func (h *half) finish(end error, closed bool) {
	h.Lock()
	defer h.Unlock()
	if h.end == nil || end != io.EOF {
		h.end, h.endAt = end, time.Now().Add(h.latency)
	}
	h.writeClosed = h.writeClosed || closed
	h.broadcast()
}

// abandon ends the direction from the reader's side.
func (h *half) abandon(gone error) {
	h.Lock()
	defer h.Unlock()
	h.readClosed = true
	h.segments, h.size = nil, 0
	if h.gone == nil {
		h.gone, h.goneAt = gone, time.Now().Add(h.latency)
	}
	h.broadcast()
}

func (h *half) setDeadline(which *time.Time, t time.Time) error {
	h.Lock()
	defer h.Unlock()
	*which = t
	h.broadcast()
	return nil
}

// A conn is one end of a stream.
type conn struct {
	in, out       *half
	local, remote *net.TCPAddr
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

// Close ends both directions. The peer reads what was written, and then io.EOF.
func (c *conn) Close() error {
	if !c.closeable() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.finish(io.EOF, true)
	c.in.abandon(os.NewSyscallError("write", syscall.EPIPE))
	return nil
}

// CloseWrite ends the direction to the peer alone, as that of *net.TCPConn does.
func (c *conn) CloseWrite() error {
	if !c.closeable() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.finish(io.EOF, false)
	return nil
}

// Reset closes as Close does after SetLinger(0) on a *net.TCPConn: the peer reads what was written,
// and then gets ECONNRESET.
func (c *conn) Reset() error {
	if !c.closeable() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.finish(os.NewSyscallError("read", syscall.ECONNRESET), true)
	c.in.abandon(os.NewSyscallError("write", syscall.ECONNRESET))
	return nil
}

func (c *conn) closeable() bool {
	c.in.Lock()
	defer c.in.Unlock()
	return !c.in.readClosed
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.in.setDeadline(&c.in.readDeadline, t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.out.setDeadline(&c.out.writeDeadline, t)
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return opError(op, "tcp", c.local, c.remote, err)
}
