package resolver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// targetTimeout is what one target gets for TCP and TLS together, however
	// many addresses it has.
	targetTimeout = 10 * time.Second

	// maxTargets is how many targets one connection tries. A stranger chooses
	// how many there are, and silence costs ten seconds each.
	maxTargets = 8

	// handOver is how long net/http may take to give a new HTTP/2 connection to
	// those who wait for it. It does so within microseconds of getting it.
	handOver = 2 * time.Millisecond

	// patience is how often a request looks for a connection that another one
	// made, before it makes one for itself: a server may take fewer requests at
	// once than wait for it.
	patience = 8
)

var (
	// errShared is a connection that need not be made, since another one takes
	// more requests than its own. RoundTrip then looks for that.
	errShared = errors.New("resolver: another connection was made")

	// errUnplanned is a connection whose plan has been evicted meanwhile.
	errUnplanned = errors.New("resolver: the plan was dropped")

	errBodyRead = errors.New("resolver: the connection was lost, and the request is not sent again: its body has been read, and there is no GetBody")
)

// pool is what a Transport is made of once its fields have been read: one
// http.Transport that dials what it finds in plans.
type pool struct {
	resolver *Resolver
	state    *state
	http     *http.Transport
	tls      *tls.Config
	keeps    bool // connections, for more than one request

	mu    sync.Mutex
	plans *simplelru.LRU[string, *plan]  // by label
	again *simplelru.LRU[string, *again] // by server name
	stats counters
}

func newPool(r *Resolver, base *http.Transport) *pool {
	if base == nil {
		base = &http.Transport{
			MaxIdleConns: 512, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 256 << 10, ExpectContinueTimeout: time.Second,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		}
	}
	p := &pool{resolver: r, state: r.state(), http: base.Clone()}
	size := r.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	p.plans, _ = simplelru.NewLRU[string, *plan](size, nil) // fails only for a size below 1
	p.again, _ = simplelru.NewLRU[string, *again](size, nil)

	h := p.http
	// All requests are https ones and without a proxy: the other ways to dial
	// are not taken.
	h.Proxy, h.DialTLSContext = nil, p.dialTLS
	// net/http leaves HTTP/2 out for those who dial themselves, unless told.
	// An empty map in TLSNextProto is its sign that the caller wants none.
	h.ForceAttemptHTTP2 = h.TLSNextProto == nil
	if h.TLSClientConfig != nil {
		p.tls = h.TLSClientConfig.Clone()
	} else {
		p.tls = new(tls.Config)
	}
	if p.tls.RootCAs == nil {
		p.tls.RootCAs = r.RootCAs
	}
	p.keeps = !h.DisableKeepAlives && h.MaxIdleConnsPerHost >= 0
	h.CloseIdleConnections() // has no effect but to set HTTP/2 up, as it will be
	p.tls.NextProtos = nil
	if h.TLSNextProto["h2"] != nil {
		p.tls.NextProtos = append(p.tls.NextProtos, "h2")
	}
	if h.Protocols == nil || h.Protocols.HTTP1() {
		p.tls.NextProtos = append(p.tls.NextProtos, "http/1.1")
	}
	return p
}

// send finds out where req goes and has net/http send out there.
func (p *pool) send(req *http.Request, out *outgoing) (*http.Response, error) {
	ctx, serverName := req.Context(), req.URL.Host
	asked := false
	for round := 1; ; round++ {
		res, err := p.resolver.Resolve(ctx, serverName)
		if err != nil {
			if round == 1 {
				closeBody(&out.req) // after that net/http has
			}
			return nil, err
		}
		if round > 1 {
			if err := out.rewind(); err != nil {
				return nil, err
			}
		}
		way := res.from.route()
		pl := p.register(way)
		resp, err := p.http.RoundTrip(out.to(way, res.Host))
		if err == nil {
			return resp, nil
		}
		var failed *failure // here: it is an allocation
		switch {
		case errors.As(err, &failed):
			// All targets failed: either what discovery said is outdated, or
			// the server is dead.
			if !asked && p.askAgain(ctx, res.from, failed) {
				asked = true
				continue
			}
			if failed.remembered {
				p.stats.remembered.Add(1)
				p.state.log.LogAttrs(ctx, slog.LevelDebug, "left alone", slog.String("server_name", serverName), slog.Time("until", failed.until))
			}
			return nil, &ConnectError{ServerName: serverName, Result: res, Tried: failed.tries, RetryAt: failed.until, Remembered: failed.remembered, ended: ctx.Err()}
		case !errors.Is(err, errShared) && !errors.Is(err, errUnplanned):
			return nil, err
		case round >= patience:
			out.req = *out.req.WithContext(context.WithValue(ctx, ownPlan{}, pl))
		}
	}
}

// register makes the plan of a route known to the dialler, and keeps it so.
func (p *pool) register(way *route) *plan {
	p.mu.Lock()
	pl, ok := p.plans.Get(way.label)
	if !ok {
		pl = new(plan)
		p.plans.Add(way.label, pl)
	}
	p.mu.Unlock()
	if pl.route.Load() != way {
		pl.route.Store(way)
	}
	return pl
}

