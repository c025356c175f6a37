package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mxdiscover/check"
	"mxdiscover/internal/servername"
	"mxdiscover/resolver"
	"mxdiscover/wellknown"
)

// The federation tester (matrix-org/matrix-federation-tester) is what scripts and
// monitoring have asked since 2017. These types are its JSON, key by key. Where
// it writes null, so do they: its clients tell null from [] and {}.

// testerForm is the answer of /api/report.
type testerForm struct {
	Error             string `json:",omitempty"` // what went wrong before anything was connected to
	WellKnownResult   testerWellKnown
	DNSResult         testerDNS
	ConnectionReports map[string]testerConnection // by "ip:port"
	ConnectionErrors  map[string]testerError      // of those that no keys could be had from
	Version           testerVersion
	FederationOK      bool
}

type testerWellKnown struct {
	Server         string `json:"m.server"`
	Result         string `json:"result,omitempty"` // why there is no m.server
	CacheExpiresAt int64  // in seconds since 1970; 0 if the answer does not say
}

type testerDNS struct {
	SRVSkipped bool
	SRVCName   string
	SRVRecords []testerSRV
	SRVError   *testerError
	Hosts      map[string]testerHost
	Addrs      []string // "ip:port"
}

type testerSRV struct {
	Target   string // with a dot at its end
	Port     uint16
	Priority uint16
	Weight   uint16
}

type testerHost struct {
	CName string
	Addrs []string
	Error *testerError
}

type testerError struct{ Message string }

type testerVersion struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

type testerConnection struct {
	Certificates      []testerCertificate
	Cipher            testerCipher
	Checks            testerChecks
	Errors            []testerError
	Ed25519VerifyKeys map[string]string // null unless the checks of the keys passed
	Info              struct{}
	Keys              *testerKeys
}

type testerCertificate struct {
	SubjectCommonName string
	IssuerCommonName  string
	SHA256Fingerprint string // base64 without padding
	DNSNames          []string
}

type testerCipher struct{ Version, CipherSuite string }

type testerChecks struct {
	AllChecksOK        bool
	MatchingServerName bool
	FutureValidUntilTS bool
	HasEd25519Key      bool
	AllEd25519ChecksOK *bool // null if there is no key to check
	Ed25519Checks      map[string]testerKeyChecks
	ValidCertificates  bool
}

type testerKeyChecks struct{ ValidEd25519, MatchingSignature bool }

// testerKeys are the published keys, as far as a report has them.
type testerKeys struct {
	OldVerifyKeys map[string]testerOldKey      `json:"old_verify_keys"`
	ServerName    string                       `json:"server_name"`
	Signatures    map[string]map[string]string `json:"signatures"`
	ValidUntil    int64                        `json:"valid_until_ts"`
	VerifyKeys    map[string]testerKey         `json:"verify_keys"`
}

type testerKey struct {
	Key string `json:"key"`
}

type testerOldKey struct {
	ExpiredTS int64  `json:"expired_ts"`
	Key       string `json:"key"`
}

// testerJSON is a report as the tester writes it.
func testerJSON(r *check.Report) ([]byte, error) {
	text, err := json.Marshal(testerReport(r))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, escapeActing(text), "", "  "); err != nil { // people grep for `"FederationOK": true`
		return nil, err
	}
	return b.Bytes(), nil
}

