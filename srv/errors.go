package srv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"mxdiscover/internal/printable"
)

// ErrName is what an [*Error] wraps when the name cannot be one in the DNS. Nothing was asked, and
// asking again does not help.
var ErrName = errors.New("not a DNS name")

var errType = errors.New("neither A nor AAAA")

// maxProblems is how many problems the text of an Error tells: one for each server that resolv.conf
// can name, and one more.
const maxProblems = maxServers + 1

// An Error says that there is no answer: every server failed, ctx ended, or the name is none. It
// never says that there are no records; that is an [Answer].
type Error struct {
	Name  string // as asked; one that is no DNS name is quoted
	Type  Type
	Tries []Try
	// Err is the error of the context of the caller, if that ended; otherwise the one of the last
	// try, which is os.ErrDeadlineExceeded for a silent server, and nil if the server did answer,
	// if only with a response code.
	Err error
}

// Error says in one line what was asked, whom, and what came back.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Type, e.Name)
	var problems []string
	seen := make(map[string]bool)
	for _, t := range e.Tries {
		p := t.Problem + " from " + t.Server
		if t.Name != e.Name {
			p = t.Problem + " for " + t.Name + " from " + t.Server
		}
		if t.Network == "tcp" {
			p += " over TCP"
		}
		if !seen[p] {
			seen[p] = true
			problems = append(problems, p)
		}
	}
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	ended := errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded)
	if e.Err != nil && (ended || len(problems) == 0) {
		problems = append([]string{printable.Line(e.Err.Error())}, problems...)
	}
	b.WriteString(strings.Join(problems, "; "))
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout tells whether time ran out: that of the context, or that of the last server.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Rcode is the response code of the last try, as "SERVFAIL"; empty if that ended otherwise.
func (e *Error) Rcode() string {
	if len(e.Tries) == 0 {
		return ""
	}
	return e.Tries[len(e.Tries)-1].Rcode
}

// failed makes the error of a look-up; ended is why the context of the caller did, if so.
func (l *lookup) failed(ended error) *Error {
	e := &Error{Name: l.seen[0], Type: l.typ, Tries: l.tries, Err: ended}
	switch {
	case ended != nil:
	case len(l.tries) > 0:
		e.Err = l.tries[len(l.tries)-1].Err
	default:
		e.Err = os.ErrDeadlineExceeded // aliases have used up the time
	}
	return e
}

// A problem is a reply that cannot be used, in a few words.
type problem string

func (p problem) Error() string { return string(p) }

// A rcodeError is a reply that has nothing but a response code.
type rcodeError string

func (r rcodeError) Error() string { return string(r) }

// newTry completes t, which ended with err.
func newTry(t Try, err error) Try {
	var errno syscall.Errno
	var op *net.OpError
	switch err := err.(type) {
	case problem:
		t.Problem = string(err)
		return t
	case rcodeError:
		t.Problem, t.Rcode = string(err), string(err)
		return t
	}
	t.Err = err
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		// Not the deadline of the caller, as the error of the context would say.
		t.Problem, t.Err = "no answer within "+t.Duration.Round(100*time.Millisecond).String(), os.ErrDeadlineExceeded
	case errors.Is(err, context.Canceled):
		t.Problem = "no answer until cancelled"
	case errors.As(err, &errno):
		t.Problem = errno.Error()
	case errors.As(err, &op) && op.Err != nil:
		t.Problem = printable.Line(op.Err.Error())
	default:
		t.Problem = printable.Line(err.Error())
	}
	return t
}
