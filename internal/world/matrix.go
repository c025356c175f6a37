package world

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxdiscover/internal/serverkeys"
)

const (
	// keysLast is how long a key document counts; Synapse's default is a day too.
	keysLast = 24 * time.Hour
	// defaultKeyID is what the world's servers call their key.
	defaultKeyID = "ed25519:world"
)

// A matrixGroup is a Matrix server over time.
type matrixGroup struct {
	host   authority
	at     []netip.AddrPort // the servers that it is for; empty: those that host leads to
	phases phases[*matrixServer]
}

// A matrixServer is one section "matrix".
type matrixServer struct {
	line       int
	serverName string
	name       string // in the answer about the version; empty: there is none
	version    string
	keyID      string
	seed       string        // of the key
	keys       string        // what is wrong with the keys; "" nothing
	validFor   time.Duration // of the keys
	clock      time.Duration // how far ahead the server's clock is
	delay      time.Duration // of every answer
	onlyHost   string        // the one Host header it answers to; empty: that of its URL
	anyHost    bool
	prefix     string // of the paths
	without    map[string]bool
	broken     int // 1 or 2: HTTP/1.1 or HTTP/2 is
}

// parseMatrixSection reads a section "matrix", and returns an error with its line.
func (s *Scene) parseMatrixSection(url string, at []netip.AddrPort, from time.Duration, sec section) (int, error) {
	host, path, err := parseURL(strings.TrimSuffix(url, "/") + "/")
	if err != nil {
		return sec.line, err
	}
	if path != "/" {
		return sec.line, fmt.Errorf("%q has a path; there is a line \"prefix\" for it", url)
	}
	m := &matrixServer{
		line: sec.line, serverName: host.host, name: "World", version: "1", keyID: defaultKeyID,
		validFor: keysLast, without: make(map[string]bool),
	}
	if strings.Contains(m.serverName, ":") {
		m.serverName = "[" + m.serverName + "]" // appendices, Server Name
	}
	seen := make(map[string]bool)
	line, err := sec.lines(func(_ int, _ string, f []string) error {
		if seen[f[0]] && f[0] != "without" {
			return fmt.Errorf("a second line %q", f[0])
		}
		seen[f[0]] = true
		return m.parseLine(f[0], f[1:])
	})
	if err != nil {
		return line, err
	}
	if m.seed == "" {
		m.seed = m.serverName
	}
	if m.anyHost && m.onlyHost != "" {
		return sec.line, fmt.Errorf("both any-host and only-host")
	}
	if _, err := m.keyDocument(time.Unix(0, 0)); err != nil {
		return sec.line, err
	}
	i := slices.IndexFunc(s.matrix, func(g *matrixGroup) bool { return g.host == host && slices.Equal(g.at, at) })
	if i < 0 {
		i = len(s.matrix)
		s.matrix = append(s.matrix, &matrixGroup{host: host, at: at})
	}
	if err := s.matrix[i].phases.add(from, m); err != nil {
		return sec.line, err
	}
	// What is said of a server by its address counts before what is said of all.
	slices.SortStableFunc(s.matrix, func(a, b *matrixGroup) int { return cmp.Compare(min(len(b.at), 1), min(len(a.at), 1)) })
	return sec.line, nil
}

func (m *matrixServer) parseLine(key string, args []string) (err error) {
	if key == "version" && len(args) >= 2 { // "Synapse 1.100 (b=main)"
		m.name, m.version = args[0], strings.Join(args[1:], " ")
		return nil
	}
	if key == "version" && len(args) == 1 && args[0] == "none" {
		m.name, m.version = "", ""
		return nil
	}
	if key == "any-host" && len(args) == 0 {
		m.anyHost = true
		return nil
	}
	if len(args) != 1 {
		return fmt.Errorf("line %q: unknown, or not this many words", key)
	}
	value := args[0]
	oneOf := func(words ...string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("%s is followed by one of %s, not %q", key, strings.Join(words, ", "), value)
		}
		return nil
	}
	switch key {
	case "server-name":
		m.serverName = value
	case "key-id":
		m.keyID = value
	case "key-seed":
		m.seed = value
	case "keys":
		m.keys, err = value, oneOf("none", "unsigned", "bad-signature", "malformed", "not-json")
	case "valid-for":
		m.validFor, err = signedDuration(value)
	case "clock":
		m.clock, err = signedDuration(value)
	case "delay":
		m.delay, err = duration(value)
	case "only-host":
		if _, ok := parseAuthority(value, 443); !ok {
			return fmt.Errorf("%q is no host and port", value)
		}
		m.onlyHost = value
	case "prefix":
		if !strings.HasPrefix(value, "/") || strings.HasSuffix(value, "/") {
			return fmt.Errorf("%q is not of the form /path", value)
		}
		m.prefix = value
	case "without":
		m.without[value], err = true, oneOf("version", "keys", "client")
	case "broken":
		err = oneOf("http1", "http2")
		m.broken = map[string]int{"http1": 1, "http2": 2}[value]
	case "version":
		err = fmt.Errorf("version is followed by a name and a version, or by none")
	default:
		err = fmt.Errorf("unknown line %q", key)
	}
	return err
}