// testerReport translates a report. FederationOK is true when the tester would
// say so, every address with everything in order, and nothing else is
// an error either: it must not be GOOD here and BAD on the page.
func testerReport(r *check.Report) *testerForm {
	f := &testerForm{
		DNSResult:         testerDNS{Hosts: map[string]testerHost{}},
		ConnectionReports: map[string]testerConnection{},
		ConnectionErrors:  map[string]testerError{},
	}
	if _, err := servername.Parse(r.ServerName); err != nil {
		f.Error = "Invalid server name '" + r.ServerName + "'"
		f.DNSResult.Hosts = nil // it has not come to that
		return f
	}
	f.wellKnown(r)
	f.dns(r)
	ok := r.Verdict != check.Bad && len(f.DNSResult.Addrs) > 0
	for _, t := range r.Targets {
		for _, a := range t.Addresses {
			to := a.Address.String()
			if _, twice := f.ConnectionReports[to]; twice {
				continue
			}
			h, problem := answered(&a)
			if problem != nil {
				f.ConnectionErrors[to] = testerError{problem.Message}
				ok = false
				continue
			}
			c := connection(r, &a, h)
			f.ConnectionReports[to] = c
			ok = ok && c.Checks.AllChecksOK
		}
	}
	f.version(r)
	f.FederationOK = ok && f.Version.Error == ""
	return f
}

// wellKnown: what the rules made of well-known, and if they did not ask, nothing.
func (f *testerForm) wellKnown(r *check.Report) {
	step, asked := ruleOf(r, "3")
	if !asked {
		// The tester asks for well-known whatever the name is. Where the rules
		// forbid it, there is none to be found.
		f.WellKnownResult.Result = "No .well-known found"
		return
	}
	for _, w := range r.WellKnown {
		if w.Error == nil && w.Server != "" && step.Outcome == resolver.Used {
			f.WellKnownResult.Server = w.Server
			if w.Lifetime > 0 {
				f.WellKnownResult.CacheExpiresAt = r.CheckedAt.Add(time.Duration(w.Lifetime)).Unix()
			}
			return
		}
	}
	if server, ok := strings.CutPrefix(step.Detail, "m.server = "); ok && step.Outcome == resolver.Used {
		f.WellKnownResult.Server = server
		if !step.Expires.IsZero() {
			f.WellKnownResult.CacheExpiresAt = step.Expires.Unix()
		}
		return
	}
	f.WellKnownResult.Result = step.Detail
	if step.Outcome == resolver.Absent {
		f.WellKnownResult.Result = "No .well-known found"
	}
	for _, w := range r.WellKnown {
		if w.Error == nil {
			continue
		}
		switch wellknown.Code(w.Error.Code) {
		case wellknown.NotFound, wellknown.HTTPStatus: // any status but 200
			f.WellKnownResult.Result = "No .well-known found"
		case wellknown.ServerMissing:
			f.WellKnownResult.Result = "No m.server key found in well-known response"
		}
		return
	}
}

// ruleOf is the step of a rule that was asked for.
func ruleOf(r *check.Report, rule string) (resolver.Step, bool) {
	if r.Resolution != nil && r.Resolution.Result != nil {
		for _, step := range r.Resolution.Steps() {
			if step.Rule == rule && step.Query != "" {
				return step, true
			}
		}
	}
	return resolver.Step{}, false
}

// dns: the SRV records that count, and every target's addresses.
func (f *testerForm) dns(r *check.Report) {
	d := &f.DNSResult
	dot := ""
	d.SRVSkipped = true
	for _, rule := range []string{"3.3", "3.4", "4", "5"} {
		step, asked := ruleOf(r, rule)
		name, isSRV := strings.CutPrefix(step.Query, "SRV ")
		if !asked || !isSRV {
			continue
		}
		d.SRVSkipped = false
		if r.Resolution.Step == rule && len(r.Targets) > 0 {
			dot = "."
			d.SRVCName, d.SRVError = name+dot, nil
			break
		}
		message := "lookup " + name
		if step.Server != "" {
			message += " on " + step.Server
		}
		if step.Outcome == resolver.Absent {
			message += ": no such host"
		} else {
			message += ": " + step.Detail
		}
		d.SRVError = &testerError{message}
	}
	seen := make(map[string]bool)
	for _, t := range r.Targets {
		host := t.Host + dot
		if dot != "" {
			d.SRVRecords = append(d.SRVRecords, testerSRV{host, t.Port, t.Priority, t.Weight})
		}
		h := testerHost{CName: t.Host + "."}
		if t.Alias != "" {
			h.CName = strings.TrimSuffix(t.Alias, ".") + "."
		}
		if t.Error != nil {
			h.Error = &testerError{t.Error.Message}
		}
		if dot != "" && t.Alias != "" && h.Error == nil {
			h.Error = &testerError{"SRV record target " + host + " is a CNAME record, which is forbidden (as per RFC2782)"}
		}
		for _, a := range t.Addresses {
			h.Addrs = append(h.Addrs, a.Address.Addr().String())
			if to := net.JoinHostPort(a.Address.Addr().String(), strconv.Itoa(int(a.Address.Port()))); !seen[to] {
				seen[to] = true
				d.Addrs = append(d.Addrs, to)
			}
		}
		if before, again := d.Hosts[host]; !again || len(before.Addrs) == 0 {
			d.Hosts[host] = h
		}
	}
}

