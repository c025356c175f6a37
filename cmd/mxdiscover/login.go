package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mxdiscover/internal/printable"
	"mxdiscover/resolver"
	"mxdiscover/wellknown"
	"mxdiscover/wellknown/client"
	"mxdiscover/wellknown/login"
)

// maxPassword is the longest password that is read, in bytes: no server takes
// one that does not fit in a login of 64 KiB.
const maxPassword = 64 << 10

// loginFlags are those of the verb login that the library does not know.
type loginFlags struct {
	fromStdin, follow, showToken bool
}

func (a *app) loginCommand() *cobra.Command {
	var (
		s       settings
		c       login.Client
		request login.Request
		f       loginFlags
	)
	cmd := &cobra.Command{
		Use:   "login MXID",
		Short: "Log in with a password, where discovery says (MSC1730)",
		Long: `login does what a Matrix client does with an ID and a password: it finds the
homeserver, logs in there, and prints where the client goes from then on. The
answer may send it elsewhere (well_known, base_cs_url). A server that redirects
the login itself (307, 308) gets the password sent on only with
--follow-redirect.

A login makes a device on the server, which stays until it is logged out; with
--device-id, it is the same one each time.

Exit status: 0 logged in, 1 not, 2 wrong usage.`,
		Example: `  mxdiscover login @alice:example.org
  mxdiscover login --homeserver http://localhost:8008 @alice:example.org
  pass show matrix | mxdiscover login --password-stdin --json --show-token @alice:example.org`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("login takes one Matrix ID, such as @alice:example.org")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			request.UserID = args[0]
			if cmd.Flags().Changed("homeserver") && request.Homeserver == "" {
				return usagef("--homeserver: the URL is empty")
			}
			return a.login(cmd.Context(), &s, &c, request, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Homeserver, "homeserver", "", "log in at this base `URL`; nothing is discovered")
	flags.BoolVar(&f.fromStdin, "password-stdin", false, "read the password from standard input, all of it less\none line end, instead of asking for it")
	flags.BoolVar(&f.follow, "follow-redirect", false, "send the password on where status 307 or 308 says")
	flags.BoolVar(&c.NoValidate, "no-validate", false, "do not connect to the servers that documents and the\nlogin's answer name, except to log in")
	flags.StringVar(&request.DeviceID, "device-id", "", "log in as the device `ID` again, instead of a new one")
	flags.BoolVar(&f.showToken, "show-token", false, "print the access token")
	s.add(flags)
	flags.TextVar(&c.Rules, "rules", client.Current, "follow the `RULES` current (the specification) or\ndraft-2018 (Client-Server API r0.4.0)")
	return cmd
}

// login logs in and prints how that ended.
func (a *app) login(ctx context.Context, s *settings, c *login.Client, request login.Request, f loginFlags) error {
	r, stop, err := s.resolver(a.net)
	if err != nil {
		return err
	}
	defer stop()
	// For a bad ID nobody is asked for a password: Login says what is wrong.
	switch wrong := request.Check(); {
	case wrong == nil || wrong.Code == login.InvalidUserID:
	case wrong.Code == login.InvalidPassword: // it is missing still
		if request.Password, err = a.password(ctx, request.UserID, f.fromStdin); err != nil {
			return err
		}
	default:
		return usagef("%w", wrong)
	}
	c.Fetcher, c.HomeserverFetcher, c.Timeout = r.Fetcher(), ownWord(r).Fetcher(), s.timeout
	if f.follow {
		c.FollowRedirect = func(_, _ string) bool { return true }
	}
	result := c.Login(ctx, request)
	if s.verbose {
		a.loginEvidence(result)
	}
	if s.json {
		text, err := result.JSON(f.showToken)
		if err != nil {
			return errors.New("the result cannot be written as JSON")
		}
		a.printJSON(json.RawMessage(text))
	} else {
		a.loggedIn(result, f)
	}
	if result.Error != nil {
		return errFailed
	}
	return nil
}

// ownWord is r for what the user wrote himself, which may be anywhere.
func ownWord(r *resolver.Resolver) *resolver.Resolver {
	return &resolver.Resolver{
		DNS: r.DNS, RootCAs: r.RootCAs, DialContext: r.DialContext, ConnectTo: r.ConnectTo, Proxy: r.Proxy,
		AllowNets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	}
}

// loginEvidence prints what was asked and what came back.
func (a *app) loginEvidence(r *login.Result) {
	fmt.Fprintln(a.stderr, a.stderr.paint(bold, printable.Line(r.Name)))
	if r.Discovery != nil {
		a.clientSteps(r.Discovery.Steps)
	}
	a.clientSteps(r.Steps)
}

func (a *app) clientSteps(steps []client.Step) {
	for _, step := range steps {
		a.head("step "+step.Rule, resolver.Outcome(step.Outcome), step.Query)
		a.note(fmt.Sprintf("%s; took %s", step.Detail, step.Duration.Round(10*time.Microsecond)))
	}
}

// loggedIn prints a result for people.
func (a *app) loggedIn(r *login.Result, f loginFlags) {
	name := printable.Line(r.Name)
	if r.Error == nil {
		o := a.stdout
		fmt.Fprintln(o, o.paint(bold, name))
		field(o, "logged in as", printable.Line(r.UserID))
		field(o, "device", printable.Line(r.DeviceID))
		field(o, "homeserver", o.paint(green, r.BaseURL))
		if why := movedBy(r.RedirectedBy); why != "" {
			field(o, "", "  "+why)
		}
		switch id := r.IdentityServer; {
		case id == nil:
		case id.State == client.Success:
			field(o, "identity", id.BaseURL)
		case id.Reason != nil:
			field(o, "identity", fmt.Sprintf("%s (%s): %s", o.paint(yellow, string(id.State)), id.Reason.Code, id.Reason.Message))
		}
		if f.showToken {
			field(o, "access token", whole(r.AccessToken.Reveal()))
		} else {
			field(o, "access token", "not shown; --show-token prints it. The server keeps the device until it is logged out, from another client or with the token")
		}
	}
	warnings := r.Warnings
	if r.Discovery != nil {
		warnings = append(append([]client.Warning{}, r.Discovery.Warnings...), warnings...)
	}
	for _, warning := range warnings {
		a.warn(name+": "+warning.Message, "")
	}
	if r.Error != nil {
		a.complain(fmt.Sprintf("%s: not logged in (%s): %s", name, r.Error.Code, r.Error.Message), loginHint(r))
	}
}

// whole is a text that is of use only if nothing is cut off.
func whole(text string) string {
	quoted := strconv.QuoteToASCII(text)
	if quoted == `"`+text+`"` && !strings.Contains(text, " ") {
		return text
	}
	return quoted
}

// movedBy says what has led to the homeserver.
func movedBy(by login.RedirectedBy) string {
	switch by {
	case login.ByWellKnown, login.ByBaseCSURL:
		return "as the login's answer says (" + string(by) + ")"
	case login.By307, login.By308:
		return "to which the login was redirected (status " + string(by) + ")"
	}
	return ""
}

// loginHint says what to do about a login that failed.
func loginHint(r *login.Result) string {
	e := r.Error
	switch e.Code {
	case login.InvalidUserID:
		return "a Matrix ID has the form @alice:example.org"
	case login.DiscoveryFailed:
		return "name the homeserver yourself: --homeserver URL"
	case login.InsecureHomeserver:
		return "the document should name an https URL; --homeserver URL takes http on your own word"
	case login.LoginUnsupported, login.PasswordUnsupported:
		return "log in with a client that opens a browser: this server wants another way, such as single sign-on"
	case login.RedirectRefused:
		if e.Status == 307 || e.Status == 308 {
			return "if that place may know your password: --follow-redirect"
		}
		return "the server must redirect with status 307, or publish where it is; --homeserver URL goes there at once"
	case login.ResponseInvalid:
		return mayHaveLoggedIn(r, "this does not look like a homeserver: check --homeserver, or what the server publishes")
	case login.LoginFailed:
		return refusedHint(e)
	case login.Code(wellknown.AddressDenied):
		return "if that network is yours, use --allow-net"
	case login.Code(wellknown.TLSFailed):
		return "the server must prove its name; --cacert FILE trusts a CA of your own"
	case login.Code(wellknown.NoAddress):
		return "check the spelling of the homeserver's URL"
	case login.Code(wellknown.ConnectFailed):
		return mayHaveLoggedIn(r, "nobody answers there: check the URL and its port, and whether the server runs")
	case login.Code(wellknown.Timeout):
		return mayHaveLoggedIn(r, "--timeout gives it more time; -v shows what it waited for")
	case login.Code(wellknown.RedirectInvalid), login.Code(wellknown.RedirectInsecure), login.Code(wellknown.RedirectLoop):
		return "the server's redirect is wrong; --homeserver URL goes past it"
	}
	return mayHaveLoggedIn(r, "")
}

// refusedHint reads the server's reason.
func refusedHint(e *login.Error) string {
	switch {
	case e.RetryAfterMS != nil:
		wait := time.Duration(*e.RetryAfterMS) * time.Millisecond
		return "try again in " + short((wait + time.Second - 1).Truncate(time.Second))
	case e.Status == 429:
		return "too many attempts: try again later"
	case e.ErrCode == "M_USER_DEACTIVATED":
		return "this account was closed"
	case e.Status == 401 || e.Status == 403:
		return "check the Matrix ID and the password"
	case e.Status >= 500:
		return "the server, or what it is a proxy for, is failing: try again later"
	}
	return ""
}

// mayHaveLoggedIn is for a password that was sent, and no answer that says what
// became of it.
func mayHaveLoggedIn(r *login.Result, otherwise string) string {
	if n := len(r.Steps); n > 0 && r.Steps[n-1].Rule == login.RuleLogin && r.Steps[n-1].Hop.Addr.IsValid() {
		return "the server may have logged you in nevertheless: look for a new device in your list of sessions"
	}
	return otherwise
}

// password reads the password.
func (a *app) password(ctx context.Context, id string, fromStdin bool) (login.Secret, error) {
	var (
		text string
		err  error
	)
	if fromStdin {
		text, err = readPassword(a.stdin)
	} else {
		text, err = a.ask(ctx, "Password for "+printable.Line(id)+": ")
	}
	switch {
	case err != nil:
		return login.Secret{}, err
	case text == "":
		return login.Secret{}, usagef("the password is empty")
	case !utf8.ValidString(text):
		return login.Secret{}, usagef("the password is not UTF-8")
	}
	return login.NewSecret(text), nil
}

// readPassword takes all there is, less one line end.
func readPassword(from io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxPassword+3))
	if err != nil {
		return "", usagef("the password cannot be read from standard input")
	}
	password, ended := strings.CutSuffix(string(text), "\n")
	if ended {
		password = strings.TrimSuffix(password, "\r")
	}
	if len(password) > maxPassword {
		return "", usagef("the password has more than %d bytes", maxPassword)
	}
	return password, nil
}

