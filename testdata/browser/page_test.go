package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"image/png"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	pictures = flag.String("pictures", "", "write the pictures for the documentation into this folder")
	looks    = flag.String("looks", "", "write what tests saw, and what failed ones saw, into this folder")
)

// The steps of a check that runs, and its result.
const (
	steps  = `document.querySelectorAll("#running .rows > li").length`
	result = `document.getElementById("result")`
)

func TestPage(t *testing.T) {
	browser := startBrowser(t)
	program := build(t)
	// One client address asks for everything; nothing else is changed.
	unlimited := []string{"--per-client", "none", "--per-host", "none"}
	world := serve(t, program, tour, unlimited...)
	late := serve(t, program, slow, unlimited...)
	unkept := serve(t, program, slow, append(unlimited, "--keep", "1ms")...) // each page of it is one of a check that runs
	// The group ends when all below it have, so that the servers do not end before.
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, context.Context){
			"start":      func(t *testing.T, b context.Context) { testStart(newTab(t, b, world, look{})) },
			"good":       func(t *testing.T, b context.Context) { testGood(newTab(t, b, world, look{})) },
			"bad":        func(t *testing.T, b context.Context) { testBad(newTab(t, b, world, look{})) },
			"streaming":  func(t *testing.T, b context.Context) { testStreaming(newTab(t, b, late, look{still: true})) },
			"no script":  func(t *testing.T, b context.Context) { testNoScript(newTab(t, b, late, look{noScript: true})) },
			"permanent":  func(t *testing.T, b context.Context) { testPermanent(t, b, world) },
			"draft":      func(t *testing.T, b context.Context) { testDraft(newTab(t, b, world, look{})) },
			"phone":      func(t *testing.T, b context.Context) { testPhone(t, b, world, late, unkept) },
			"schemes":    func(t *testing.T, b context.Context) { testSchemes(t, b, world) },
			"attacks":    func(t *testing.T, b context.Context) { testAttacks(t, b, late) },
			"keyboard":   func(t *testing.T, b context.Context) { testKeyboard(newTab(t, b, world, look{})) },
			"copy":       func(t *testing.T, b context.Context) { testCopy(newTab(t, b, world, look{})) },
			"too many":   func(t *testing.T, b context.Context) { testTooMany(t, b, program) },
			"offline":    func(t *testing.T, b context.Context) { testOffline(newTab(t, b, world, look{})) },
			"lost":       func(t *testing.T, b context.Context) { testLost(t, b, program) },
			"print":      func(t *testing.T, b context.Context) { testPrint(newTab(t, b, world, look{media: "print"})) },
			"accessible": func(t *testing.T, b context.Context) { testAccessible(t, b, world, unkept) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, browser)
			})
		}
	})
	t.Run("pictures", func(t *testing.T) { testPictures(t, browser, world, late) })
	world.requireQuiet(t)
	late.requireQuiet(t)
}

// The empty page says what it does, and asks.
func testStart(b *tab) {
	b.open("/")
	assert.Equal(b, "Where does a Matrix name lead? – mxdiscover", js[string](b, `document.title`))
	assert.Equal(b, "Where does a Matrix name lead?", b.text("h1"))
	assert.Equal(b, 6, b.count(".about .way > li"))
	assert.Equal(b, "name", js[string](b, `document.activeElement.id`))
	assert.False(b, b.shown("#offline"))
	for _, link := range js[[]string](b, `[...document.querySelectorAll(".examples a")].map((a) => new URL(a.href).search)`) {
		assert.Regexp(b, `^\?name=matrix\.org|^\?name=mozilla\.org`, link)
	}
	// Nothing is sent that is not asked for.
	b.key(kb.Enter)
	assert.Equal(b, "/", js[string](b, `location.pathname + location.search`))
}

