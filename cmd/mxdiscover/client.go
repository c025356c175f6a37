package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mxdiscover/internal/guard"
	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
)

func (a *app) clientCommand() *cobra.Command {
	var (
		s       settings
		d       client.Discoverer
		support bool
	)
	cmd := &cobra.Command{
		Use:   "client MXID|NAME...",
		Short: "Say where a client goes (client auto-discovery)",
		Long: `client does what a Matrix client does with the ID or the server name that
somebody types in: it fetches /.well-known/matrix/client, checks the homeserver
and the identity server that the document names, and prints their base URLs,
or what the client must do instead:

  IGNORE       there is no document: go on by other means
  FAIL_PROMPT  say that discovery failed, and ask for the URL
  FAIL_ERROR   say that there is no usable server, and stop
  PROMPT       ask for the URL, if it is wanted at all

Exit status: 0 every name succeeded, 1 at least one did not, 2 wrong usage.`,
		Example: `  mxdiscover client @alice:example.org
  mxdiscover client --json matrix.org
  mxdiscover client --support matrix.org       # whom to write to`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no Matrix ID and no server name given")
			}
			r, stop, err := s.resolver(a.net)
			if err != nil {
				return err
			}
			defer stop()
			d.Fetcher, d.Timeout = r.Fetcher(), s.timeout
			ok := true
			for _, name := range args {
				if cmd.Context().Err() != nil {
					return errors.New("interrupted: not every name was discovered")
				}
				if support {
					ok = a.support(cmd.Context(), &s, &d, name) && ok
				} else {
					ok = a.discover(cmd.Context(), &s, &d, name) && ok
				}
			}
			if !ok {
				return errFailed
			}
			return nil
		},
	}
	f := cmd.Flags()
	s.add(f)
	f.TextVar(&d.Rules, "rules", client.Current, "follow the `RULES` current (the specification) or\ndraft-2018 (Client-Server API r0.4.0)")
	f.BoolVar(&d.NoValidate, "no-validate", false, "do not connect to the servers that the document names")
	f.BoolVar(&support, "support", false, "print whom to write to about the server instead")
	return cmd
}

// discover prints where a client goes and reports whether it may.
func (a *app) discover(ctx context.Context, s *settings, d *client.Discoverer, name string) bool {
	found := d.Discover(ctx, name)
	if s.verbose {
		fmt.Fprintln(a.stderr, a.stderr.paint(bold, printable.Line(found.Name)))
		for _, step := range found.Steps {
			a.head("step "+step.Rule, resolver.Outcome(step.Outcome), step.Query)
			a.note(fmt.Sprintf("%s; took %s", step.Detail, step.Duration.Round(10*time.Microsecond)))
		}
	}
	if s.json {
		if _, err := json.Marshal(found); err != nil {
			// Nested more deeply than can be written again.
			found.Extra, found.Homeserver.Extra, found.IdentityServer.Extra = nil, nil, nil
		}
		a.printJSON(found)
		return found.State == client.Success
	}
	shown := printable.Line(found.Name)
	if found.State == client.Success {
		o := a.stdout
		fmt.Fprintln(o, o.paint(bold, shown))
		field(o, "homeserver", o.paint(green, found.Homeserver.BaseURL))
		if versions := found.Homeserver.Versions; len(versions) > 0 {
			field(o, "", "  speaks "+versionList(versions))
		}
		switch id := found.IdentityServer; {
		case id.State == client.Success:
			field(o, "identity", id.BaseURL)
		case id.Reason != nil:
			field(o, "identity", fmt.Sprintf("%s (%s): %s", o.paint(yellow, string(id.State)), id.Reason.Code, id.Reason.Message))
		default:
			field(o, "identity", "none named")
		}
	}
	for _, warning := range found.Warnings {
		a.warn(shown+": "+warning.Message, "")
	}
	if found.State != client.Success {
		a.complain(fmt.Sprintf("%s: %s (%s): %s", shown, found.State, found.Error.Code, found.Error.Message), stateHint(found))
	}
	return found.State == client.Success
}

// versionList gives the first and the last of what may be hundreds.
func versionList(versions []string) string {
	const most = 6
	list := versions
	if len(list) > most {
		list = append(append([]string{}, versions[:2]...), fmt.Sprintf("... (%d in all) ...", len(versions)), versions[len(versions)-1])
	}
	return printable.Line(printable.Cut(strings.Join(list, ", "), 200))
}

