package interop

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A directive is one of nginx's configuration; a block has others inside.
type directive struct {
	text   string // without the semicolon and the braces
	block  bool
	inside []*directive
}

// parseNginx reads the directives of a configuration (nginx, Beginner's Guide, Configuration File's Structure).
func parseNginx(t *testing.T, text string) []*directive {
	t.Helper()
	top := &directive{block: true}
	open := []*directive{top}
	quote, word := byte(0), strings.Builder{}
	for i := range len(text) {
		c := text[i]
		switch {
		case quote != 0:
			word.WriteByte(c)
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
			word.WriteByte(c)
		case c == ';' || c == '{':
			d := &directive{text: strings.Join(strings.Fields(word.String()), " "), block: c == '{'}
			if strings.ContainsAny(word.String(), `'"`) {
				d.text = strings.TrimSpace(word.String())
			}
			word.Reset()
			in := open[len(open)-1]
			in.inside = append(in.inside, d)
			if d.block {
				open = append(open, d)
			}
		case c == '}':
			require.Empty(t, strings.TrimSpace(word.String()), "a semicolon is missing: %s", text)
			open = open[:len(open)-1]
			require.NotEmpty(t, open, text)
		default:
			word.WriteByte(c)
		}
	}
	require.Empty(t, strings.TrimSpace(word.String()), text)
	require.Len(t, open, 1, text)
	return top.inside
}

func (d *directive) write(b *strings.Builder, indent string) {
	b.WriteString(indent + d.text)
	if !d.block {
		b.WriteString(";\n")
		return
	}
	b.WriteString(" {\n")
	for _, one := range d.inside {
		one.write(b, indent+"    ")
	}
	b.WriteString(indent + "}\n")
}

// key is the same for directives that stand for the same thing.
func (d *directive) key() string {
	fields := strings.Fields(d.text)
	switch {
	case d.block:
		return strings.TrimSuffix(strings.Join(fields, " "), "/")
	case fields[0] == "proxy_set_header", fields[0] == "add_header":
		return fields[0] + " " + fields[1]
	}
	return fields[0]
}

// put does with the lines of a fix what an operator does: what is there already is replaced, wherever it
// stands in the block, and the rest is added.
func (d *directive) put(fix []*directive) {
	lines := make(map[string][]*directive)
	var keys []string
	for _, line := range fix {
		key := line.key()
		if lines[key] == nil {
			keys = append(keys, key)
		}
		lines[key] = append(lines[key], line)
	}
	for _, key := range keys {
		if !d.replace(key, lines[key]) {
			d.inside = append(slices.Clone(lines[key]), d.inside...)
		}
	}
}

func (d *directive) replace(key string, with []*directive) (done bool) {
	var inside []*directive
	for _, one := range d.inside {
		switch {
		case one.key() == key:
			if !done {
				inside = append(inside, with...)
			}
			done = true
		default:
			if one.block && one.replace(key, with) {
				done = true
			}
			inside = append(inside, one)
		}
	}
	d.inside = inside
	return done
}

// cureNginx puts the text of a fix into the server block that it is for, by what its title says; without a title, as an
// operator knows how to. A fix that is a whole block takes the place of the other one.
func cureNginx(t *testing.T, block, title, fix string) string {
	t.Helper()
	with := parseNginx(t, fix)
	if len(with) == 1 && with[0].text == "server" {
		return fix
	}
	blocks := parseNginx(t, block)
	require.Len(t, blocks, 1, "no server block to put this into: %s", fix)
	into := blocks[0]
	if strings.Contains(title, "in the location that serves it") {
		for _, one := range into.inside {
			if one.key() == "location = /.well-known/matrix/server" {
				into = one
			}
		}
	}
	into.put(with)
	for i, one := range blocks[0].inside {
		if strings.HasPrefix(one.text, "return ") {
			// It would come before every location (ngx_http_rewrite_module); a fix for nginx has to say so.
			if title != "" {
				require.Contains(t, title, `has to go into "location / { }"`)
			}
			blocks[0].inside[i] = &directive{text: "location /", block: true, inside: []*directive{one}}
		}
	}
	var b strings.Builder
	blocks[0].write(&b, "")
	return b.String()
}

// cureZone puts the records of a fix into a zone, or takes them out of it where the fix says that. What an
// operator has to fill in is filled in.
func cureZone(t *testing.T, zone, title, records string) string {
	t.Helper()
	records = strings.ReplaceAll(records, "<IPv4 address>", "127.0.0.1")
	var lines []string
	gone := make(map[string]bool)
	for line := range strings.Lines(records) {
		if strings.Contains(line, "<IPv6 address>") {
			continue // there is none
		}
		fields := strings.Fields(line)
		require.Greater(t, len(fields), 4, line)
		require.Equal(t, "IN", fields[2], line)
		gone[fields[0]+" "+fields[3]] = true
		lines = append(lines, strings.TrimSpace(line))
	}
	require.NotEmpty(t, lines, title)
	if regexp.MustCompile(`(?i)remove the records?( of|\.$)`).MatchString(title) {
		lines = nil
	}
	for line := range strings.Lines(zone) {
		fields := strings.Fields(line)
		if len(fields) > 1 && !gone[fields[0]+" "+fields[1]] {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// A lodging is where a configuration that names the usual ports and files is at home in a test: an address of its own,
// and other ports and folders.
type lodging struct {
	address                netip.Addr
	web, federation, other int // instead of 443, 8448 and 8009
	dendrite, dead, silent int // instead of 8008, 8007 and 8006
	certificates, files    string
	ipv6                   bool // this machine has it
}

// house moves an nginx configuration there. All lodgings share one IPv6 address, as nobody asks there.
func (l *lodging) house(t *testing.T, config string) string {
	t.Helper()
	if !l.ipv6 {
		config = regexp.MustCompile(`listen \[::\]:[^;]*;`).ReplaceAllString(config, "")
	}
	config = regexp.MustCompile(`listen (\[::\]:)?(\d+)`).ReplaceAllStringFunc(config, func(listen string) string {
		address := l.address.String()
		text, six := strings.CutPrefix(strings.TrimPrefix(listen, "listen "), "[::]:")
		if six {
			address = "[::1]"
		}
		port := map[string]int{"443": l.web, "8448": l.federation, "8009": l.other}[text]
		require.NotZero(t, port, listen)
		return fmt.Sprintf("listen %s:%d", address, port)
	})
	return l.replacer().Replace(config)
}

func (l *lodging) replacer() *strings.Replacer {
	return strings.NewReplacer(
		"127.0.0.1:8008", fmt.Sprintf("127.0.0.1:%d", l.dendrite),
		"127.0.0.1:8007", fmt.Sprintf("127.0.0.1:%d", l.dead),
		"127.0.0.1:8006", fmt.Sprintf("127.0.0.1:%d", l.silent),
		"127.0.0.1:8009", fmt.Sprintf("%s:%d", l.address, l.other),
		"/etc/letsencrypt/live", l.certificates,
		"/var/www", l.files,
	)
}
