package serve

import (
	"net/http"
	"time"
)

// A Failure says why there is no answer. Under /api it is the value of the key
// "error". Its codes are bad_query, query_too_long, name_missing,
// name_too_long, rules_unknown, not_found, method_not_allowed, body_refused,
// rate_limited, busy, closing, answer_too_large and internal.
type Failure struct {
	Status     int    `json:"-"` // of HTTP
	Code       string `json:"code"`
	Message    string `json:"message"`                       // for people, without anything that a stranger sent
	RetryAfter int    `json:"retry_after_seconds,omitempty"` // 0 if asking again changes nothing

	limit string // which limit, for the metrics
}

// seconds rounds up: who comes back then is let in.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func tooMany(limit, message string, wait time.Duration) *Failure {
	return &Failure{http.StatusTooManyRequests, "rate_limited", message, max(1, seconds(wait)), limit}
}

func busy(message string, wait time.Duration) *Failure {
	return &Failure{http.StatusServiceUnavailable, "busy", message, max(1, seconds(wait)), "busy"}
}

func closing() *Failure {
	return &Failure{http.StatusServiceUnavailable, "closing", "The server is about to end.", 5, "closing"}
}

func internal() *Failure {
	return &Failure{http.StatusInternalServerError, "internal", "Something went wrong in this server.", 0, "internal"}
}

func wrong(status int, code, message string) *Failure {
	return &Failure{Status: status, Code: code, Message: message}
}

// reason is what the metrics call the failure: there are few of them.
func (f *Failure) reason() string {
	if f.limit != "" {
		return f.limit
	}
	return f.Code
}
