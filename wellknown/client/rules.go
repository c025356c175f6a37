package client

import "fmt"

// Rules selects the text whose rules are followed.
type Rules uint8

const (
	// Current is the newest specification (v1.19).
	Current Rules = iota

	// Draft2018 is Client-Server API r0.4.0 of August 2018. It differs in two
	// places: the identity server is asked at [DraftIdentityPath], and if it is no
	// good, discovery as a whole is FAIL_ERROR.
	Draft2018
)

func (r Rules) String() string {
	switch r {
	case Current:
		return "current"
	case Draft2018:
		return "draft-2018"
	}
	return fmt.Sprintf("Rules(%d)", uint8(r))
}

// MarshalText gives the name that UnmarshalText takes.
func (r Rules) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes "current" or "draft-2018".
func (r *Rules) UnmarshalText(text []byte) error {
	for _, known := range []Rules{Current, Draft2018} {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("unknown rules %q: current or draft-2018", text)
}
