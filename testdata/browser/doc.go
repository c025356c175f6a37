// Package browser tries the page of mxdiscover serve in a real browser: headless
// Chromium, driven by chromedp, against the real program in a test world
// ("mxdiscover --world FILE serve").
//
// It is a module of its own, so that nobody else needs chromedp. Run it in this
// folder:
//
//	npm ci
//	go test ./...
//
// Debian's package chromium is enough; without a Chromium the tests are
// skipped. npm brings axe-core, which judges accessibility; without it that part is
// skipped, and the tests' own checks remain. Every page that a test opens is watched:
// a dialog, an error of the script, something that the policy of the page refuses, or a request to
// elsewhere fails the test.
//
// The pictures of the page in docs are made by the tests too:
//
//	go test -run TestPage/pictures -pictures ../../docs
package browser
