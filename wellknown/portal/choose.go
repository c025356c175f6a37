package portal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
)

// A Chooser picks the homeserver of a login, "based on any of a number of
// factors, such as the individual user, or a simple round-robin to load-balance"
// (MSC1730, 26 November 2018). It may look at the request or at the body, or ask
// a database; the context of login.Request ends when the portal has no more time
// for the choice. It is called by many goroutines at once.
//
// Choose returns the names of the targets to try, in order. A later one is tried
// only if no connection to those before it could be made; with [Redirect] the
// first one is taken. An [*Error] is what the client gets to see. Any other
// error is status 500, and its text goes nowhere.
//
// A Chooser may have a method TargetNames() []string, the targets it knows, for
// [Portal.Check].
type Chooser interface {
	Choose(login *Login) ([]string, error)
}

// ChooserFunc is a function as a [Chooser].
type ChooserFunc func(login *Login) ([]string, error)

// Choose calls f.
func (f ChooserFunc) Choose(login *Login) ([]string, error) { return f(login) }

// A Login is one POST to /login, for a [Chooser]. It holds a password: it must
// not be logged, nor kept, nor changed.
type Login struct {
	// Request is the request of the client; its Body reads Body.
	Request *http.Request

	// Body is the body, whatever it is, at most 1 MiB.
	Body []byte

	// Targets are the names of the targets in their order.
	Targets []string
}

// Error is an answer to the client: a standard error response of the
// Client-Server API. With status 503 the client is asked to try again after a
// second.
type Error struct {
	Status  int    // HTTP status, 400 to 599
	ErrCode string // such as "M_FORBIDDEN"
	Message string // for people
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Status, e.ErrCode, e.Message)
}

// User gives the user who wants to log in, as the client put it: a full Matrix
// ID or a localpart; empty if the login names nobody, as with m.login.token. It
// is "user" of an "identifier" of the type m.id.user, else the deprecated
// top-level "user" (Client-Server API, POST /login).
//
// The error is an [*Error]: M_NOT_JSON, or M_BAD_JSON if the body is no object,
// or names the user in a key that stands there twice: portal and homeserver
// might each believe another one.
func (l *Login) User() (string, error) {
	text := l.Body
	if !utf8.Valid(text) || !json.Valid(text) {
		return "", &Error{http.StatusBadRequest, "M_NOT_JSON", "The body is not JSON."}
	}
	body, ok := object(text)
	if !ok {
		return "", &Error{http.StatusBadRequest, "M_BAD_JSON", "The body is not a JSON object."}
	}
	top, err := strict(body, "identifier", "user")
	if err != nil {
		return "", err
	}
	if identifier, ok := object(top["identifier"]); ok {
		inner, err := strict(identifier, "type", "user")
		if err != nil {
			return "", err
		}
		if kind, _ := str(inner["type"]); kind == "m.id.user" {
			if user, _ := str(inner["user"]); user != "" {
				return user, nil
			}
		}
	}
	user, _ := str(top["user"])
	return user, nil
}

// strict takes the values of keys, none of which may stand there twice.
func strict(members []member, keys ...string) (map[string]json.RawMessage, error) {
	values := make(map[string]json.RawMessage, len(keys))
	for _, m := range members {
		if !slices.Contains(keys, m.key) {
			continue
		}
		if _, twice := values[m.key]; twice {
			return nil, &Error{http.StatusBadRequest, "M_BAD_JSON", "The key '" + m.key + "' stands there twice."}
		}
		values[m.key] = m.value
	}
	return values, nil
}

// RoundRobin gives each login the next target in their order, whatever becomes
// of it. If no connection to that one can be made, those after it follow. It
// does not look at the body. The zero RoundRobin begins with the first target;
// it must not be copied.
type RoundRobin struct {
	turn atomic.Uint64
}

// Choose takes the next target.
func (r *RoundRobin) Choose(login *Login) ([]string, error) {
	n := len(login.Targets)
	if n == 0 {
		return nil, nil
	}
	first := int((r.turn.Add(1) - 1) % uint64(n))
	return append(slices.Clone(login.Targets[first:]), login.Targets[:first]...), nil
}

// UserMap maps users to names of targets. A user is a full Matrix ID, a
// localpart, or "*" for everyone else. A full Matrix ID is looked up as it is,
// then by its localpart, then as "*"; a localpart as it is, then as "*"; a login
// without a user as "*". Users are compared exactly. Who is not found may not
// log in (403 M_FORBIDDEN), and when the target cannot be reached there is no
// other.
type UserMap map[string]string

// everyone is the user that stands for all that have no entry.
const everyone = "*"

// Choose takes the target of the login's user.
func (m UserMap) Choose(login *Login) ([]string, error) {
	user, err := login.User()
	if err != nil {
		return nil, err
	}
	if name, ok := m.Lookup(user); ok {
		return []string{name}, nil
	}
	return nil, &Error{http.StatusForbidden, "M_FORBIDDEN", "There is no homeserver for this user."}
}

// Lookup gives the target of a user, which may be empty.
func (m UserMap) Lookup(user string) (name string, ok bool) {
	if name, ok = m[user]; ok {
		return name, true
	}
	if localpart, _, full := cutUserID(user); full {
		if name, ok = m[localpart]; ok {
			return name, true
		}
	}
	name, ok = m[everyone]
	return name, ok
}

// TargetNames are the targets of the map, sorted, each once.
func (m UserMap) TargetNames() []string {
	names := make([]string, 0, len(m))
	for _, name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// cutUserID splits a Matrix ID at its first colon (appendices, User
// Identifiers).
func cutUserID(user string) (localpart, server string, ok bool) {
	rest, ok := strings.CutPrefix(user, "@")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// ParseUserMap reads lines "USER TARGET" with white space between. Blank lines
// and lines that begin with "#" are skipped; white space around a line counts
// for nothing. A user who stands there twice, or who can be no user, is an
// error, which names the line.
func ParseUserMap(file io.Reader) (UserMap, error) {
	users := UserMap{}
	lines := bufio.NewScanner(file)
	at := 0
	for lines.Scan() {
		at++
		line := lines.Text()
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("line %d is not UTF-8", at)
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d must have a user and a target, and has %d words", at, len(fields))
		}
		user, name := fields[0], fields[1]
		if err := checkUser(user); err != nil {
			return nil, fmt.Errorf("line %d: %s is %w", at, printable.Quote(user, maxQuoted), err)
		}
		if _, twice := users[user]; twice {
			return nil, fmt.Errorf("line %d: %s has an entry already", at, printable.Quote(user, maxQuoted))
		}
		users[user] = name
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", at+1, err)
	}
	return users, nil
}

// checkUser finds the slips for which an entry would never be found.
func checkUser(user string) error {
	if strings.ContainsFunc(user, func(r rune) bool { return unicode.IsControl(r) || r == '\ufeff' }) {
		return fmt.Errorf("no user: it has a control character")
	}
	if _, server, ok := cutUserID(user); ok {
		if _, err := servername.Parse(server); err != nil {
			return fmt.Errorf("no Matrix ID: there is no valid server name after the colon")
		}
		return nil
	}
	if strings.HasPrefix(user, "@") || strings.Contains(user, ":") {
		return fmt.Errorf("neither a Matrix ID (@user:server) nor a localpart")
	}
	return nil
}
