package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	typeStream = "text/event-stream"

	// heartbeat keeps proxies from cutting a stream that is quiet: most cut
	// after 60 s, some after 30.
	heartbeat = 15 * time.Second

	// streamSlack is how much longer than a run and its wait for a place a
	// stream may last, for those who read slowly.
	streamSlack = time.Minute
)

// stream is /api/v1/check/stream: server-sent events (HTML, 9.2).
func (x *exchange) stream() {
	q, refresh, f := x.asked(kindCheck, "server_name")
	if f != nil {
		x.fail(f)
		return
	}
	tickets, f := x.desk.ask(x.who, refresh, q)
	if f != nil {
		x.fail(f)
		return
	}
	t := tickets[0]
	defer t.leave()
	x.source = t.source
	seen, whole := x.lastEvent(t)
	if whole {
		// "Clients will reconnect if the connection is closed; a client can be told
		// to stop reconnecting using the HTTP 204 No Content response code."
		x.writeHeader(http.StatusNoContent)
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", typeStream)
	h.Set("X-Accel-Buffering", "no") // nginx holds answers back otherwise
	x.metrics.streams.Inc()
	defer x.metrics.streams.Dec()
	s := &streamer{x: x, t: t, n: seen}
	if err := s.start(q); err != nil {
		return // the client has gone
	}
	s.follow()
}

// streamer sends the events of a run.
type streamer struct {
	x *exchange
	t *ticket
	n int // of the events that were sent
}

// id names a run and how many of its events were sent.
func (s *streamer) id() string { return fmt.Sprintf("%s-%d", s.t.id(), s.n) }

// lastEvent reads Last-Event-ID: how many events of the same run the client
// has, and whether it has them all.
func (x *exchange) lastEvent(t *ticket) (n int, whole bool) {
	run, count, ok := strings.Cut(x.r.Header.Get("Last-Event-ID"), "-")
	if !ok || run != t.id() {
		return 0, false
	}
	if count == "end" {
		return 0, true
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxEvents {
		return 0, false
	}
	return n, false
}

// emit writes one event. Data is JSON, which has no line breaks.
func (s *streamer) emit(kind, id string, data []byte) error {
	var b bytes.Buffer
	b.WriteString("event: ")
	b.WriteString(kind)
	b.WriteString("\nid: ")
	b.WriteString(id)
	b.WriteString("\ndata: ")
	b.Write(data)
	b.WriteString("\n\n")
	_, err := s.x.Write(b.Bytes())
	return err
}

// start sends the event "start".
func (s *streamer) start(q question) error {
	type start struct {
		ServerName string `json:"server_name"`
		Rules      string `json:"rules"`
		Ago        *int   `json:"checked_seconds_ago,omitempty"`
	}
	data := start{ServerName: q.name, Rules: q.rules.String()}
	if a := s.t.answer; a != nil {
		ago := int(a.age(time.Now()) / time.Second)
		data.Ago = &ago
		s.x.setAge(a)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := s.emit("start", s.id(), escapeActing(text)); err != nil {
		return err
	}
	return s.x.flush()
}

// follow sends what happens until the run has ended or the client has gone.
func (s *streamer) follow() {
	x := s.x
	if s.t.answer != nil {
		s.end(s.t.answer, nil)
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	last := time.NewTimer(x.Server.timeout() + x.limits.limits.Wait + streamSlack)
	defer last.Stop()
	for {
		// done is looked at first: no event comes after it.
		ended := false
		select {
		case <-s.t.run.done:
			ended = true
		default:
		}
		frames, more := s.t.since(s.n)
		for _, f := range frames {
			s.n++
			if s.emit(f.kind, s.id(), f.data) != nil {
				return
			}
		}
		if ended {
			s.end(s.t.run.answer, s.t.run.failure)
			return
		}
		if len(frames) > 0 && x.flush() != nil {
			return
		}
		select {
		case <-more:
		case <-s.t.run.done:
		case <-beat.C:
			if _, err := x.Write([]byte(": still here\n\n")); err != nil || x.flush() != nil {
				return
			}
		case <-last.C:
			return
		case <-x.r.Context().Done():
			return
		}
	}
}

// end sends the last event.
func (s *streamer) end(a *answer, f *Failure) {
	id := s.t.id() + "-end"
	if f == nil && a == nil {
		return // nobody waits any more
	}
	if f != nil {
		s.x.code = f.Code
		s.x.metrics.refused.WithLabelValues(f.reason()).Inc()
		text, _ := json.Marshal(f)
		s.emit("failed", id, text)
	} else {
		text := make([]byte, 0, len(a.json)+40)
		text = append(text, `{"kind":"report","report":`...)
		text = append(text, a.json...)
		text = append(text, '}')
		s.emit("report", id, text)
	}
	s.x.flush()
}