// A name is typed, its way is drawn, and it is good.
func testGood(b *tab) {
	b.open("/")
	b.key(" delegated.example ", kb.Enter)
	b.result()
	assert.Equal(b, "?name=delegated.example&rules=current", js[string](b, `location.search`))
	assert.Equal(b, "GOOD: delegated.example – mxdiscover", js[string](b, `document.title`))
	assert.Equal(b, "GOOD delegated.example", b.text("#result h1"))
	assert.Equal(b, "Other servers reach delegated.example at matrix.delegated.example:443, over IPv4 and IPv6.", b.text("#result .summary"))
	assert.Regexp(b, `^Checked (just now|\d+ seconds? ago), took `, b.text("#result .meta li"))
	assert.False(b, b.shown("#running"))
	want := [][2]string{{"name", "good"}, {"well-known", "good"}, {"srv", "off"}, {"addresses", "good"}, {"tls", "good"}, {"matrix", "good"}}
	assert.Equal(b, want, js[[][2]string](b, `[...document.querySelectorAll("#result .way > li")].map((li) => [li.dataset.stage, li.className])`))
	assert.Equal(b, "It delegates to matrix.delegated.example:443.", b.text("#result #way-well-known .text, #result [data-stage=well-known] .text"))
	for _, address := range []string{"203.0.113.12:443", "[2001:db8::12]:443"} {
		for _, id := range []string{"addresses", "tls", "matrix"} {
			assert.Contains(b, b.text("#result [data-stage="+id+"] .rows"), address)
		}
	}
	assert.Contains(b, b.text("#result [data-stage=matrix] .rows"), "over HTTP/2 and HTTP/1.1")
	assert.Equal(b, 0, b.count(".finding.bad, .finding.warn"))
	// Clients beside servers.
	assert.Contains(b, b.text(".clients"), "Clients find the homeserver by themselves.")
	assert.Contains(b, b.text(".clients"), "Homeserver https://matrix.delegated.example")
	left, right := js[float64](b, `document.querySelector(".servers").getBoundingClientRect().right`), js[float64](b, `document.querySelector(".clients").getBoundingClientRect().left`)
	assert.Less(b, left, right)
	// Everything that was found out is behind a fold or a link.
	assert.False(b, b.shown(".rules table"))
	b.run(chromedp.Click(".rules summary", chromedp.ByQuery))
	assert.True(b, b.shown(".rules table"))
	assert.Contains(b, b.text(".rules table"), "3.2")
	json := js[string](b, `fetch(document.querySelector("#result .meta a[href*='api/v1/check']").href).then((r) => r.text())`, awaited)
	assert.Contains(b, json, `"verdict":"GOOD"`)
}

// A name that nobody reaches: the cause first, with its cure.
func testBad(b *tab) {
	b.check("/?name=closed.example")
	assert.Equal(b, "BAD closed.example", b.text("#result h1"))
	assert.Equal(b, "BAD: closed.example – mxdiscover", js[string](b, `document.title`))
	first := b.text(".finding")
	assert.Contains(b, first, `_matrix-fed._tcp.closed.example has the target "."`)
	assert.Contains(b, first, "_matrix-fed._tcp.closed.example. 3600 IN SRV 10 5 8448")
	assert.Contains(b, first, "SRV _matrix-fed._tcp.closed.example: 0 0 0 .") // the evidence of an error is open
	assert.Contains(b, first, "srv_unavailable")
	assert.Regexp(b, `^https://(spec\.matrix\.org|www\.rfc-editor\.org)/`, js[string](b, `document.querySelector(".finding .source a").href`))
	assert.Equal(b, "bad", js[string](b, `document.querySelector("#result [data-stage=srv]").className`))
	// The way leads to the finding.
	b.run(chromedp.Click("#result [data-stage=srv] .found a", chromedp.ByQuery))
	assert.Equal(b, "#finding-1", js[string](b, `location.hash`))
	assert.NotEqual(b, "none", js[string](b, `getComputedStyle(document.getElementById("finding-1")).outlineStyle`))
	// A name that breaks the rules is a result too.
	b.check("/?name=" + url.QueryEscape("https://matrix.example/"))
	assert.Equal(b, "BAD https://matrix.example/", b.text("#result h1"))
}

// The steps are there before the result is, drawn from the stream.
func testStreaming(b *tab) {
	b.open("/?name=slow.example")
	b.wait(steps + ` > 0 || ` + result)
	require.True(b, js[bool](b, steps+` > 0 && !`+result), "steps come before the result")
	assert.Equal(b, "loading", js[string](b, `document.readyState`))
	assert.Equal(b, "Checking slow.example", b.text("#running h1"))
	b.wait(`document.querySelector("#running [data-stage=well-known].good") || ` + result)
	require.False(b, js[bool](b, `!!`+result))
	assert.Contains(b, b.text("#running [data-stage=well-known]"), "matrix.slow.example:443")
	assert.NotEmpty(b, b.text("#status"))
	assert.Equal(b, "none", js[string](b, `getComputedStyle(document.querySelector("#running .now .icon circle")).animationName`)) // reduced motion
	b.result()
	assert.Equal(b, "GOOD slow.example", b.text("#result h1"))
	assert.False(b, b.shown("#running"))
	assert.Equal(b, "GOOD: slow.example – mxdiscover", js[string](b, `document.title`))
	assert.Regexp(b, `^GOOD\. Other servers reach slow\.example`, js[string](b, `document.getElementById("status").textContent`)) // read out
	b.picture("streamed")
}