// stateHint says what to change, or what a client does now.
func stateHint(found *client.Discovery) string {
	code, homeserver := strings.CutPrefix(string(found.Error.Code), "versions_")
	if strings.HasPrefix(code, "identity_") { // Client-Server API r0.4.0 alone
		return "under these rules a bad identity server spoils all: correct its base_url, or leave m.identity_server out"
	}
	// What is wrong with a host is the same whatever is asked for there.
	host := warningHint(resolver.Warning{Code: "well_known_" + code, Message: found.Error.Message})
	switch code := client.Code(code); code {
	case client.InvalidServerName:
		if name := guess(found.Name); name != "" {
			return "did you mean " + name + "?"
		}
		return ""
	case client.HomeserverMissing, client.BaseURLMissing, client.BaseURLInvalid:
		query := found.Steps[len(found.Steps)-1].Query
		return `serve {"m.homeserver":{"base_url":"https://HOST"}} at ` + strings.TrimPrefix(query, "GET ")
	case client.Code(wellknown.AddressDenied):
		return allowHint(found.Steps[len(found.Steps)-1].Hop.Err)
	case client.Code(wellknown.TLSFailed), client.Code(wellknown.RedirectInsecure):
		return host
	case client.Code(wellknown.NoAddress):
		switch {
		case homeserver:
			return "correct the base_url, or give its host an A or AAAA record"
		case !strings.ContainsAny(found.Hostname, ".:"):
			return "the name has no dot: give a Matrix ID such as @alice:example.org, or a server name"
		}
		return "check the spelling; the host needs an A or AAAA record for its web server"
	case client.Code(wellknown.DNSError):
		return "the name servers of the domain are failing, or the DNS server that was asked is: --dns asks another one"
	case client.Code(wellknown.Timeout):
		return "the DNS, a firewall or the server is silent: check that port from outside"
	case client.Code(wellknown.ConnectFailed):
		return "check the web server of that host, and a firewall before it"
	case client.Code(wellknown.Canceled):
		return ""
	case client.Code(wellknown.HTTPStatus), client.Code(wellknown.TooLarge), client.Code(wellknown.RedirectInvalid), client.Code(wellknown.RedirectLoop):
		if !homeserver {
			return host
		}
	case client.Code(wellknown.NotFound):
		if !homeserver {
			return "there is no document: a client goes on by other means, such as asking for the homeserver's URL"
		}
	}
	if homeserver {
		return "the document names a homeserver that does not answer as one: correct its base_url, or the server"
	}
	return "a client tells its user that discovery failed, and asks for the homeserver's URL"
}

// allowHint names the network that opens a refused address.
func allowHint(failed *wellknown.Error) string {
	var denied *guard.DeniedError
	if failed == nil || !errors.As(failed, &denied) || !denied.Unwrapped.IsValid() {
		return "others may see another address (try --dns); if that network is yours, use --allow-net"
	}
	if denied.Unwrapped.IsUnspecified() {
		return "this is no address of a server: correct the record"
	}
	network := netip.PrefixFrom(denied.Unwrapped.WithZone(""), denied.Unwrapped.BitLen())
	return "others may see another address (try --dns); if this network is yours, use --allow-net " + network.String()
}

// support prints whom to write to.
func (a *app) support(ctx context.Context, s *settings, d *client.Discoverer, name string) bool {
	found, err := d.Support(ctx, name)
	if s.json {
		a.printJSON(supportForm(name, found, err))
		return err == nil
	}
	if err != nil {
		hint := ""
		var failed *wellknown.Error
		if errors.As(err, &failed) && failed.Absent() {
			hint = "the server does not say whom to write to"
		}
		a.complain(printable.Line(name)+": "+err.Error(), hint)
		return false
	}
	o := a.stdout
	fmt.Fprintln(o, o.paint(bold, printable.Line(name)))
	for _, contact := range found.Contacts {
		var addresses []string
		for _, address := range []string{contact.MatrixID, contact.Email} {
			if address != "" {
				addresses = append(addresses, printable.Line(address))
			}
		}
		field(o, "contact", strings.Join(addresses, ", ")+" ("+printable.Line(contact.Role)+")")
	}
	if found.Page != "" {
		field(o, "page", printable.Line(found.Page))
	}
	return true
}

// supportForm has the keys of the document itself, and error.
func supportForm(name string, found *client.Support, err error) any {
	type contact struct {
		Role     string `json:"role"`
		MatrixID string `json:"matrix_id,omitempty"`
		Email    string `json:"email_address,omitempty"`
	}
	form := struct {
		Name     string         `json:"name"`
		Contacts []contact      `json:"contacts,omitempty"`
		Page     string         `json:"support_page,omitempty"`
		Error    *client.Reason `json:"error,omitempty"`
	}{Name: name}
	var failed *wellknown.Error
	switch {
	case errors.As(err, &failed):
		form.Error = &client.Reason{Code: client.Code(failed.Code), Message: err.Error()}
	case err != nil:
		form.Error = &client.Reason{Code: "internal", Message: printable.Line(err.Error())}
	default:
		form.Page = found.Page
		for _, c := range found.Contacts {
			form.Contacts = append(form.Contacts, contact{c.Role, c.MatrixID, c.Email})
		}
	}
	return form
}