// errInterrupted ends a prompt.
var errInterrupted = errors.New("interrupted: not logged in")

// ask asks for a secret on the terminal, and shows nothing of it. Whatever ends
// it, the terminal is left as it was.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	tty, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return "", usagef("there is no terminal to ask for the password: use --password-stdin")
	}
	// A raw terminal sends Ctrl-C as a character. It is set up here and not in
	// another goroutine, so that it cannot be after it was restored.
	fd := int(tty.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", usagef("the terminal cannot be made silent: %w", err)
	}
	defer func() {
		_ = term.Restore(fd, before)
		fmt.Fprintln(a.stderr)
	}()
	fmt.Fprint(a.stderr, prompt)
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := readLine(tty)
		typed <- line{text, err}
	}()
	select {
	case got := <-typed:
		return got.text, got.err
	case <-ctx.Done():
		return "", errInterrupted
	}
}

// readLine reads a line from a raw terminal, with the keys that edit one.
func readLine(from io.Reader) (string, error) {
	const (
		ctrlC, ctrlD, ctrlU  = 3, 4, 21
		backspace, deleteKey = 8, 127
	)
	var line []byte
	key := make([]byte, 1)
	for {
		if _, err := io.ReadFull(from, key); err != nil {
			return "", usagef("the terminal was closed")
		}
		switch key[0] {
		case '\r', '\n':
			return string(line), nil
		case ctrlC:
			return "", errInterrupted
		case ctrlD:
			if len(line) == 0 {
				return "", nil
			}
		case ctrlU:
			line = line[:0]
		case backspace, deleteKey:
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		default:
			if line = append(line, key[0]); len(line) > maxPassword {
				return "", usagef("the password has more than %d bytes", maxPassword)
			}
		}
	}
}
