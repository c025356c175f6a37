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

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		most int
		want string
	}{
		{"", 10, `""`},
		{"short", 10, `"short"`},
		{"12345678", 10, `"12345678"`},
		{"123456789", 10, `"12345"...`},
		{"a\nb", 10, `"a\nb"`},
		{"\n\n\n\n\n", 10, `"\n\n"...`},
		{"bücher und mehr", 8, `"bü"...`},
		{"büü", 6, `"b"...`},
		{"anything", 0, `""...`},
	} {
		assert.Equal(t, test.want, Quote(test.in, test.most), "%q", test.in)
	}
}
