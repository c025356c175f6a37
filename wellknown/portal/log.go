package portal

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// An Entry says what became of one request, for a log. It holds no body, no
// query, no header: nothing in it is a password or a token (MSC1730, Notes on proxying vs
// redirecting, worries that a portal "could snoop"). All of its text is
// printable.
type Entry struct {
	Method string
	Path   string     // escaped as in a URL, without the query
	Status int        // what was sent, whether or not the client was still there
	Target string     // the target that was last asked, or that the client was sent to; empty if none
	Client netip.Addr // the peer, or whom a trusted proxy says that it speaks for

	Duration time.Duration

	// Failures are what went wrong on the way, whatever the status: most are
	// [*TargetError].
	Failures []error
}

// String is the entry as a line of a log.
func (e Entry) String() string {
	target, client := e.Target, "-"
	if target == "" {
		target = "-"
	}
	if e.Client.IsValid() {
		client = e.Client.String()
	}
	line := fmt.Sprintf("%s %s %d %s %s %v", e.Method, e.Path, e.Status, target, client, e.Duration.Round(time.Microsecond))
	if len(e.Failures) > 0 {
		line += " (" + e.failures() + ")"
	}
	return line
}

func (e Entry) failures() string {
	texts := make([]string, len(e.Failures))
	for i, err := range e.Failures {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// LogValue is the entry for log/slog.
func (e Entry) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("method", e.Method),
		slog.String("path", e.Path),
		slog.Int("status", e.Status),
		slog.String("target", e.Target),
		slog.Duration("duration", e.Duration),
	}
	if e.Client.IsValid() {
		attrs = append(attrs, slog.String("client", e.Client.String()))
	}
	if len(e.Failures) > 0 {
		attrs = append(attrs, slog.String("failures", e.failures()))
	}
	return slog.GroupValue(attrs...)
}

// chooserError is a failure of a Chooser. What the Chooser says may hold what
// is in the login, and is not repeated.
type chooserError struct{ err error }

func (e *chooserError) Error() string { return "the chooser failed" }
func (e *chooserError) Unwrap() error { return e.err }
