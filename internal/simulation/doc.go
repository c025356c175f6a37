// Package simulation is a model of the public Matrix federation, seen from one
// homeserver that asks where other servers are. It runs in virtual time, so days
// of a hundred thousand servers take seconds, and says what a choice of lifetimes,
// back-off and refreshing costs and gains against others.
//
// A [Federation] is what is assumed of the world: how servers delegate, what their
// web servers say of lifetimes, how they fail and move, and who sends how much to
// whom. A [Policy] is a value too: what is remembered for how long. [Run] puts the one
// into the other and counts, in a [Tally].
//
// What has a meaning of its own is not modelled but called: [Ours] takes its
// lifetimes from [mxdiscover/wellknown.Lifetime] and
// [mxdiscover/wellknown.FailureLifetime]. What a cache makes of them is written down
// again in input.go, and held against the real [mxdiscover/cache.Cache] by a test;
// the constants of package resolver are held against this package's by a test there.
//
// Servers do not influence each other, so each is run alone with an event queue of
// its own, and a sample of servers is as good as all of them but for noise. Everything
// random about a server comes from the seed and the server's number. What the world does
// is drawn from other numbers than what a policy draws, so that two policies
// meet the same world, request by request.
package simulation
