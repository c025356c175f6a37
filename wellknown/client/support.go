package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"mxdiscover/internal/printable"
	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

// SupportPath is where a server name's [Support] is (Client-Server API, GET
// /.well-known/matrix/support; v1.10, MSC1929).
const SupportPath = "/.well-known/matrix/support"

// SupportInvalid is the code of a support document that breaks its schema.
const SupportInvalid wellknown.Code = "support_invalid"

// Limits of the strings of a support document.
const (
	maxRole  = 255 // appendices, Common Namespaced Identifier Grammar
	maxEmail = 254 // RFC 5321, 4.5.3.1.3, less the angle brackets
	maxUser  = 255 // appendices, User Identifiers
)

// Support says whom to write to about a server. It has a contact, or a page, or
// both.
type Support struct {
	Contacts []Contact
	Page     string // an http or https URL; empty if there is none

	// Extra are the other members, unread.
	Extra map[string]json.RawMessage
}

// Contact is somebody to write to, at one address at least.
type Contact struct {
	Role     string // m.role.admin, m.role.security, or another of the same grammar
	MatrixID string // a user ID; empty if there is none
	Email    string // empty if there is none

	// Extra are the other members, unread.
	Extra map[string]json.RawMessage
}

// Support fetches the support document of a Matrix ID's server, or of a server
// name. The error is a *[wellknown.Error], whose method Absent tells whether
// there just is no such document; its code is wellknown.InvalidHost for what is
// neither an ID nor a name, and SupportInvalid for what breaks the schema.
func (d *Discoverer) Support(ctx context.Context, userOrServer string) (*Support, error) {
	r, cancel := d.run(ctx)
	defer cancel()
	name, err := parseName(userOrServer)
	if err != nil {
		return nil, &wellknown.Error{Code: wellknown.InvalidHost, URL: printable.Line(userOrServer), Detail: err.Error(), Err: err}
	}
	object, reply, failed := r.fetch("", "https://"+name.Host()+SupportPath)
	if failed != nil {
		return nil, failed
	}
	support, err := readSupport(object)
	if err != nil {
		return nil, &wellknown.Error{Code: SupportInvalid, URL: reply.Hops[len(reply.Hops)-1].URL, Status: reply.Status, Detail: err.Error(), Err: err}
	}
	return support, nil
}

// ParseSupport reads the body of an answer to GET /.well-known/matrix/support.
// The reading is as strict as that of wellknown.ParseObject, and a member whose
// value is null counts as absent. One bad contact spoils the document: who wrote
// it should know.
func ParseSupport(body []byte) (*Support, error) {
	object, err := wellknown.ParseObject(body)
	if err != nil {
		return nil, err
	}
	return readSupport(object)
}

func readSupport(object map[string]json.RawMessage) (*Support, error) {
	s := &Support{Extra: others(object, "contacts", "support_page")}
	var err error
	if s.Page, err = optional(object, "support_page", checkPage); err != nil {
		return nil, err
	}
	raw := object["contacts"]
	if present(raw) {
		var contacts []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &contacts) != nil {
			return nil, errors.New("contacts is " + jsonType(raw) + ", not an array")
		}
		for i, contact := range contacts {
			c, err := readContact(contact)
			if err != nil {
				return nil, fmt.Errorf("contacts[%d]: %w", i, err)
			}
			s.Contacts = append(s.Contacts, *c)
		}
	}
	if len(s.Contacts) == 0 && s.Page == "" {
		return nil, errors.New("there is neither a contact nor a support_page")
	}
	return s, nil
}

func readContact(raw json.RawMessage) (*Contact, error) {
	if raw[0] != '{' {
		return nil, errors.New("it is " + jsonType(raw) + ", not an object")
	}
	object := members(raw)
	c := &Contact{Extra: others(object, "role", "matrix_id", "email_address")}
	var err error
	if c.Role, err = optional(object, "role", checkRole); err != nil {
		return nil, err
	}
	if c.MatrixID, err = optional(object, "matrix_id", checkUser); err != nil {
		return nil, err
	}
	if c.Email, err = optional(object, "email_address", checkEmail); err != nil {
		return nil, err
	}
	switch {
	case c.Role == "":
		return nil, errors.New("it has no role")
	case c.MatrixID == "" && c.Email == "":
		return nil, errors.New("it has neither a matrix_id nor an email_address")
	}
	return c, nil
}

// optional gives a string that passes check, or an empty one if there is none.
func optional(object map[string]json.RawMessage, key string, check func(string) (problem string)) (string, error) {
	raw := object[key]
	if !present(raw) {
		return "", nil
	}
	text, ok := str(raw)
	if !ok {
		return "", errors.New(key + " is " + jsonType(raw) + ", not a string")
	}
	if problem := check(text); problem != "" {
		return "", errors.New(key + " is " + printable.Quote(text, maxQuoted) + ": " + problem)
	}
	return text, nil
}

func checkPage(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || hasSpace(text):
		return "it is not a URL"
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "it is not an http or https URL with a host" // such as javascript:
	}
	return ""
}

// checkRole: appendices, Common Namespaced Identifier Grammar. Roles of later
// versions, such as m.role.dpo of MSC4265, pass too.
func checkRole(text string) string {
	bad := len(text) > maxRole || text == "" || text[0] < 'a' || text[0] > 'z' ||
		strings.ContainsFunc(text, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
		})
	if bad {
		return "it is not a namespaced identifier"
	}
	return ""
}

func checkUser(text string) string {
	_, server, colon := strings.Cut(text, ":")
	_, err := servername.Parse(server)
	if !colon || err != nil || text[0] != '@' || len(text) > maxUser || hasSpace(text) {
		return "it is not a user ID"
	}
	return ""
}

func checkEmail(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at <= 0 || at == len(text)-1 || len(text) > maxEmail || hasSpace(text) {
		return "it is not an e-mail address"
	}
	return ""
}

// hasSpace finds what would not stay in its line, or in its field of a page.
func hasSpace(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) })
}
