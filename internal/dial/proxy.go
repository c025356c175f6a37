package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mxdiscover/internal/printable"
)

// maxProxyHeader is what a proxy may say before the tunnel begins: more than
// any error page's header, as wellknown's own limit for headers.
const maxProxyHeader = 64 << 10

// ProxyError is a proxy that did not connect.
type ProxyError struct {
	Proxy  string // host:port
	Target string // what it was asked for, host:port
	Status int    // what it answered; 0 if nothing that is HTTP
	Err    error  // why there was no answer
}

func (e *ProxyError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("the proxy %s does not connect to %s: status %d %s", e.Proxy, e.Target, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the proxy %s does not connect to %s: %s", e.Proxy, e.Target, printable.Line(printable.Cut(e.Err.Error(), 200)))
}

func (e *ProxyError) Unwrap() error { return e.Err }

// through turns the race for a host into one for a proxy, which is asked for
// the host (RFC 9110, 9.3.6).
func (r *race) through(via *url.URL) error {
	target := net.JoinHostPort(r.plan.host, strconv.Itoa(int(r.plan.port)))
	port := via.Port()
	switch {
	case via.Scheme != "http" && via.Scheme != "https":
		return fmt.Errorf("the proxy has the scheme %s, not http or https", printable.Quote(via.Scheme, 20))
	case port == "" && via.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || via.Hostname() == "" {
		return fmt.Errorf("the proxy %s is no host and port", printable.Quote(via.Host, 80))
	}
	r.plan.host, r.plan.port, r.plan.free = via.Hostname(), uint16(number), true
	r.via, r.target = via.Host, target

	next := r.handshake
	r.handshake = func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		if via.Scheme == "https" {
			secured := tls.Client(conn, &tls.Config{ServerName: via.Hostname(), RootCAs: r.d.RootCAs, NextProtos: []string{"http/1.1"}})
			if err := secured.HandshakeContext(ctx); err != nil {
				return nil, &ProxyError{Proxy: via.Host, Target: target, Err: err}
			}
			conn = secured
		}
		if status, err := tunnel(ctx, conn, target, via.User); err != nil || status/100 != 2 {
			return nil, &ProxyError{Proxy: via.Host, Target: target, Status: status, Err: err}
		}
		if next == nil {
			return conn, nil
		}
		return next(ctx, conn)
	}
	return nil
}

// tunnel asks the proxy at the other end of conn for target.
func tunnel(ctx context.Context, conn net.Conn, target string, user *url.Userinfo) (status int, err error) {
	// Reads and writes know deadlines, not contexts.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
	}()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: make(http.Header)}
	if user != nil {
		password, _ := user.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	answer := bufio.NewReader(io.LimitReader(conn, maxProxyHeader))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return 0, err
	}
	// The answer has no body, whatever its header says (RFC 9110, 9.3.6); closing
	// it would read one.
	if resp.StatusCode/100 == 2 && answer.Buffered() > 0 {
		return 0, errors.New("it spoke for the target, who speaks second in TLS")
	}
	return resp.StatusCode, nil
}
