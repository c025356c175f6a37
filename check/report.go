package check

import (
	"net/netip"
	"time"

	"mxdiscover/resolver"
)

// SchemaVersion is the version of a [Report]'s JSON form. A key that is new does
// not change it; one that goes, or that means something else, does.
const SchemaVersion = 1

// A Verdict says in one word how a server name stands.
type Verdict string

// The verdicts.
const (
	Good Verdict = "GOOD" // every server of the federation reaches it
	Warn Verdict = "WARN" // most do; something should be changed
	Bad  Verdict = "BAD"  // many do not, or the check could not tell
)

// A Severity says what a finding does to the verdict.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // the verdict is BAD
	SeverityWarning Severity = "warning" // it is WARN at best
	SeverityNotice  Severity = "notice"  // worth knowing; it changes nothing
)

// A Report is what was found out about a server name. Everything in it that came
// from the network is printable text in one line, or bounded and escaped by JSON.
type Report struct {
	Version    int       `json:"version"`     // SchemaVersion
	ServerName string    `json:"server_name"` // as asked
	Verdict    Verdict   `json:"verdict"`
	Summary    string    `json:"summary"` // the verdict in a sentence
	CheckedAt  time.Time `json:"checked_at"`
	Duration   Duration  `json:"duration_ms"`
	Rules      string    `json:"rules"` // "current" or "draft-2019"

	// Findings are what is good to know, worst first.
	Findings []Finding `json:"findings"`

	// Resolution is where the name leads, in the form of resolve --json.
	Resolution *resolver.Report `json:"resolution"`

	// Ways are all the rules that could lead somewhere, whether they decided or
	// not.
	Ways []Way `json:"ways"`

	// WellKnown is what each address of the server name's host answers. Empty if
	// the rules do not ask (1 and 2).
	WellKnown []WellKnown `json:"well_known"`

	// Delegate is what the host that m.server names answers when it is asked for a
	// well-known document of its own. Nobody asks it for one (3.x never leads to
	// step 3 again); it is here because operators think so. Nil if it was not asked.
	Delegate *WellKnown `json:"delegate_well_known,omitempty"`

	// Targets are what a federating server would connect to, in the order of the
	// Resolution, MaxTargets at most.
	Targets []Target `json:"targets"`
}

// A Way is what one rule gives by itself, whatever the others say.
type Way struct {
	Rule    string           `json:"rule"`              // "1" to "6", and "3.1" to "3.5" where there is a delegation
	Query   string           `json:"query,omitempty"`   // what was asked for it
	Outcome resolver.Outcome `json:"outcome"`           // used, absent, invalid, temporary, denied, skipped
	Reason  string           `json:"reason,omitempty"`  // why it does not count, or is skipped
	Targets []string         `json:"targets,omitempty"` // host:port that it would give
	// Agrees says whether it leads to the same targets as the rule that decides.
	// Nil if it leads nowhere, or decides itself.
	Agrees *bool `json:"agrees,omitempty"`
}

// A WellKnown is the answer of one address to GET /.well-known/matrix/server.
type WellKnown struct {
	Address  netip.AddrPort `json:"address"` // of the first request
	Hops     []Hop          `json:"hops"`    // every request, redirects included
	Server   string         `json:"m_server,omitempty"`
	Lifetime Duration       `json:"lifetime_ms,omitempty"` // how long it counts
	Duration Duration       `json:"duration_ms"`
	Error    *Problem       `json:"error,omitempty"` // codes of package wellknown

	// TLS is the handshake of the last hop. Nil if there was none.
	TLS *TLS `json:"tls,omitempty"`

	// Probes are other paths, asked for after a 404.
	Probes []Probe `json:"probes,omitempty"`

	slip   slip   // what is wrong with the document
	stated string // what its header says of how long it counts
}