// Without script the same page shows the same result, and that it is coming.
func testNoScript(b *tab) {
	b.open("/")
	b.run(chromedp.SendKeys("#name", "late.example"+kb.Enter, chromedp.ByQuery))
	b.wait(`document.querySelector("#running")?.checkVisibility() && !` + result)
	assert.Equal(b, "Checking late.example", b.text("#running h1"))
	b.result()
	assert.False(b, b.shown("#running"))
	assert.Equal(b, "GOOD late.example", b.text("#result h1"))
	assert.Equal(b, 6, b.count("#result .way > li"))
	assert.Contains(b, b.text(".clients"), "Nothing is published for clients")
	assert.Equal(b, 0, b.count("#result button"), "buttons that would do nothing")
	// Again, by a link, from what is kept.
	b.run(chromedp.Click("#permanent", chromedp.ByQuery))
	b.wait(`location.search === "?name=late.example"`)
	b.result()
	assert.Equal(b, 0, b.count("#running"))
	assert.Equal(b, "GOOD: late.example – mxdiscover", js[string](b, `document.title`))
}

func testPermanent(t *testing.T, browser context.Context, s *site) {
	b := newTab(t, browser, s, look{})
	b.check("/?name=srv.example&rules=current&refresh=1")
	// A reload does not ask anew.
	assert.Equal(t, "?name=srv.example", js[string](b, `location.search`))
	link := js[string](b, `document.getElementById("permanent").href`)
	assert.Equal(t, s.url+"/?name=srv.example", link)
	another := newTab(t, browser, s, look{})
	another.check(strings.TrimPrefix(link, s.url))
	assert.Equal(t, b.text("#result .summary"), another.text("#result .summary"))
	assert.Equal(t, "srv.example", js[string](another, `document.getElementById("name").value`))
	checked := js[string](another, `document.querySelector("#result time").dateTime`)
	assert.Equal(t, js[string](b, `document.querySelector("#result time").dateTime`), checked, "the same report")
	// One can ask anew.
	js[bool](another, `window.old = true`)
	another.run(chromedp.Click(`#result .meta a[href*="refresh=1"]`, chromedp.ByQuery))
	another.wait(`!window.old && document.querySelector("#result time") && document.readyState === "complete" && location.search === "?name=srv.example"`)
	assert.Equal(t, "GOOD srv.example", another.text("#result h1"))
}

// The other rules give another way, and both have their links.
func testDraft(b *tab) {
	b.check("/?name=url.example")
	assert.Equal(b, "WARN url.example", b.text("#result h1"))
	b.run(chromedp.Click(`#result .meta a[href*="draft-2019"]`, chromedp.ByQuery))
	b.wait(`location.search === "?name=url.example&rules=draft-2019"`)
	b.result()
	assert.Equal(b, "BAD url.example", b.text("#result h1"), "a bad document ends everything")
	assert.True(b, js[bool](b, `document.querySelector("input[value='draft-2019']").checked`))
	assert.Equal(b, "By today’s rules", b.text(`#result .meta li:nth-last-child(2)`))
}

func testPhone(t *testing.T, browser context.Context, world, late, unkept *site) {
	for _, width := range []int64{320, 360} {
		b := newTab(t, browser, world, look{width: width})
		for _, path := range []string{"/", "/?name=delegated.example", "/?name=srv.example", "/?name=page.example", "/?name=closed.example", "/?name=" + strings.Repeat("a", 63) + ".example", "/?name=" + strings.Repeat("a", 200)} {
			b.open(path)
			if path != "/" {
				b.result()
			}
			b.openDetails()
			b.requireNarrow()
		}
		// What a finger has to hit is large enough (WCAG 2.2, 2.5.8: 24 pixels).
		small := js[[]string](b, `[...document.querySelectorAll("button, summary, input, .meta a, header a")].filter((e) => e.checkVisibility())
			.filter((e) => e.getBoundingClientRect().height < 24 && e.type !== "radio").map((e) => e.outerHTML)`)
		assert.Empty(t, small)
		b = newTab(t, browser, unkept, look{width: width})
		b.open("/?name=stuck.example")
		b.wait(steps + ` > 0`)
		b.requireNarrow()
		b = newTab(t, browser, late, look{width: width})
		b.open("/?name=hostile.example")
		b.result()
		b.openDetails()
		b.requireNarrow()
	}
}

