package check

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"mxdiscover/internal/printable"
)

// events tells the caller what happens, one event at a time.
type events struct {
	mu   sync.Mutex
	tell func(Event)
	over bool
}

func (e *events) send(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tell != nil && !e.over {
		e.tell(event)
	}
}

// close lets nothing through any more: questions that were cut off say so after
// the check has ended.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

// listener turns what a Resolver logs into events, and passes it on.
type listener struct {
	events *events
	next   *slog.Logger // nil for none
}

func (l *listener) Enabled(ctx context.Context, level slog.Level) bool {
	return level == slog.LevelDebug || l.next != nil && l.next.Enabled(ctx, level)
}

func (l *listener) Handle(ctx context.Context, record slog.Record) error {
	if asked, ok := question(record); ok {
		l.events.send(Event{Kind: EventAsked, Asked: asked})
	}
	if l.next == nil || !l.next.Enabled(ctx, record.Level) {
		return nil
	}
	return l.next.Handler().Handle(ctx, record)
}

// WithAttrs and WithGroup: a Resolver uses neither.
func (l *listener) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *listener) WithGroup(string) slog.Handler      { return l }

// question reads what a Resolver logs of a question that has ended.
func question(record slog.Record) (*Asked, bool) {
	values := make(map[string]slog.Value)
	record.Attrs(func(a slog.Attr) bool {
		values[a.Key] = a.Value
		return true
	})
	text := func(key string) string {
		if v, ok := values[key]; ok {
			return printable.Line(v.String())
		}
		return ""
	}
	var asked Asked
	if took, ok := values["took"]; ok && took.Kind() == slog.KindDuration {
		asked.Duration = Duration(took.Duration())
	}
	switch record.Message {
	case "well-known":
		asked.Query, asked.Detail = wellKnownQuery(text("host")), text("detail")
	case "dns":
		asked.Query, asked.Detail = text("type")+" "+text("name"), text("answer")
		if failed := text("failed"); failed != "" { // "SRV example.org: SERVFAIL from 192.0.2.53:53"
			asked.Query, asked.Detail, _ = strings.Cut(failed, ": ")
		}
	default:
		return nil, false
	}
	return &asked, true
}