// A Hop is one request.
type Hop struct {
	URL         string         `json:"url"`
	Address     netip.AddrPort `json:"address,omitzero"`
	Status      int            `json:"status,omitempty"`
	ContentType string         `json:"content_type,omitempty"`
	Location    string         `json:"location,omitempty"`
	Duration    Duration       `json:"duration_ms"`
}

// A Target is a host and port of the Resolution.
type Target struct {
	Host     string   `json:"host"`
	Port     uint16   `json:"port"`
	Priority uint16   `json:"priority"`
	Weight   uint16   `json:"weight"`
	Alias    string   `json:"alias,omitempty"` // what Host is an alias (CNAME) of
	Error    *Problem `json:"error,omitempty"` // why it has no address to connect to; codes of package resolver

	// Refused are addresses that no server of the federation connects to.
	Refused []resolver.Refused `json:"refused,omitempty"`

	Addresses []Address `json:"addresses"`
}

// An Address is one address of a target, and what its server says.
type Address struct {
	Address netip.AddrPort `json:"address"`
	OK      bool           `json:"ok"` // a federating server gets its answers here

	TCP  Phase  `json:"tcp"`
	TLS  *TLS   `json:"tls,omitempty"`  // nil if there was no connection
	HTTP []HTTP `json:"http,omitempty"` // one for each protocol: HTTP/2 if it is spoken, HTTP/1.1

	// Probes are what was tried beside, because something had failed. Of a target's
	// addresses one has them at most.
	Probes []Probe `json:"probes,omitempty"`
}

// A Probe is a question that no federating server asks. It is there to find the
// cause of a failure.
type Probe struct {
	Kind     ProbeKind `json:"kind"`
	Query    string    `json:"query"`            // what was asked
	Value    string    `json:"value,omitempty"`  // what was varied: the path, the Host header, the port
	Status   int       `json:"status,omitempty"` // of HTTP
	Matrix   bool      `json:"matrix"`           // it was answered as a Matrix server answers
	Detail   string    `json:"detail,omitempty"` // what came back
	Duration Duration  `json:"duration_ms"`
}

// ProbeKind says what a Probe varies.
type ProbeKind string

// The kinds of probes.
const (
	ProbePort443   ProbeKind = "port_443"   // port 443 of the same host
	ProbeClientAPI ProbeKind = "client_api" // GET /_matrix/client/versions
	ProbePath      ProbeKind = "path"       // another path
	ProbeHost      ProbeKind = "host"       // another Host header
	ProbeOldTLS    ProbeKind = "old_tls"    // TLS 1.0 to 1.2 with every cipher suite
	ProbePlainHTTP ProbeKind = "plain_http" // HTTP without TLS
)

// String gives host:port, with an IPv6 address in brackets.
func (t *Target) String() string { return hostPort(t.Host, t.Port) }

// A Phase is how long something took, and why it failed.
type Phase struct {
	Duration Duration `json:"duration_ms"`
	Error    *Problem `json:"error,omitempty"`
}

// TLS is a handshake and what it showed.
type TLS struct {
	Phase
	Version      string        `json:"version,omitempty"` // "TLS 1.3"
	CipherSuite  string        `json:"cipher_suite,omitempty"`
	ALPN         string        `json:"alpn,omitempty"`         // "h2", "http/1.1"; empty if the server chose none
	SNI          string        `json:"sni,omitempty"`          // what was asked for; empty for an IP address
	Name         string        `json:"name"`                   // what the certificate must prove
	Verified     bool          `json:"verified"`               // and it does
	Certificates []Certificate `json:"certificates,omitempty"` // MaxCertificates at most

	// Problems are all that is wrong with the certificate; Error is the first of
	// them, or why there was no handshake.
	Problems []Problem `json:"problems,omitempty"`

	// WithoutSNI is what a client that names no server gets: "same", "other" (another
	// certificate) or "refused". Empty if it was not tried.
	WithoutSNI string `json:"without_sni,omitempty"`

	// Default is that other certificate, with ten of its names at most.
	Default *Certificate `json:"default_certificate,omitempty"`

	defaultProves bool // Default proves Name too
}

