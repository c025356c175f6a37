package oneshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var written atomic.Int64

type counter struct{}

func (counter) Write(p []byte) (int, error) {
	written.Add(int64(len(p)))
	return os.Stderr.Write(p)
}

// TestMain sees that nothing goes to the log of the process, and that no
// goroutine is left.
func TestMain(m *testing.M) {
	log.SetOutput(counter{})
	status := m.Run()
	if written.Load() > 0 {
		status = max(status, 1)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// spy is the near end of a pipe; it notes what is written and the close.
type spy struct {
	net.Conn
	mu     sync.Mutex
	sent   strings.Builder
	closed int
}

func (s *spy) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.sent.Write(p)
	s.mu.Unlock()
	return s.Conn.Write(p)
}

func (s *spy) Close() error {
	s.mu.Lock()
	s.closed++
	s.mu.Unlock()
	return s.Conn.Close()
}

// server answers what has come with the text, and closes.
func server(answer string) *spy {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		there.Read(make([]byte, 4096))
		io.WriteString(there, answer)
	}()
	return &spy{Conn: here}
}

func get(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://h.example/x?y", nil)
	require.NoError(t, err)
	req.Header.Set("User-Agent", "test")
	return req
}

const okay = "HTTP/1.1 200 OK\r\n"

func TestDo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		about  string
		answer string
		limits Limits
		body   string
		err    error // of Do, or of the body
		text   string
	}{
		{about: "good", answer: okay + "Content-Length: 2\r\n\r\nhi", body: "hi"},
		{about: "chunked", answer: okay + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", body: "hi"},
		{about: "until the end", answer: "HTTP/1.0 200 OK\r\n\r\nhi", body: "hi"},
		{about: "a coding stays", answer: okay + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", body: "hi"},
		{about: "a redirect stays", answer: "HTTP/1.1 307 Temporary Redirect\r\nLocation: /z\r\nContent-Length: 0\r\n\r\n"},
		{about: "cut off", answer: okay + "Content-Length: 3\r\n\r\nhi", err: io.ErrUnexpectedEOF, body: "hi"},
		{about: "nothing", answer: "", err: io.EOF},
		{about: "not HTTP", answer: "hello\r\n", text: "malformed"},
		{about: "HTTP/2", answer: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", text: "malformed"},
		{about: "a header that fits", answer: okay + "X: " + strings.Repeat("a", 4000) + "\r\n\r\n", limits: Limits{Header: 8 << 10}},
		{about: "a header that does not", answer: okay + "X: " + strings.Repeat("a", 9<<10) + "\r\n\r\n", limits: Limits{Header: 8 << 10}, err: ErrHeader},
		{about: "a header without an end", answer: okay + "X: " + strings.Repeat("a", 9<<10), limits: Limits{Header: 8 << 10}, err: ErrHeader},
		{about: "a body that fits", answer: okay + "\r\n" + strings.Repeat("a", 100-19), limits: Limits{Wire: 101}, body: strings.Repeat("a", 100-19)},
		{about: "a body that does not", answer: okay + "\r\n" + strings.Repeat("a", 100-19), limits: Limits{Wire: 99}, body: strings.Repeat("a", 99-19), err: ErrWire},
		{about: "any number", answer: okay + "\r\n" + strings.Repeat("a", 1<<20), body: strings.Repeat("a", 1<<20)},
		{about: "chunks of nothing", answer: okay + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 3000) + "\r\nh\r\n1;" + strings.Repeat("a", 3000), limits: Limits{Wire: 5000}, body: "h", err: ErrWire},
	} {
		t.Run(test.about, func(t *testing.T) {
			t.Parallel()
			if test.limits.Header == 0 {
				test.limits.Header = 64 << 10
			}
			synctest.Test(t, func(t *testing.T) {
				conn := server(test.answer)
				resp, err := Do(conn, get(t), test.limits)
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				assert.Equal(t, test.body, string(body))
				switch {
				case test.err != nil:
					assert.ErrorIs(t, err, test.err)
				case test.text != "":
					assert.ErrorContains(t, err, test.text)
				default:
					assert.NoError(t, err)
				}
				synctest.Wait() // net/http closes it in its own time
				conn.mu.Lock()
				defer conn.mu.Unlock()
				assert.Equal(t, "GET /x?y HTTP/1.1\r\nHost: h.example\r\nUser-Agent: test\r\nConnection: close\r\n\r\n", conn.sent.String(), "once")
				assert.Positive(t, conn.closed)
			})
		})
	}
}

// What the server says before it was asked is not read before. It stays an
// answer like any other.
func TestServerSpeaksSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, end := range []func(*exchange){
			func(x *exchange) { x.Write([]byte("x")) },
			func(x *exchange) { x.Close() },
		} {
			here, there := net.Pipe()
			go io.Copy(there, strings.NewReader("hello"))
			go io.Copy(io.Discard, there)
			x := &exchange{Conn: here, sent: make(chan struct{})}
			done := make(chan struct{})
			go func() { x.Read(make([]byte, 5)); close(done) }()
			synctest.Wait()
			select {
			case <-done:
				t.Error("it read before it spoke")
			default:
			}
			end(x)
			<-done
			x.Close()
			there.Close()
		}
	})
}

// broken fails with the first write or the first read.
type broken struct {
	net.Conn
	write, read error
	writes      int
	closed      bool
}

func (b *broken) Write(p []byte) (int, error)      { b.writes++; return len(p), b.write }
func (b *broken) Read([]byte) (int, error)         { return 0, b.read }
func (b *broken) Close() error                     { b.closed = true; return nil }
func (b *broken) SetDeadline(time.Time) error      { return nil }
func (b *broken) SetReadDeadline(time.Time) error  { return nil }
func (b *broken) SetWriteDeadline(time.Time) error { return nil }

// Whatever breaks, nothing is sent again, though net/http holds a GET for
// something that may be.
func TestNothingIsRepeated(t *testing.T) {
	t.Parallel()
	reset := errors.New("reset")
	for _, conn := range []*broken{{write: reset, read: reset}, {read: reset}, {read: io.EOF}} {
		synctest.Test(t, func(t *testing.T) {
			_, err := Do(conn, get(t), Limits{Header: 1 << 10})
			require.Error(t, err)
			synctest.Wait()
			assert.Equal(t, 1, conn.writes)
			assert.True(t, conn.closed)
		})
	}
	x := &exchange{}
	_, err := x.give(t.Context(), "", "")
	require.NoError(t, err)
	_, err = x.give(t.Context(), "", "")
	assert.ErrorIs(t, err, net.ErrClosed)
}

// The context ends the wait, and what does not begin is closed too.
func TestContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := Do(here, get(t).WithContext(ctx), Limits{Header: 1 << 10})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begun))

		conn := &broken{read: io.EOF}
		_, err = Do(conn, get(t).WithContext(ctx), Limits{Header: 1 << 10})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.True(t, conn.closed)
		assert.Zero(t, conn.writes)
	})
}