// answered is the answer about keys of an address, or why there is none: the
// tester calls that a failed connection, but not a certificate that proves
// nothing.
func answered(a *check.Address) (*check.HTTP, *check.Problem) {
	var last *check.Problem
	for i := range a.HTTP {
		h := &a.HTTP[i]
		if h.Keys.Status == http.StatusOK && (h.Keys.ServerName != "" || len(h.Keys.VerifyKeys) > 0) {
			return h, nil
		}
		if last == nil && h.Keys.Error != nil {
			last = h.Keys.Error
		}
	}
	switch {
	case a.TCP.Error != nil:
		return nil, a.TCP.Error
	case last != nil:
		return nil, last
	case a.TLS != nil && a.TLS.Error != nil:
		return nil, a.TLS.Error
	}
	return nil, &check.Problem{Code: "unknown", Message: "the server did not give its keys"}
}

// connection is the report on one address.
func connection(r *check.Report, a *check.Address, h *check.HTTP) testerConnection {
	c := testerConnection{Errors: []testerError{}}
	if t := a.TLS; t != nil {
		c.Cipher = testerCipher{t.Version, t.CipherSuite}
		c.Checks.ValidCertificates = t.Verified
		if t.Error != nil {
			c.Errors = append(c.Errors, testerError{t.Error.Message})
		}
		for _, cert := range t.Certificates {
			c.Certificates = append(c.Certificates, testerCertificate{
				SubjectCommonName: commonName(cert.Subject),
				IssuerCommonName:  commonName(cert.Issuer),
				SHA256Fingerprint: fingerprint(cert.SHA256),
				DNSNames:          cert.DNSNames,
			})
		}
	}
	keys := &h.Keys
	c.Checks.MatchingServerName = keys.ServerName == r.ServerName
	c.Checks.FutureValidUntilTS = keys.ValidUntil.After(r.CheckedAt)
	c.Checks.Ed25519Checks = make(map[string]testerKeyChecks)
	c.Keys = &testerKeys{
		OldVerifyKeys: map[string]testerOldKey{},
		ServerName:    keys.ServerName,
		Signatures:    map[string]map[string]string{},
		VerifyKeys:    map[string]testerKey{},
	}
	if !keys.ValidUntil.IsZero() {
		c.Keys.ValidUntil = keys.ValidUntil.UnixMilli()
	}
	for _, key := range keys.OldVerifyKeys {
		old := testerOldKey{Key: key.Public}
		if !key.ExpiredAt.IsZero() {
			old.ExpiredTS = key.ExpiredAt.UnixMilli()
		}
		c.Keys.OldVerifyKeys[key.ID] = old
	}
	verify, all, signatures := make(map[string]string), true, make(map[string]string)
	for _, key := range keys.VerifyKeys {
		c.Keys.VerifyKeys[key.ID] = testerKey{key.Public}
		if key.Signature != "" {
			signatures[key.ID] = key.Signature
			c.Keys.Signatures[keys.ServerName] = signatures
		}
		if !strings.HasPrefix(key.ID, "ed25519:") {
			continue
		}
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(key.Public, "="))
		checks := testerKeyChecks{ValidEd25519: err == nil && len(raw) == 32, MatchingSignature: key.Signed}
		c.Checks.HasEd25519Key = true
		c.Checks.Ed25519Checks[key.ID] = checks
		all = all && checks.ValidEd25519 && checks.MatchingSignature
		if checks.MatchingSignature {
			verify[key.ID] = key.Public
		}
	}
	if c.Checks.HasEd25519Key {
		c.Checks.AllEd25519ChecksOK = &all
	}
	good := c.Checks.MatchingServerName && c.Checks.FutureValidUntilTS && c.Checks.HasEd25519Key && all
	if good {
		c.Ed25519VerifyKeys = verify
	}
	c.Checks.AllChecksOK = good && c.Checks.ValidCertificates
	return c
}

