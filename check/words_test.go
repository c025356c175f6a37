package check

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSpoken(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                              "less than a second",
		400 * time.Millisecond:         "less than a second",
		time.Second:                    "1 second",
		5 * time.Minute:                "5 minutes",
		70*time.Minute + time.Second:   "1 hour 10 minutes",
		time.Hour + 2*time.Second:      "1 hour 2 seconds",
		49 * time.Hour:                 "2 days 1 hour",
		59*time.Second + 600*1000*1000: "1 minute",
	} {
		assert.Equal(t, want, spoken(d), d)
	}
}

func TestInner(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "the certificate has expired.", inner("The certificate has expired."))
	assert.Equal(t, "Example.org has upper-case letters.", inner("Example.org has upper-case letters."), "a name stays as it is")
	assert.Equal(t, "Theodor.example is an alias.", inner("Theodor.example is an alias."))
	assert.Empty(t, inner(""))
}

// TestProxyFixesAreWhole: nginx takes a server with TLS with a certificate alone, and
// "http2 on" from 1.25.1 on, which is newer than what many run.
func TestProxyFixesAreWhole(t *testing.T) {
	t.Parallel()
	text := proxyFixes("matrix.example.org", 8448)[0].Text
	assert.Contains(t, text, "listen 8448 ssl;")
	assert.Contains(t, text, "    ssl_certificate /etc/letsencrypt/live/matrix.example.org/fullchain.pem;\n")
	assert.Contains(t, text, "    ssl_certificate_key /etc/letsencrypt/live/matrix.example.org/privkey.pem;\n")
	assert.NotContains(t, text, "http2")
	assert.Equal(t, strings.Count(text, "{"), strings.Count(text, "}"))
}

// TestEveryFindingSaysWhatToChange: one without lines to copy has the catalogue's cure.
func TestEveryFindingSaysWhatToChange(t *testing.T) {
	t.Parallel()
	report := goodReport()
	report.Targets[0].Addresses[0].HTTP[0].Version.Name = ""
	judge(report, evidence{})
	assert.NotEmpty(t, report.Findings)
	for _, f := range report.Findings {
		kind, ok := Explain(f.Code)
		assert.True(t, ok, f.Code)
		assert.NotEmpty(t, f.Evidence, f.Code)
		if assert.NotEmpty(t, f.Fixes, f.Code) && f.Fixes[0].Text == "" && f.Severity == SeverityNotice {
			assert.Equal(t, kind.Cure, f.Fixes[0].Title)
		}
	}
}
