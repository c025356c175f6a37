package printable

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "",
		"plain text: 1, 2":             "plain text: 1, 2",
		"two\r\nlines":                 `"two\r\nlines"`,
		"\x1b[31mred":                  `"\x1b[31mred"`,
		"bücher":                       `"b\u00fccher"`,
		"\xff":                         `"\xff"`,
		"\x7f":                         `"\x7f"`,
		strings.Repeat("a", MaxLine+1): strings.Repeat("a", MaxLine) + "...",
	} {
		assert.Equal(t, want, Line(in), "%q", in)
	}
}
