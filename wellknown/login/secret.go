package login

import (
	"fmt"
	"io"
)

const hidden = "[secret]"

// A Secret is a text that is not printed by accident: fmt, log, log/slog and
// encoding/json all show "[secret]" in its place. The zero Secret is empty.
type Secret struct {
	// Behind a function, for printers that do without methods: fmt prints
	// unexported fields of a struct so, and others follow pointers.
	reveal func() string
}

// NewSecret hides text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Reveal gives the text.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether the text is empty.
func (s Secret) IsZero() bool { return s.reveal == nil }

// String gives "[secret]".
func (s Secret) String() string { return hidden }

// Format writes "[secret]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText gives "[secret]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
