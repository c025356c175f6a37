package check

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"mxdiscover/internal/servername"
)

// What goes into a fix is copied into somebody's configuration. The names in it
// are therefore those of valid server names, which have no character that a shell
// or a configuration file would act on.

// safeHost is host if it can be the name of one, else a word that stands for it.
func safeHost(host string) string {
	if name, err := servername.Parse(host); err == nil {
		if _, hasPort := name.Port(); !hasPort {
			return name.Host()
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return "HOST"
}

// proxyFixes put a proxy with TLS in front of a homeserver. nginx takes no more than
// 1 MiB unless told otherwise, and a transaction may have 50 events of 64 KiB
// (Server-Server API, Transactions). Caddy is left out for an IP address: it
// signs the certificate for one itself.
func proxyFixes(host string, port uint16) []Fix {
	host = safeHost(host)
	fixes := []Fix{
		{Title: "Let nginx pass federation on to the homeserver; if it has a server for " + host + " at this port, put the location there.", Where: "nginx", Text: fmt.Sprintf(`server {
    listen %d ssl;
    listen [::]:%d ssl;
    server_name %s;
    %s
    client_max_body_size 50M;
    location /_matrix {
        proxy_pass http://127.0.0.1:8008;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}`, port, port, host, strings.ReplaceAll(certificateFiles(host), "\n", "\n    "))},
		{Title: "Let Caddy pass federation on to the homeserver; if it has a block for " + host + ", put the line there.", Where: "caddy",
			Text: fmt.Sprintf("%s:%d {\n\treverse_proxy /_matrix/* 127.0.0.1:8008\n}", host, port)},
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && addr.IsValid() {
		return fixes[:1]
	}
	return fixes
}

// listenFixes let somebody listen where nobody does.
func listenFixes(host string, port uint16, down []spot) []Fix {
	listen := listenLines(port)
	four, six := families(down)
	switch {
	case !six:
		listen = fmt.Sprintf("listen %d ssl;", port)
	case !four:
		listen = fmt.Sprintf("listen [::]:%d ssl;", port)
	}
	fixes := []Fix{
		{Title: "See whether somebody listens, and on which addresses.", Where: "shell", Text: fmt.Sprintf("ss -ltnp 'sport = :%d'", port)},
		{Title: "Let the proxy listen, and open the port in the firewall.", Where: "nginx", Text: listen},
	}
	if safe := safeHost(host); !strings.HasPrefix(safe, "[") && safe != "HOST" {
		if _, err := netip.ParseAddr(safe); err != nil {
			var addrs []netip.AddrPort
			for _, s := range down {
				if s.t.Host == host {
					addrs = append(addrs, s.a.Address)
				}
			}
			fixes = append(fixes, Fix{Title: "If the server is not at these addresses, remove the records.", Where: "dns", Text: addressLines(safe, addrs)})
		}
	}
	return fixes
}

// certificateFixes get a certificate for a name and a federation port.
func certificateFixes(name string, port uint16) []Fix {
	fixes := renewFixes(name)
	if len(fixes) > 1 {
		caddy := proxyFixes(name, port)[1]
		caddy.Title = "Let Caddy listen there: it gets the certificate and renews it by itself."
		fixes = append(fixes, caddy)
	}
	return fixes
}

// renewFixes get a certificate for a name.
func renewFixes(name string) []Fix {
	name = safeHost(name)
	if addr, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return []Fix{{Title: "Get a certificate for the address " + addr.String() + ", or use a name instead of it."}}
	}
	return []Fix{
		{Title: "Get a certificate for " + name + ".", Where: "shell", Text: "certbot certonly --webroot --webroot-path /var/www/html --domain " + name + "\nsystemctl reload nginx"},
		{Title: "Tell nginx to use it.", Where: "nginx", Text: certificateFiles(name)},
	}
}

// chainFixes send the whole chain.
func chainFixes(name string) []Fix {
	name = safeHost(name)
	return []Fix{
		{Title: "Give nginx the file with the whole chain.", Where: "nginx", Text: certificateFiles(name)},
		{Title: "Give the homeserver the file with the whole chain (Synapse).", Where: "homeserver",
			Text: "tls_certificate_path: \"/etc/letsencrypt/live/" + name + "/fullchain.pem\""},
	}
}

// listenLines let nginx listen everywhere. Without http2: how that is written depends
// on the version (nginx, Module ngx_http_v2_module).
func listenLines(port uint16) string {
	return fmt.Sprintf("listen %d ssl;\nlisten [::]:%d ssl;", port, port)
}

func certificateFiles(name string) string {
	return "ssl_certificate /etc/letsencrypt/live/" + name + "/fullchain.pem;\nssl_certificate_key /etc/letsencrypt/live/" + name + "/privkey.pem;"
}

// addressLine is the record of an address as it stands in a zone file.
func addressLine(host string, addr netip.Addr) string {
	kind := "A"
	if addr.Is6() {
		kind = "AAAA"
	}
	return fmt.Sprintf("%s. 3600 IN %s %s", host, kind, addr)
}

func addressLines(host string, addrs []netip.AddrPort) string {
	var list []string
	for _, a := range addrs {
		list = append(list, addressLine(host, a.Addr()))
	}
	return strings.Join(list, "\n")
}

// toASCII gives the xn-- form of an international name, or "" if that makes no
// server name. Case is folded; what else IDNA asks for is left to the reader's
// registrar, so this is a proposal and never used to ask anything.
func toASCII(text string) string {
	if len(text) > 253 || !utf8.ValidString(text) {
		return ""
	}
	labels := strings.Split(strings.ToLower(text), ".")
	for i, label := range labels {
		if encoded, ok := punycode(label); ok {
			labels[i] = "xn--" + encoded
		}
	}
	name, err := servername.Parse(strings.Join(labels, "."))
	if err != nil {
		return ""
	}
	return name.String()
}

// punycode encodes a label (RFC 3492, 6.3); ok is false if it is ASCII.
func punycode(label string) (out string, ok bool) {
	const (
		base, tmin, tmax, skew, damp = 36, 1, 26, 38, 700
		digits                       = "abcdefghijklmnopqrstuvwxyz0123456789"
	)
	var b []byte
	runes := []rune(label)
	for _, r := range runes {
		if r < utf8.RuneSelf {
			b = append(b, byte(r))
		}
	}
	basic := len(b)
	if basic == len(runes) {
		return label, false
	}
	if basic > 0 {
		b = append(b, '-')
	}
	n, delta, bias := rune(utf8.RuneSelf), 0, 72
	for handled := basic; handled < len(runes); {
		next := rune(utf8.MaxRune)
		for _, r := range runes {
			if r >= n && r < next {
				next = r
			}
		}
		delta += int(next-n) * (handled + 1)
		n = next
		for _, r := range runes {
			if r < n {
				delta++
			}
			if r != n {
				continue
			}
			q := delta
			for k := base; ; k += base {
				t := min(max(k-bias, tmin), tmax)
				if q < t {
					break
				}
				b = append(b, digits[t+(q-t)%(base-t)])
				q = (q - t) / (base - t)
			}
			b = append(b, digits[q])
			// RFC 3492, 6.1
			if handled == basic {
				delta /= damp
			} else {
				delta /= 2
			}
			delta += delta / (handled + 1)
			k := 0
			for ; delta > (base-tmin)*tmax/2; k += base {
				delta /= base - tmin
			}
			bias = k + (base-tmin+1)*delta/(delta+skew)
			delta = 0
			handled++
		}
		delta++
		n++
	}
	return string(b), true
}
