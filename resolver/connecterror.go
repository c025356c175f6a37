package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/dial"
	"mxdiscover/internal/guard"
	"mxdiscover/internal/printable"
)

// maxKeptDetail is how much of a failure's words is kept, in bytes: some lines of
// a terminal.
const maxKeptDetail = 300

// ConnectError is a request that was not sent, since no target of its server
// could be connected to. errors.Is finds [Unreachable], the Code of every
// target in Tried and what caused it.
type ConnectError struct {
	ServerName string
	Result     *Result   // what discovery says of the server
	Tried      []*Try    // the targets (eight at most), in the order in which they were tried; they may be shared and must not be changed
	RetryAt    time.Time // requests before this fail at once; see [Transport.MarkAlive]. Zero if none do

	// Remembered says that nothing was tried for this request: Tried is what an
	// earlier one met.
	Remembered bool

	ended error // of the request's context, if that ended while discovery was asked again
}

// Try is a target that did not do, and why.
type Try struct {
	Target Target
	Addr   netip.AddrPort // the address that Detail is about; zero if it is about none
	Code   Code           // NoAddress, AddressTemporary, AddressDenied, ConnectFailed, TLSFailed or Timeout
	Detail string         // what came back, in one line without control characters
	Err    error          // the cause; nil if it was another request's

	known []netip.Addr // of the target, when it was tried
}

func (e *ConnectError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: ", printable.Line(e.ServerName))
	if e.Remembered {
		fmt.Fprintf(&text, "not tried again until %s: ", e.RetryAt.UTC().Format("15:04:05 MST"))
	}
	text.WriteString("no target could be connected to")
	separator := ": "
	for _, try := range e.Tried {
		text.WriteString(separator)
		text.WriteString(try.Error())
		separator = "; "
	}
	return text.String()
}

// Is reports whether target is [Unreachable].
func (e *ConnectError) Is(target error) bool { return target == Unreachable }

// Unwrap gives the targets, each a *[Try], and the error of the request's
// context if that has ended meanwhile.
func (e *ConnectError) Unwrap() []error {
	var list []error
	for _, try := range e.Tried {
		list = append(list, try)
	}
	if e.ended != nil {
		list = append(list, e.ended)
	}
	return list
}

// Timeout reports whether every target ended by its deadline, or the request did.
func (e *ConnectError) Timeout() bool {
	if errors.Is(e.ended, context.DeadlineExceeded) {
		return true
	}
	for _, try := range e.Tried {
		if try.Code != Timeout {
			return false
		}
	}
	return len(e.Tried) > 0
}

// Temporary reports true: a server that cannot be reached now may be later.
func (e *ConnectError) Temporary() bool { return true }

func (t *Try) Error() string {
	if t.Addr.IsValid() && t.Addr.Addr().String() != t.Target.Host {
		return fmt.Sprintf("%s (%s): %s", t.Target, t.Addr.Addr(), t.Detail)
	}
	return fmt.Sprintf("%s: %s", t.Target, t.Detail)
}

// Unwrap gives the cause.
func (t *Try) Unwrap() error { return t.Err }

// Is reports whether target is the Code.
func (t *Try) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == t.Code
}

// newTry says in words why target did not do.
func newTry(target Target, tlsName string, err error, now time.Time) *Try {
	t := &Try{Target: target, Code: ConnectFailed, Detail: printable.Line(err.Error()), Err: err}
	var failed *dial.Error
	if !errors.As(err, &failed) {
		return t
	}
	var proxy *dial.ProxyError
	if errors.As(failed.Err, &proxy) {
		failed.Addr = netip.AddrPort{} // it is the proxy's
	}
	t.Addr, t.Err, t.known = failed.Addr, failed.Err, failed.Known
	t.Detail = printable.Line(failed.Err.Error())
	switch failed.Kind {
	case dial.NoAddress:
		t.Code, t.Detail = NoAddress, "it has no address (no A and no AAAA record)"
	case dial.LookupFailed:
		t.Code, t.Detail = AddressTemporary, "its addresses could not be looked up: "+describeFailure(failed.Err)
	case dial.Denied:
		t.Code, t.Detail = AddressDenied, "it may not be dialled"
		var denied *guard.DeniedError
		if errors.As(failed.Err, &denied) {
			t.Detail += ": " + denied.Reason
		}
	case dial.TLSFailed:
		t.Code, t.Detail = TLSFailed, dial.DescribeTLS(failed.Err, tlsName, now)
	case dial.TimedOut:
		t.Code, t.Detail = Timeout, "no TCP connection in time"
		if failed.Handshaking {
			t.Detail = "a TCP connection, but no answer to the TLS handshake in time"
		}
		// The addresses that ended before that have more to say.
		if i := slices.IndexFunc(failed.Attempts, func(a dial.Attempt) bool { return a.Kind != dial.Denied && a.Kind != dial.TimedOut }); i >= 0 {
			a := failed.Attempts[i]
			t.Detail += fmt.Sprintf(" (%s: %s)", a.Addr.Addr(), printable.Line(a.Err.Error()))
		}
	}
	t.Detail = strings.Clone(printable.Cut(t.Detail, maxKeptDetail)) // a certificate can hold any text
	return t
}