func testSchemes(t *testing.T, browser context.Context, s *site) {
	ground := func(scheme string) (light int) {
		b := newTab(t, browser, s, look{scheme: scheme})
		b.check("/?name=closed.example")
		var rgb [3]int
		require.NoError(t, json.Unmarshal([]byte(js[string](b, `JSON.stringify(getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).slice(0, 3).map(Number))`)), &rgb))
		b.picture("scheme-" + scheme)
		return rgb[0] + rgb[1] + rgb[2]
	}
	assert.Greater(t, ground("light"), 600)
	assert.Less(t, ground("dark"), 150)
}

// Whoever is asked about, and whoever asks, can say what they like: it stays text.
func testAttacks(t *testing.T, browser context.Context, s *site) {
	plain := newTab(t, browser, s, look{})
	plain.check("/?name=patient.example")
	// What a page has that no text may add to.
	foreign := func(b *tab) []string {
		return js[[]string](b, `[...document.querySelectorAll("*")].flatMap((e) => {
			const bad = [];
			if (!["HTML","HEAD","META","TITLE","LINK","SCRIPT","BODY","A","HEADER","IMG","NAV","MAIN","DIV","H1","H2","H3","P","FORM","LABEL","INPUT","BUTTON","FIELDSET","LEGEND","SECTION","SPAN","BDI","OL","UL","LI","CODE","DETAILS","SUMMARY","DL","DT","DD","TABLE","THEAD","TBODY","TR","TH","TD","TIME","ARTICLE","PRE","FOOTER","svg","circle","path"].includes(e.tagName)) bad.push(e.tagName);
			for (const a of e.attributes) if (/^on|^style$|^srcdoc$/.test(a.name)) bad.push(e.tagName + " " + a.name);
			if (e.tagName === "SCRIPT" && !e.src.includes("/static/app.js?")) bad.push(e.outerHTML);
			if (e.tagName === "IMG" && !e.src.includes("/static/icon.svg?")) bad.push(e.outerHTML);
			if (e.tagName === "A" && !["http:", "https:"].includes(e.protocol)) bad.push(e.outerHTML);
			return bad;
		}).concat(document.scripts.length === 1 && document.images.length === 1 ? [] : ["scripts or images"])`)
	}
	require.Empty(t, foreign(plain))
	for _, attack := range []string{
		`<script>alert(1)</script>`,
		`"><img src=x onerror=alert(1)>`,
		`' onfocus='alert(1)' autofocus='`,
		`javascript:alert(1)`,
		`</title></textarea></style><svg/onload=alert(1)>`,
		`{{.Name}}${alert(1)}`,
		"a\u202etxt.example", "a\x00b.example", "a\r\nSet-Cookie: a=b",
	} {
		b := newTab(t, browser, s, look{})
		b.check("/?name=" + url.QueryEscape(attack) + "&rules=" + "current")
		assert.Empty(t, foreign(b), "%q", attack)
		assert.Contains(t, b.text("#result h1"), "BAD", "%q", attack)
		shown := regexp.MustCompile(`[\x00-\x1f\x{202e}]`).ReplaceAllString(attack, "\ufffd")
		assert.Equal(t, strings.Join(strings.Fields(shown), " "), b.text("#result h1 .name"), "it is shown as it is")
		// And typed.
		b.open("/")
		b.run(chromedp.Evaluate(`document.getElementById("name").value = `+quoted(attack)+`; document.getElementById("ask").requestSubmit()`, nil))
		b.result()
		assert.Empty(t, foreign(b), "typed: %q", attack)
		// As rules.
		b.expect(`the server responded with a status of 400`)
		b.open("/?name=patient.example&rules=" + url.QueryEscape(attack))
		b.result()
		assert.Equal(t, int64(400), b.lastStatus())
		assert.Empty(t, foreign(b), "rules: %q", attack)
	}
	// A server that attacks whoever looks at it: first in the stream, then in the result.
	for _, name := range []string{"hostile.example", "value.example"} {
		b := newTab(t, browser, s, look{})
		b.open("/?name=" + name)
		b.wait(`document.getElementById("running") || ` + result)
		b.result()
		b.openDetails()
		assert.Empty(t, foreign(b), name)
		assert.NotEmpty(t, js[string](b, `document.querySelector("#result").innerText.match(/<script>alert\('/)?.[0] ?? ""`), "%s: it is shown", name)
		assert.NotRegexp(t, `[\x00-\x08\x{202e}]`, js[string](b, `document.body.innerText`))
	}
	b := newTab(t, browser, s, look{})
	b.check("/?name=hostile.example")
	b.openDetails()
	whole := js[string](b, `document.querySelector("#result").innerText`)
	for _, said := range []string{"alert('location')", "onerror=alert('server", "onerror=alert('name", "alert('version')"} {
		assert.Contains(t, whole, said)
	}
	// The same report, as the stream tells it.
	b.open("/?name=hostile.example&refresh=1")
	b.wait(steps + ` > 0 || ` + result)
	assert.Empty(t, foreign(b))
	b.result()
	assert.Empty(t, foreign(b))
}