// ownPlan is the key under which a request's context has its plan, if it wants
// a connection of its own.
type ownPlan struct{}

func (p *pool) plan(label string) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl, _ := p.plans.Peek(label)
	return pl
}

// dialTLS is how net/http gets a connection for a label when it has none that is
// free.
func (p *pool) dialTLS(ctx context.Context, _, label string) (net.Conn, error) {
	pl, alone := ctx.Value(ownPlan{}).(*plan)
	if alone = alone && pl.route.Load().label == label; !alone {
		pl = p.plan(label)
	}
	if pl == nil {
		return nil, errUnplanned
	}
	for {
		pl.mu.Lock()
		if f := pl.paused(time.Now()); f != nil {
			pl.mu.Unlock()
			return nil, &failure{tries: f.tries, began: f.began, until: f.until, remembered: true}
		}
		f := pl.flight
		lead := f == nil || alone
		if lead {
			f = &flight{done: make(chan struct{})}
			// Over HTTP/1.1 one connection serves one request, so all are made
			// at once; but not to a server that may be dead.
			if !alone && (pl.protocol != "http/1.1" && p.keeps || pl.failures > 0) {
				pl.flight = f
			}
		}
		last := pl.last
		pl.mu.Unlock()
		if lead {
			return p.lead(ctx, pl, f)
		}
		var late <-chan time.Time
		if last != nil { // it is known to be dead: a try may take minutes
			timer := time.NewTimer(rememberedWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-f.done:
		case <-late:
			return nil, &failure{tries: last.tries, began: last.began, until: time.Now().Add(rememberedWait), remembered: true}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case f.failure != nil:
			return nil, f.failure
		case f.shared:
			p.stats.shared.Add(1)
			return nil, errShared
		}
	}
}

// lead makes a connection, and tells those who wait for the flight.
func (p *pool) lead(ctx context.Context, pl *plan, f *flight) (net.Conn, error) {
	p.stats.connecting.Add(1)
	conn, failed, err := p.connect(ctx, pl)
	p.stats.connecting.Add(-1)
	land := func() {
		pl.mu.Lock()
		if pl.flight == f {
			pl.flight = nil
		}
		pl.mu.Unlock()
		close(f.done)
	}
	switch {
	case failed != nil:
		f.failure = failed
		land()
		return nil, failed
	case err != nil: // the caller's end, which is not that of the others
		land()
		return nil, err
	case conn.ConnectionState().NegotiatedProtocol == "h2" && p.keeps:
		// net/http gives the connection to all who wait for one. Only then may
		// the others be told to look for it.
		f.shared = true
		time.AfterFunc(handOver, land)
	default:
		land()
	}
	return conn, nil
}

// connect tries the targets of a plan one after another. Either all of them
// failed, or ctx has ended with err, or there is a connection.
func (p *pool) connect(ctx context.Context, pl *plan) (*tls.Conn, *failure, error) {
	failed := &failure{began: time.Now()}
	tlsName := pl.route.Load().tlsName
	targets := pl.order(p.state.intn, failed.began)
	for _, target := range targets[:min(len(targets), maxTargets)] {
		began := time.Now()
		conn, err := p.connectTo(ctx, tlsName, target)
		took := slog.Duration("took", time.Since(began))
		if err == nil {
			protocol := conn.ConnectionState().NegotiatedProtocol
			if protocol == "" {
				protocol = "http/1.1"
			}
			pl.reached(target, protocol)
			p.stats.connections.Add(1)
			p.state.log.LogAttrs(ctx, slog.LevelDebug, "connected", slog.String("target", target.String()),
				slog.String("certificate", tlsName), slog.String("protocol", protocol), took)
			return conn, nil, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		now := time.Now()
		try := newTry(target, tlsName, err, now)
		failed.tries = append(failed.tries, try)
		pl.targetFailed(target, now)
		p.stats.failed(try.Code)
		p.state.log.LogAttrs(ctx, slog.LevelDebug, "not connected", slog.String("target", target.String()),
			slog.String("code", string(try.Code)), slog.String("detail", try.Detail), took)
	}
	pl.allFailed(failed, time.Now())
	p.state.log.LogAttrs(ctx, slog.LevelDebug, "no target left", slog.String("certificate", tlsName), slog.Time("until", failed.until))
	return nil, failed, nil
}

// connectTo makes a connection to a target that proves tlsName.
func (p *pool) connectTo(ctx context.Context, tlsName string, target Target) (secured *tls.Conn, err error) {
	// net/http dials on a goroutine that the caller of RoundTrip cannot recover.
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("ConnectTo or Proxy panicked: %.200q", fmt.Sprint(value))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	config := p.tls.Clone()
	// RFC 6066, 3: crypto/tls sends no SNI for an IP address, and looks for it
	// among the addresses of the certificate.
	config.ServerName = tlsName
	conn, err := p.state.dial.Dial(ctx, target.Host, target.Port, func(ctx context.Context, raw net.Conn) (net.Conn, error) {
		if limit := p.http.TLSHandshakeTimeout; limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		secured := tls.Client(raw, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return secured, nil
	})
	if err != nil {
		return nil, err
	}
	return conn.Conn.(*tls.Conn), nil
}
