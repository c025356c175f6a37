package check

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"mxdiscover/internal/servername"
	"mxdiscover/wellknown"
)

// A slip is what somebody did who wrote a well-known document, and what they
// meant, as far as that can be seen.
type slip struct {
	code  string // of the finding; empty if it is none of those below
	meant string // a valid server name; empty if it cannot be seen
}

// slipIn reads a document that was refused.
func slipIn(failed *wellknown.Error, body []byte) slip {
	switch failed.Code {
	case wellknown.NotJSON:
		if _, problem := bodyProblem(body); problem != nil && problem.Code == codeHTML {
			return slip{code: "well_known_html"}
		}
		return slip{code: "well_known_not_json"}
	case wellknown.ServerMissing:
		return missing(body)
	case wellknown.ServerInvalid:
		return invalid(body)
	}
	return slip{}
}

// missing looks for another key that holds the server name.
func missing(body []byte) slip {
	s := slip{code: "well_known_no_server"}
	object, err := wellknown.ParseObject(body)
	if err != nil {
		return s
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "m.server", "server", "m_server", "mserver", "m.homeserver.server":
		default:
			continue
		}
		s.code = "well_known_key_case"
		var value string
		if json.Unmarshal(object[key], &value) == nil {
			s.meant = meant(value)
		}
	}
	return s
}

// invalid says which of the usual mistakes m.server is.
func invalid(body []byte) slip {
	s := slip{code: "well_known_value"}
	object, err := wellknown.ParseObject(body)
	if err != nil {
		return s
	}
	var value string
	raw := object["m.server"]
	if json.Unmarshal(raw, &value) != nil || len(raw) > 0 && raw[0] == 'n' {
		s.code = "well_known_not_string"
		return s
	}
	s.meant = meant(value)
	i := strings.LastIndexByte(value, ':')
	switch {
	case strings.Contains(value, "://"):
		s.code = "well_known_url"
	case strings.ContainsAny(value, "/?#"):
		s.code = "well_known_path"
	case i > 0:
		if _, err := servername.Parse(value[:i]); err == nil {
			s.code = "well_known_port"
		}
	}
	return s
}

// meant is the server name in a text that is none: a URL, a name with a path, with
// spaces or with a port that does not exist. It is empty if there is none.
func meant(text string) string {
	text = strings.TrimSpace(text)
	fallback := ""
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
		if u, err := url.Parse(scheme + "://" + rest); err == nil && u.Port() == "" && strings.EqualFold(scheme, "https") {
			fallback = ":443" // a URL says so by its scheme, a server name would say 8448
		}
	}
	if i := strings.IndexAny(text, "/?#"); i >= 0 {
		text = text[:i]
	}
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		text = text[i+1:]
	}
	host, port, hasPort := text, "", false
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port, hasPort = text[:i], text[i:], true
	}
	host = strings.TrimSuffix(host, ".")
	for _, candidate := range []string{host + port + ifNot(hasPort, fallback), host} {
		if name, err := servername.Parse(candidate); err == nil {
			return name.String()
		}
	}
	return ""
}

func ifNot(yes bool, text string) string {
	if yes {
		return ""
	}
	return text
}