// Everything can be done with the keys, and one sees where one is.
func testKeyboard(b *tab) {
	focus := func() string {
		return js[string](b, `(() => { const e = document.activeElement; return e.id || e.className || e.tagName + " " + e.textContent.trim(); })()`)
	}
	seen := func() {
		b.Helper()
		style := js[string](b, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + " " + s.outlineWidth; })()`)
		assert.Regexp(b, `^(solid|auto) [1-9]`, style, "where the focus is: %s", focus())
	}
	b.open("/?name=")
	assert.Equal(b, "name", focus())
	b.key("closed.example", kb.Tab, kb.Tab) // the button, then the rules
	assert.Equal(b, "current", js[string](b, `document.activeElement.value`))
	b.key(kb.ArrowRight)
	assert.True(b, js[bool](b, `document.querySelector("input[value='draft-2019']").checked`))
	b.key(kb.ArrowLeft, kb.Enter)
	b.result()
	assert.Equal(b, "?name=closed.example&rules=current", js[string](b, `location.search`))

	b.key(kb.Tab)
	assert.Equal(b, "skip", focus())
	seen()
	assert.True(b, js[bool](b, `document.querySelector(".skip").getBoundingClientRect().top >= 0`))
	b.key(kb.Enter)
	assert.Equal(b, "main", focus())

	// From there on every control, once, in the order of the page.
	want := js[int](b, `[...document.querySelectorAll("main a, main button, main input[type=text], main input:checked, main summary, main pre, main [role=region][tabindex], footer a")]
		.filter((e, i, all) => e.checkVisibility() && all.indexOf(e) === i).length`)
	js[bool](b, `window.visited = [], true`)
	opened := false
	for range want {
		b.key(kb.Tab)
		seen()
		js[bool](b, `visited.push(document.activeElement), true`)
		if js[bool](b, `document.activeElement.matches(".finding details:not([open]) summary")`) && !opened {
			opened = true
			b.key(kb.Enter)
			assert.True(b, js[bool](b, `document.activeElement.parentElement.open`))
		}
	}
	assert.True(b, opened)
	assert.Equal(b, want, js[int](b, `new Set(visited).size`))
	assert.True(b, js[bool](b, `visited.every((e, i) => i === 0 || visited[i - 1].compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING)`))
	assert.True(b, js[bool](b, `visited.every((e) => document.getElementById("main").contains(e))`))
}

func testCopy(b *tab) {
	origin := b.site.url
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		c := chromedp.FromContext(ctx)
		for _, name := range []string{"clipboard-read", "clipboard-write"} {
			grant := browser.SetPermission(&browser.PermissionDescriptor{Name: name}, browser.PermissionSettingGranted).
				WithOrigin(origin).WithBrowserContextID(b.context)
			err := grant.Do(cdp.WithExecutor(ctx, c.Browser))
			if err != nil {
				return err
			}
		}
		return nil
	}))
	b.check("/?name=page.example")
	assert.Equal(b, b.count(".fix pre"), b.count(".fix button"))
	require.Equal(b, 3, b.count(".fix button"))
	clipboard := func() string { return js[string](b, `navigator.clipboard.readText()`, awaited) }
	// What the buttons say lasts two seconds; all of it is kept.
	js[bool](b, `window.said = [], new MutationObserver((list) => list.forEach((m) => said.push(m.target.textContent))).observe(document.getElementById("result"), { subtree: true, childList: true }), true`)
	says := func(text string) {
		b.Helper()
		b.wait(`(() => { const i = said.indexOf(` + quoted(text) + `); said.splice(0, i + 1); return i >= 0; })()`)
	}
	b.run(chromedp.Click(".fix:has(pre) button", chromedp.ByQuery))
	says("Copied")
	assert.Equal(b, `{"m.server": "page.example:8448"}`, strings.TrimSpace(clipboard()))
	assert.Equal(b, "Copied.", js[string](b, `document.getElementById("status").textContent`))
	says("Copy")
	// By keyboard, and of several lines.
	b.run(chromedp.Focus(".fix:nth-of-type(2) button", chromedp.ByQuery))
	b.key(kb.Enter)
	says("Copied")
	lines := js[string](b, `document.querySelector(".fix:nth-of-type(2) pre").textContent`)
	assert.Contains(b, lines, "\n")
	assert.Equal(b, lines, clipboard())
	// The link.
	b.run(chromedp.Click("button.link", chromedp.ByQuery))
	says("Copied")
	assert.Equal(b, origin+"/?name=page.example", clipboard())
}

// Whoever asks too much is told so, and when to come back.
func testTooMany(t *testing.T, browser context.Context, program string) {
	b := newTab(t, browser, serve(t, program, tour, "--per-client", "2/40s"), look{})
	b.expect(`the server responded with a status of 429`)
	for _, name := range []string{"delegated.example", "srv.example", "plain.example"} {
		b.check("/?name=" + name)
		if b.lastStatus() == 429 {
			break
		}
		assert.Equal(t, "GOOD "+name, b.text("#result h1"))
	}
	require.Equal(t, int64(429), b.lastStatus())
	assert.Equal(t, "Too many questions", b.text("#result h1"))
	assert.Regexp(t, `Try again in \d+ seconds?\.`, b.text("#result .summary"))
	name := js[string](b, `document.getElementById("name").value`)
	assert.Equal(t, "/?name="+name, js[string](b, `document.querySelector("#result .meta a").pathname + document.querySelector("#result .meta a").search`))
	assert.Regexp(t, `^No answer: `, js[string](b, `document.title`))
	b.picture("too-many")
	// What is known already is shown nevertheless.
	b.check("/?name=delegated.example")
	assert.Equal(t, "GOOD delegated.example", b.text("#result h1"))
}

func testOffline(b *tab) {
	b.open("/")
	offline := func(is bool) {
		b.run(chromedp.ActionFunc(func(ctx context.Context) error {
			return network.EmulateNetworkConditions(is, 0, -1, -1).Do(ctx)
		}))
		b.wait(`navigator.onLine === ` + map[bool]string{true: "false", false: "true"}[is])
	}
	offline(true)
	b.key("delegated.example", kb.Enter)
	b.wait(`document.getElementById("offline").checkVisibility()`)
	assert.Equal(b, "/", js[string](b, `location.pathname + location.search`))
	assert.Equal(b, "delegated.example", js[string](b, `document.getElementById("name").value`))
	offline(false)
	b.wait(`!document.getElementById("offline").checkVisibility()`)
	b.key(kb.Enter)
	b.result()
	assert.Equal(b, "GOOD delegated.example", b.text("#result h1"))
}

// A program that dies does not leave a page that waits for ever.
func testLost(t *testing.T, browser context.Context, program string) {
	s := serve(t, program, slow)
	b := newTab(t, browser, s, look{})
	b.expect(`ERR_|Failed to load`)
	b.open("/?name=stuck.example")
	b.wait(steps + ` > 0`)
	s.kill()
	b.wait(`document.getElementById("lost").checkVisibility()`)
	assert.Equal(t, "The connection was lost before the result came. Try again", b.text("#lost"))
	assert.False(t, b.shown("#running-text"))
	assert.Equal(t, 0, b.count(".now"))
}

func testPrint(b *tab) {
	b.check("/?name=page.example")
	for _, selector := range []string{"#ask", ".fix button", "nav", "#result .meta a"} {
		assert.False(b, b.shown(selector), selector)
	}
	for _, selector := range []string{"#result h1", ".finding pre", "#result .way"} {
		assert.True(b, b.shown(selector), selector)
	}
	// What is folded is printed.
	assert.Greater(b, js[float64](b, `document.querySelector(".rules table").getBoundingClientRect().height`), 100.0)
	var pdf []byte
	b.run(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		pdf, _, err = page.PrintToPDF().Do(ctx)
		return err
	}))
	assert.True(b, bytes.HasPrefix(pdf, []byte("%PDF")))
}

// axe-core finds nothing, in any state and scheme. It knows the rules of WCAG 2.2
// A and AA, contrast among them.
func testAccessible(t *testing.T, browser context.Context, world, unkept *site) {
	for _, scheme := range []string{"light", "dark"} {
		for _, test := range []struct {
			name, path string
			site       *site
		}{
			{"start", "/", world}, {"good", "/?name=delegated.example", world}, {"warn", "/?name=page.example", world},
			{"bad", "/?name=closed.example", world}, {"invalid", "/?name=-", world}, {"bad request", "/?name=a&rules=b", world},
			{"running", "/?name=stuck.example", unkept},
		} {
			t.Run(scheme+" "+test.name, func(t *testing.T) {
				b := newTab(t, browser, test.site, look{scheme: scheme, still: true})
				b.expect(`the server responded with a status of 400`)
				b.open(test.path)
				switch test.name {
				case "start":
				case "running":
					b.wait(steps + ` > 0`)
				default:
					b.result()
				}
				b.openDetails()
				requireOrdered(b)
				axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
				if err != nil {
					t.Skip("there is no axe-core: npm ci")
				}
				b.run(chromedp.Evaluate(string(axe)+"; true", nil))
				violations := js[[]string](b, `axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
					.then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.failureSummary + " " + n.html)))`, awaited)
				assert.Empty(t, violations)
				assert.Greater(t, js[int](b, `axe.getRules().length`), 50)
			})
		}
	}
}

// requireOrdered is what can be said without axe-core.
func requireOrdered(b *tab) {
	b.Helper()
	assert.Empty(b, js[[]string](b, `(() => {
		const bad = [];
		const seen = (e) => e.checkVisibility();
		if (document.documentElement.lang !== "en") bad.push("no language");
		for (const tag of ["header", "main", "footer", "h1"]) {
			if (tag === "footer" && document.readyState === "loading") continue;
			if ([...document.querySelectorAll(tag)].filter(seen).length !== 1) bad.push("not one " + tag);
		}
		for (const e of document.querySelectorAll("input, button, a, summary")) {
			if (seen(e) && !(e.labels?.length || e.textContent.trim() || e.ariaLabel)) bad.push("no name: " + e.outerHTML);
		}
		let level = 0;
		for (const h of [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen)) {
			if (+h.tagName[1] > level + 1) bad.push("a level is left out before " + h.textContent);
			level = +h.tagName[1];
		}
		const ids = [...document.querySelectorAll("[id]")].filter(seen).map((e) => e.id);
		if (new Set(ids).size !== ids.length) bad.push("an id stands twice: " + ids);
		return bad;
	})()`))
}

// testPictures makes the pictures for the documentation: they show the top of the page.
func testPictures(t *testing.T, browser context.Context, world, late *site) {
	const width, height, most = 1000, 1060, 200_000
	for _, test := range []struct {
		name, path, scheme string
		site               *site
	}{
		{"screenshot-good", "/?name=delegated.example", "light", world},
		{"screenshot-bad", "/?name=broken.example", "dark", late},
	} {
		b := newTab(t, browser, test.site, look{width: width, scheme: test.scheme, still: true})
		b.check(test.path)
		b.run(emulation.SetDeviceMetricsOverride(width, height, 1, false))
		var picture []byte
		b.run(chromedp.CaptureScreenshot(&picture))
		shot, err := png.DecodeConfig(bytes.NewReader(picture))
		require.NoError(t, err)
		assert.Equal(t, [2]int{width, height}, [2]int{shot.Width, shot.Height})
		assert.Less(t, len(picture), most)
		if *pictures != "" {
			require.NoError(t, os.WriteFile(*pictures+"/"+test.name+".png", picture, 0o644))
		}
		// Those in the documentation are of this page.
		kept, err := os.ReadFile("../../docs/" + test.name + ".png")
		require.NoError(t, err)
		assert.Less(t, len(kept), most)
		old, err := png.DecodeConfig(bytes.NewReader(kept))
		require.NoError(t, err)
		assert.Equal(t, shot, old)
	}
}
