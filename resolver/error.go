package resolver

import (
	"encoding/json"
	"fmt"

	"mxdiscover/internal/printable"
)

// A Code says why a name did not resolve. Codes are errors, so that
// errors.Is(err, resolver.SRVTemporary) asks for one.
type Code string

// The codes of an [Error].
const (
	// InvalidServerName: the name breaks the grammar. Nothing was asked.
	InvalidServerName Code = "invalid_server_name"

	// NotPermitted: Resolver.Permit refused the name. Nothing was asked.
	NotPermitted Code = "not_permitted"

	// WellKnownInvalid: a well-known answer with status 200 and a bad body
	// (under Draft2019; the current rules go on to SRV).
	WellKnownInvalid Code = "well_known_invalid"

	// SRVUnavailable: the SRV records say that there is no such service
	// (RFC 2782: target "."), or none of them can be used.
	SRVUnavailable Code = "srv_unavailable"

	// SRVTemporary: nobody could say whether there are SRV records.
	SRVTemporary Code = "srv_temporary"

	// NoAddress: no target has an A or AAAA record.
	NoAddress Code = "no_address"

	// AddressTemporary: nobody could say whether the targets have addresses.
	AddressTemporary Code = "address_temporary"

	// AddressDenied: the targets have addresses, none of which may be dialled.
	AddressDenied Code = "address_denied"

	// Timeout: the caller's deadline came first.
	Timeout Code = "timeout"

	// Canceled: the caller's context was cancelled.
	Canceled Code = "canceled"

	// NotKnown: Inspect asks nobody, and nothing fresh is at hand.
	NotKnown Code = "not_known"

	// Unreachable: no target could be connected to. It is found in a
	// *[ConnectError], with the codes of the targets.
	Unreachable Code = "unreachable"

	// ConnectFailed: the target refused the connection, or was not reached.
	ConnectFailed Code = "connect_failed"

	// TLSFailed: the TLS handshake with the target failed, or its certificate
	// does not prove the name.
	TLSFailed Code = "tls_failed"

	// InvalidRequest: a [Transport] was given a request without a server name,
	// or whose scheme is not matrix-federation or matrix.
	InvalidRequest Code = "invalid_request"

	// Internal: a fault of this module.
	Internal Code = "internal"
)

func (c Code) Error() string { return string(c) }

// Error is a name that could not be resolved: which, at which rule, what was
// asked and what came back. The Result beside it has the evidence.
type Error struct {
	Code       Code
	ServerName string // as asked
	Rule       string // where it ended; empty if it did not get to the rules
	Query      string // what was asked there; empty if nothing was
	Detail     string // what came back, in one line without control characters
	Err        error  // the cause, if there is one
}

func (e *Error) Error() string {
	name := printable.Line(e.ServerName)
	if e.Code == InvalidServerName {
		name = printable.Quote(e.ServerName, 80)
	}
	if e.Query != "" {
		return fmt.Sprintf("%s: %s: %s", name, e.Query, e.Detail)
	}
	return fmt.Sprintf("%s: %s", name, e.Detail)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same name may well resolve soon: nobody could
// say, or there was no time. What is not temporary was said by DNS, by the
// well-known host, or by the rules.
func (e *Error) Temporary() bool {
	switch e.Code {
	case SRVTemporary, AddressTemporary, Timeout, Canceled, NotKnown:
		return true
	}
	return false
}

// Timeout reports whether the caller's deadline came first, as
// [net/http.Client] and [net.Error] ask.
func (e *Error) Timeout() bool { return e.Code == Timeout }

// Is reports whether target is the error's Code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// MarshalJSON gives code, message and rule; the message begins with the query.
func (e *Error) MarshalJSON() ([]byte, error) {
	message := e.Detail
	if e.Query != "" {
		message = e.Query + ": " + e.Detail
	}
	return json.Marshal(struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Rule    string `json:"rule,omitempty"`
	}{e.Code, message, e.Rule})
}