// signedDuration reads one that may be below zero.
func signedDuration(text string) (time.Duration, error) {
	rest, negative := strings.CutPrefix(strings.TrimPrefix(text, "+"), "-")
	d, err := duration(rest)
	if negative {
		d = -d
	}
	return d, err
}

// signingKey is the same for the same word, in every world.
func signingKey(word string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("the key of " + word))
	return ed25519.NewKeyFromSeed(seed[:])
}

// keyDocument is the answer to GET /_matrix/key/v2/server.
func (m *matrixServer) keyDocument(now time.Time) ([]byte, error) {
	key := signingKey(m.seed)
	public := base64.RawStdEncoding.EncodeToString(key[ed25519.SeedSize:])
	keys := map[string]any{m.keyID: map[string]string{"key": public}}
	switch m.keys {
	case "not-json":
		return []byte("<html>keys</html>"), nil
	case "none":
		keys = map[string]any{}
	case "malformed":
		keys[m.keyID] = map[string]string{"key": public[:10]}
	case "bad-signature":
		key = signingKey("another")
	}
	object := map[string]any{
		"server_name":     m.serverName,
		"valid_until_ts":  now.Add(m.clock).Add(m.validFor).UnixMilli(),
		"verify_keys":     keys,
		"old_verify_keys": map[string]any{},
	}
	if m.keys == "unsigned" {
		object["signatures"] = map[string]any{}
	}
	text, err := json.Marshal(object)
	if err != nil || m.keys == "unsigned" {
		return text, err
	}
	return serverkeys.Sign(text, m.serverName, m.keyID, key)
}

// answers tells whether the server at an endpoint answers requests with this Host header.
func (s *Scene) answers(g *matrixGroup, m *matrixServer, req *http.Request, hosts []authority, at netip.AddrPort) bool {
	if len(g.at) > 0 && !slices.Contains(g.at, at) {
		return false
	}
	if m.onlyHost == "" && !m.anyHost {
		return slices.Contains(hosts, g.host)
	}
	// Other names than its own: then the address must be its own.
	if !slices.Contains(s.servedAt(g.host, g.at), at) {
		return false
	}
	return m.anyHost || strings.EqualFold(req.Host, m.onlyHost)
}

// matrixReply gives what the Matrix server at an endpoint answers, or nil.
func (s *Scene) matrixReply(req *http.Request, hosts []authority, at netip.AddrPort, now time.Duration) *reply {
	for _, g := range s.matrix {
		if m := g.phases.at(now); m != nil && s.answers(g, m, req, hosts, at) {
			return m.reply(req)
		}
	}
	return nil
}

func (m *matrixServer) reply(req *http.Request) *reply {
	now := time.Now()
	r := &reply{
		status: http.StatusOK, delay: m.delay, contentLength: -1, resetAfter: -1,
		header: [][2]string{
			{"Content-Type", "application/json"},
			{"Date", now.Add(m.clock).UTC().Format(http.TimeFormat)},
		},
	}
	if m.name != "" {
		r.header = append(r.header, [2]string{"Server", m.name + "/" + m.version})
	}
	if req.ProtoMajor == m.broken {
		r.abort = true
		return r
	}
	path, ok := strings.CutPrefix(req.URL.Path, m.prefix)
	what := ""
	if ok && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		what = map[string]string{
			"/_matrix/federation/v1/version": "version",
			"/_matrix/key/v2/server":         "keys",
			"/_matrix/client/versions":       "client",
		}[path]
	}
	if m.without[what] {
		what = ""
	}
	switch what {
	case "version":
		server := map[string]any{}
		if m.name != "" {
			server["server"] = map[string]string{"name": m.name, "version": m.version}
		}
		r.body, _ = json.Marshal(server) // of strings alone
	case "keys":
		r.body, _ = m.keyDocument(now) // tried when it was parsed
	case "client":
		r.header = append(r.header, [2]string{"Access-Control-Allow-Origin", "*"})
		r.body = []byte(`{"versions":["v1.11","v1.12"]}`)
	default:
		// Client-Server API, Standard error response: an endpoint that is not known.
		r.status = http.StatusNotFound
		r.body = []byte(`{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}`)
	}
	return r
}
