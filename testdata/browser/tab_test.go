package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for anything: a check in a world takes a
// second or two, on a busy machine some more.
const patience = 40 * time.Second

// startBrowser starts Chromium for a test and those below it.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's own does not work for root, as in containers
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Run(ctx))
	return ctx
}

// A look is how a browser presents pages.
type look struct {
	width    int64 // 1100 if zero
	scheme   string
	media    string
	noScript bool
	still    bool // prefers-reduced-motion
}

// A tab is a page in a browser context of its own: nothing is remembered from another.
type tab struct {
	*testing.T
	ctx     context.Context
	context cdp.BrowserContextID
	site    *site

	mu       sync.Mutex
	troubles []string
	expected []*regexp.Regexp
	status   int64 // of the last document
}

func newTab(t *testing.T, browser context.Context, s *site, how look) *tab {
	t.Helper()
	b := &tab{T: t, site: s}
	// chromedp.WithNewBrowserContext asks for a tab without a window, which Chromium
	// refuses in a context that has none yet.
	root := cdp.WithExecutor(browser, chromedp.FromContext(browser).Browser)
	var err error
	b.context, err = target.CreateBrowserContext().Do(root)
	require.NoError(t, err)
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(b.context).WithNewWindow(true).Do(root)
	require.NoError(t, err)
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithTargetID(id))
	t.Cleanup(func() {
		cancel()
		target.DisposeBrowserContext(b.context).Do(root)
	})
	b.ctx = ctx
	chromedp.ListenTarget(ctx, b.watch)
	if how.width == 0 {
		how.width = 1100
	}
	if how.scheme == "" {
		how.scheme = "light"
	}
	motion := "no-preference"
	if how.still {
		motion = "reduce"
	}
	b.run(
		network.Enable(), runtime.Enable(), cdplog.Enable(), page.Enable(),
		chromedp.EmulateViewport(how.width, 900),
		emulation.SetFocusEmulationEnabled(true), // tests run beside each other: each tab is the one in use
		emulation.SetScriptExecutionDisabled(how.noScript),
		emulation.SetEmulatedMedia().WithMedia(how.media).WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: how.scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}),
	)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, trouble := range b.troubles {
			known := false
			for _, e := range b.expected {
				known = known || e.MatchString(trouble)
			}
			assert.True(t, known, "in the browser: %s", trouble)
		}
		if t.Failed() {
			b.picture("failed-" + regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"))
		}
	})
	return b
}

// watch notes what must not happen.
func (b *tab) watch(event any) {
	trouble := ""
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *page.EventJavascriptDialogOpening:
		trouble = "dialog: " + e.Message
		go chromedp.Run(b.ctx, page.HandleJavaScriptDialog(true))
	case *runtime.EventExceptionThrown:
		trouble = "exception: " + e.ExceptionDetails.Error()
	case *runtime.EventConsoleAPICalled:
		trouble = fmt.Sprintf("console.%s: %v", e.Type, e.Args)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
			trouble = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.site.url+"/") {
			trouble = "request to elsewhere: " + e.Request.URL
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			b.status = e.Response.Status
		}
	}
	if trouble != "" {
		b.troubles = append(b.troubles, trouble)
	}
}

// expect names a trouble that is wanted.
func (b *tab) expect(pattern string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, regexp.MustCompile(pattern))
}

func (b *tab) run(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if chromedp.FromContext(b.ctx).Target == nil {
		// The first run makes the tab, and ends it with its context.
		require.NoError(b, chromedp.Run(b.ctx))
	}
	require.NoError(b, chromedp.Run(ctx, actions...))
}

// open goes to a path and returns as soon as the first of the page is there.
func (b *tab) open(path string) {
	b.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, failed, _, err := page.Navigate(b.site.url + path).Do(ctx)
		if err == nil && failed != "" && !strings.Contains(failed, "HTTP_RESPONSE_CODE_FAILURE") {
			err = fmt.Errorf("%s: %s", path, failed)
		}
		return err
	}))
	b.wait(`document.readyState === "complete" || document.getElementById("running")`)
}

// check opens the page of a name and waits for its result.
func (b *tab) check(path string) {
	b.Helper()
	b.open(path)
	b.result()
}

// result waits for the result and the end of the page.
func (b *tab) result() {
	b.Helper()
	b.wait(`!!document.querySelector("#result .verdict") && document.readyState === "complete"`)
}

// js evaluates an expression.
func js[T any](b *tab, expression string, options ...chromedp.EvaluateOption) T {
	b.Helper()
	var value T
	b.run(chromedp.Evaluate(expression, &value, options...))
	return value
}

// awaited lets js wait for a promise.
func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// wait waits until an expression is true. Evaluating fails while one page makes
// place for another.
func (b *tab) wait(expression string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var last error
	for {
		var ok bool
		if err := chromedp.Run(ctx, chromedp.Evaluate("!!("+expression+")", &ok)); err == nil && ok {
			return
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			require.FailNow(b, "not in time: "+expression, "%v", last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// text is what an element says to those who see it.
func (b *tab) text(selector string) string {
	b.Helper()
	return strings.Join(strings.Fields(js[string](b, `document.querySelector(`+quoted(selector)+`)?.innerText ?? "(no `+strings.ReplaceAll(selector, `"`, `'`)+`)"`)), " ")
}

// shown says whether an element can be seen.
func (b *tab) shown(selector string) bool {
	b.Helper()
	return js[bool](b, `!!document.querySelector(`+quoted(selector)+`)?.checkVisibility()`)
}

func (b *tab) count(selector string) int {
	b.Helper()
	return js[int](b, `document.querySelectorAll(`+quoted(selector)+`).length`)
}

func (b *tab) key(keys ...string) {
	b.Helper()
	for _, k := range keys {
		b.run(chromedp.KeyEvent(k))
	}
}

func (b *tab) lastStatus() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// requireNarrow: nothing is wider than the window.
func (b *tab) requireNarrow() {
	b.Helper()
	wide := js[[]string](b, `(() => {
		const width = document.documentElement.clientWidth;
		if (document.scrollingElement.scrollWidth <= width) return [];
		return [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > width && !e.closest(".scroll, pre, .hidden"))
			.map((e) => e.tagName + "." + e.className + " " + Math.round(e.getBoundingClientRect().right));
	})()`)
	require.Empty(b, wide)
	require.LessOrEqual(b, js[float64](b, `document.scrollingElement.scrollWidth`), js[float64](b, `document.documentElement.clientWidth`))
}

// openDetails opens everything that is folded.
func (b *tab) openDetails() {
	b.Helper()
	js[bool](b, `document.querySelectorAll("details").forEach((e) => { e.open = true }), true`)
}

// picture writes what is seen into the folder of the test's artifacts, for
// whoever wants to look at it.
func (b *tab) picture(name string) {
	b.Helper()
	if *looks == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	var picture []byte
	if err := chromedp.Run(ctx, chromedp.FullScreenshot(&picture, 100)); err != nil {
		b.Logf("no picture: %v", err)
		return
	}
	assert.NoError(b, os.WriteFile(filepath.Join(*looks, name+".png"), picture, 0o644))
}
