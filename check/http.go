package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mxdiscover/internal/oneshot"
	"mxdiscover/internal/printable"
	"mxdiscover/internal/serverkeys"
	"mxdiscover/wellknown"
)

const (
	// maxHeader bounds the header of one answer, as package wellknown does.
	maxHeader = 64 << 10

	// maxBody bounds the body of one answer: that of a key document. The other one
	// has a hundred bytes.
	maxBody = serverkeys.MaxBody

	// maxKeys is how many keys of a document are listed. Servers have one.
	maxKeys = 16
)

// Codes of problems with an answer.
const (
	codeHTTPTimeout = "http_timeout"
	codeNotHTTP     = "http_not_http"
	codeTooLarge    = "too_large"
	codeNotFound    = "not_found"
	codeBadGateway  = "bad_gateway"
	codeRedirect    = "redirect"
	codeStatus      = "http_status"
	codeHTML        = "html"
	codeNotJSON     = "not_json"
	codeMalformed   = "malformed"
)

// ask sends a GET and reads the answer, whose Error is set unless it is a whole
// body with status 200. Redirects are not followed: who is asked has to answer
// (Server-Server API, API standards).
func (p *place) ask(ctx context.Context, send func(*http.Request) (*http.Response, error), path, host string) (Answer, []byte) {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	began := time.Now()
	agent := p.resolver.UserAgent
	if agent == "" {
		agent = "mxdiscover"
	}
	req := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: host, Path: path},
		Host:   host,
		Header: http.Header{"User-Agent": {agent}, "Accept": {"application/json"}},
	}
	resp, err := send(req.WithContext(limited))
	if err != nil {
		return Answer{Duration: since(began), Error: answerProblem(err, ctx, limited)}, nil
	}
	defer resp.Body.Close()
	a := Answer{
		Status:      resp.StatusCode,
		ContentType: short(resp.Header.Get("Content-Type")),
		ServedBy:    short(resp.Header.Get("Server")),
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.Date = date.UTC()
		age, _ := strconv.ParseUint(resp.Header.Get("Age"), 10, 31)
		a.ClockSkew = Duration(date.Add(time.Duration(age) * time.Second).Sub(time.Now().Truncate(time.Second)))
	}
	if a.Error = statusProblem(resp); a.Error != nil {
		a.Location = printable.Line(resp.Header.Get("Location"))
		if a.Error.Code != codeRedirect {
			a.Location = ""
		}
		a.Duration = since(began)
		return a, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	a.Duration = since(began)
	switch {
	case err != nil:
		a.Error = answerProblem(err, ctx, limited)
	case len(body) > maxBody:
		a.Error = &Problem{codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	default:
		return a, body
	}
	return a, nil
}

func statusProblem(resp *http.Response) *Problem {
	status := resp.StatusCode
	text := strings.TrimSpace("status " + strconv.Itoa(status) + " " + http.StatusText(status))
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return &Problem{codeNotFound, text}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &Problem{codeBadGateway, text}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return &Problem{codeRedirect, text + " to " + printable.Line(resp.Header.Get("Location"))}
	}
	return &Problem{codeStatus, text}
}

