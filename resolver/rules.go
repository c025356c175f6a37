package resolver

import "fmt"

// Rules selects the text whose rules are followed.
type Rules uint8

const (
	// Current is the newest specification (v1.8 to v1.19, Server-Server API,
	// "Resolving server names"): what the servers of the federation do.
	Current Rules = iota

	// Draft2019 is the draft of January 2019 that was corrected before its
	// release. It differs in three places: the Host header of an IP literal
	// has no port, a well-known answer with status 200 and a bad body ends
	// everything, and only _matrix._tcp is asked for. It is here for those who
	// must show what a server of that day would have done.
	Draft2019
)

func (r Rules) String() string {
	switch r {
	case Current:
		return "current"
	case Draft2019:
		return "draft-2019"
	}
	return fmt.Sprintf("Rules(%d)", uint8(r))
}

// MarshalText gives the name that UnmarshalText takes.
func (r Rules) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes "current" or "draft-2019".
func (r *Rules) UnmarshalText(text []byte) error {
	for _, known := range []Rules{Current, Draft2019} {
		if known.String() == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("unknown rules %q: current or draft-2019", text)
}