// A Certificate is one of the chain that the server sent, its own first.
type Certificate struct {
	Subject     string       `json:"subject"`
	Issuer      string       `json:"issuer"`
	DNSNames    []string     `json:"dns_names,omitempty"` // 100 at most; of the others in the chain 10
	IPAddresses []netip.Addr `json:"ip_addresses,omitempty"`
	NotBefore   time.Time    `json:"not_before"`
	NotAfter    time.Time    `json:"not_after"`
	Key         string       `json:"key"` // "ECDSA P-256", "RSA 2048"
	SHA256      string       `json:"sha256"`
}

// HTTP is what an address answers over one protocol.
type HTTP struct {
	Protocol string  `json:"protocol"` // "h2" or "http/1.1"
	Version  Version `json:"version"`
	Keys     Keys    `json:"keys"`
}

// An Answer is the outside of an HTTP answer.
type Answer struct {
	Status      int       `json:"status,omitempty"`
	ContentType string    `json:"content_type,omitempty"`
	ServedBy    string    `json:"served_by,omitempty"` // the header Server
	Date        time.Time `json:"date,omitzero"`       // the header Date
	Duration    Duration  `json:"duration_ms"`
	Error       *Problem  `json:"error,omitempty"`

	// Location is the header of a redirect, which is not followed.
	Location string `json:"location,omitempty"`

	// ClockSkew is how far the header Date, with the header Age added, is ahead of
	// the clock here. Zero if there is none.
	ClockSkew Duration `json:"clock_skew_ms,omitempty"`
}

// Version is the answer to GET /_matrix/federation/v1/version.
type Version struct {
	Answer
	Name   string `json:"name,omitempty"`           // server.name
	Server string `json:"server_version,omitempty"` // server.version
}

// Keys is the answer to GET /_matrix/key/v2/server.
type Keys struct {
	Answer
	ServerName string    `json:"server_name,omitempty"`
	ValidUntil time.Time `json:"valid_until,omitzero"`
	VerifyKeys []Key     `json:"verify_keys,omitempty"` // 16 at most

	OldVerifyKeys []OldKey `json:"old_verify_keys,omitempty"` // 16 at most
}

// An OldKey is one that a server has signed with.
type OldKey struct {
	ID        string    `json:"id"`
	Public    string    `json:"key,omitempty"`
	ExpiredAt time.Time `json:"expired_at,omitzero"`
}

// A Key is one that a server signs with.
type Key struct {
	ID     string `json:"id"` // "ed25519:abc"
	Public string `json:"key,omitempty"`
	Signed bool   `json:"signed"` // the answer has a good signature by it

	// Signature is that signature in base64, as published.
	Signature string `json:"signature,omitempty"`

	Error *Problem `json:"error,omitempty"`
}

// A Problem says what went wrong: Code for programs, Message for people, in one
// line without control characters.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// A Finding is something that a server's operator should know.
type Finding struct {
	Code     string   `json:"code"` // of the [Catalogue]
	Severity Severity `json:"severity"`
	About    string   `json:"about,omitempty"`    // the host, target or address, if it is about one
	Message  string   `json:"message"`            // what is wrong, in a sentence
	Evidence []string `json:"evidence,omitempty"` // what was asked and what came back, a line each
	Fixes    []Fix    `json:"fixes,omitempty"`    // what to change; one of them will do
	Section  string   `json:"section"`            // of the specification or RFC
	URL      string   `json:"url"`                // of that section
}

// A Fix is one way to mend something.
type Fix struct {
	Title string `json:"title"`           // what to do, in a sentence
	Where string `json:"where,omitempty"` // "nginx", "caddy", "dns", "json", "shell", "homeserver"
	Text  string `json:"text,omitempty"`  // lines to copy, made for this name; may be empty
}