// answerProblem says why there is no answer on an open connection: check is the
// context of the check, limited that of the question.
func answerProblem(err error, check, limited context.Context) *Problem {
	var timeout interface{ Timeout() bool }
	switch {
	case check.Err() != nil:
		return cutOff()
	case limited.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return &Problem{codeHTTPTimeout, fmt.Sprintf("no complete answer within %s", answerTimeout)}
	case errors.Is(err, oneshot.ErrHeader):
		return &Problem{codeTooLarge, fmt.Sprintf("the header is larger than %d bytes", maxHeader)}
	case errors.Is(err, oneshot.ErrWire), errors.Is(err, errTooMuch):
		return &Problem{codeTooLarge, fmt.Sprintf("the answer takes more than %d bytes", maxWire)}
	case closed(err):
		return &Problem{codeNotHTTP, "the connection was " + how(err) + " before the answer was complete"}
	}
	return &Problem{codeNotHTTP, printable.Line(strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: "))}
}

// bodyProblem says why a body is no JSON object, or nil.
func bodyProblem(body []byte) (map[string]json.RawMessage, *Problem) {
	object, err := wellknown.ParseObject(body)
	if err == nil {
		return object, nil
	}
	problem := &Problem{codeNotJSON, printable.Line(err.Error())}
	var bad *wellknown.ParseError
	if errors.As(err, &bad) {
		problem.Message = bad.Detail
		if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '<' {
			problem.Code = codeHTML
		}
	}
	return nil, problem
}

// readVersion reads the answer about the version (Server-Server API,
// GET /_matrix/federation/v1/version).
func readVersion(a Answer, body []byte) Version {
	v := Version{Answer: a}
	if a.Error != nil {
		return v
	}
	var object map[string]json.RawMessage
	if object, v.Error = bodyProblem(body); v.Error != nil {
		return v
	}
	// Both are optional; keys that differ in case are others.
	var server map[string]json.RawMessage
	if json.Unmarshal(object["server"], &server) != nil {
		return v
	}
	text := func(key string) string {
		var s string
		if json.Unmarshal(server[key], &s) != nil {
			return ""
		}
		return short(s)
	}
	v.Name, v.Server = text("name"), text("version")
	return v
}

// readKeys reads the answer about the keys (Server-Server API, Retrieving server
// keys).
func readKeys(a Answer, body []byte) Keys {
	k := Keys{Answer: a}
	if a.Error != nil {
		return k
	}
	read, err := serverkeys.Parse(body)
	if err != nil {
		if _, k.Error = bodyProblem(body); k.Error != nil {
			return k
		}
		k.Error = &Problem{codeMalformed, printable.Line(err.Error())}
		var bad *serverkeys.Error
		if errors.As(err, &bad) {
			k.Error.Message = bad.Detail
			if bad.Kind == serverkeys.NotJSON || bad.Kind == serverkeys.NotObject {
				k.Error.Code = codeNotJSON
			}
		}
		return k
	}
	signatures := signaturesIn(body, read.ServerName)
	for _, key := range read.OldKeys[:min(len(read.OldKeys), maxKeys)] {
		k.OldVerifyKeys = append(k.OldVerifyKeys, OldKey{ID: short(key.ID), Public: short(key.Public), ExpiredAt: key.Expired})
	}
	k.ServerName, k.ValidUntil = printable.Line(read.ServerName), read.ValidUntil.UTC()
	for _, key := range read.VerifyKeys[:min(len(read.VerifyKeys), maxKeys)] {
		shown := Key{ID: short(key.ID), Public: short(key.Public), Signature: short(signatures[key.ID]), Signed: key.Signed}
		if key.Err != nil {
			shown.Error = &Problem{keyCode(key.Err), printable.Line(key.Err.Error())}
		}
		k.VerifyKeys = append(k.VerifyKeys, shown)
	}
	return k
}

// signaturesIn are the signatures of an entity by key ID, as they stand in a
// document that has been read.
func signaturesIn(body []byte, entity string) map[string]string {
	var document struct {
		Signatures map[string]map[string]any `json:"signatures"`
	}
	texts := make(map[string]string)
	if json.Unmarshal(body, &document) != nil {
		return texts
	}
	for id, signature := range document.Signatures[entity] {
		texts[id], _ = signature.(string)
	}
	return texts
}

// Codes of problems with a key.
const (
	codeKeyUnsigned  = "unsigned"
	codeKeySignature = "bad_signature"
	codeKeyMalformed = "malformed"
	codeKeyAlgorithm = "unknown_algorithm" // which is nobody's fault
)

func keyCode(err error) string {
	switch {
	case errors.Is(err, serverkeys.ErrUnsigned):
		return codeKeyUnsigned
	case errors.Is(err, serverkeys.ErrBadSignature):
		return codeKeySignature
	case errors.Is(err, serverkeys.ErrAlgorithm):
		return codeKeyAlgorithm
	}
	return codeKeyMalformed
}