// version is what a federating server would see: the first address that answers,
// else why the first does not.
func (f *testerForm) version(r *check.Report) {
	for _, t := range r.Targets {
		for _, a := range t.Addresses {
			for _, h := range a.HTTP {
				v := h.Version
				if v.Error == nil && v.Status == http.StatusOK && a.TLS != nil && a.TLS.Verified {
					f.Version = testerVersion{Name: v.Name, Version: v.Server}
					return
				}
				if f.Version.Error == "" && v.Error != nil {
					f.Version.Error = v.Error.Message
				}
			}
			switch {
			case f.Version.Error != "":
			case a.TCP.Error != nil:
				f.Version.Error = a.TCP.Error.Message
			case a.TLS != nil && a.TLS.Error != nil:
				f.Version.Error = a.TLS.Error.Message
			}
		}
	}
	if f.Version.Error != "" {
		return
	}
	f.Version.Error = "no server was reached"
	if r.Resolution != nil && r.Resolution.Err != nil {
		f.Version.Error = r.Resolution.Err.Error()
	} else if r.Summary != "" && r.Verdict == check.Bad {
		f.Version.Error = r.Summary
	}
}

// commonName is the CN of a distinguished name as text (RFC 4514).
func commonName(text string) string {
	if !strings.Contains(text, "=") {
		return text
	}
	for rest := text; rest != ""; {
		part := rest
		end := 0
		for end < len(rest) && rest[end] != ',' && rest[end] != '+' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(rest))
		part, rest = rest[:end], rest[min(end+1, len(rest)):]
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), "CN="); ok {
			return unescape(value)
		}
	}
	return ""
}

// unescape takes the backslashes before characters away.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// fingerprint gives a hash in hexadecimal, with or without colons, in the
// tester's form.
func fingerprint(text string) string {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return text
	}
	return base64.RawStdEncoding.EncodeToString(raw)
}

// tested asks for the check that /api/report and /api/federation-ok tell of. The
// tester takes any name and says in the report what is wrong with it. no_cache
// is a parameter of its successors.
func (x *exchange) tested(send func(json func() ([]byte, error), ok bool)) {
	q, refresh, f := x.asked(kindCheck, "server_name")
	if f != nil && f.Code == "name_missing" {
		r := &check.Report{}
		send(func() ([]byte, error) { return testerJSON(r) }, false)
		return
	}
	if f != nil {
		x.fail(f)
		return
	}
	a, f, done := x.wait(q, refresh || x.query.Get("no_cache") == "true")
	defer done()
	switch {
	case f != nil:
		x.fail(f)
	case a != nil:
		send(a.tester, a.federation())
	}
}

// report is /api/report.
func (x *exchange) report() {
	x.tested(func(json func() ([]byte, error), _ bool) {
		text, err := json()
		if err != nil {
			x.fail(internal())
			return
		}
		x.send(http.StatusOK, typeJSON, text)
	})
}

// federationOK is /api/federation-ok.
func (x *exchange) federationOK() {
	x.tested(func(_ func() ([]byte, error), ok bool) {
		text := "BAD"
		if ok {
			text = "GOOD"
		}
		x.send(http.StatusOK, typeText, []byte(text))
	})
}
