package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf16"

	"mxdiscover/check"
)

// errTooLarge: the JSON of an answer is larger than Limits.Report even without
// what can be left out.
var errTooLarge = errors.New("the answer is too large")

// newAnswer makes the JSON of a result, of at most most bytes.
func newAnswer(res result, most int) (*answer, error) {
	a := &answer{result: res, at: time.Now()}
	var (
		text []byte
		err  error
	)
	switch {
	case res.report != nil:
		text, err = reportJSON(res.report, most)
		a.tester = sync.OnceValues(func() ([]byte, error) { return testerJSON(res.report) })
		a.federation = sync.OnceValue(func() bool { return testerReport(res.report).FederationOK })
	case res.resolution != nil:
		text, err = json.Marshal(res.resolution)
	case res.discovery != nil:
		text, err = json.Marshal(res.discovery)
	default:
		err = errors.New("there is no answer")
	}
	if err != nil {
		return nil, err
	}
	text = escapeActing(text)
	if len(text) > most {
		return nil, errTooLarge
	}
	a.json = text
	a.cost = overhead + weight*int64(len(text))
	return a, nil
}

// escapeActing escapes the characters of JSON that act on the terminal or the
// editor in which somebody looks at it. They stand in strings alone.
func escapeActing(text []byte) []byte {
	if !bytes.ContainsFunc(text, acts) {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r == '\n' || !acts(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		}
	}
	return b.Bytes()
}

// reportJSON makes the JSON of a report. Certificates with many names are the
// one thing in it that strangers can make large: if they do, the names beyond
// the first few go, then the chains above each server's own certificate.
func reportJSON(r *check.Report, most int) ([]byte, error) {
	names := 0
	eachChain(r, func(chain *[]check.Certificate) {
		for _, c := range *chain {
			names += len(c.DNSNames) + len(c.IPAddresses)
		}
	})
	const (
		manyNames = 2000 // half a megabyte, if they are as long as names can be
		fewNames  = 10
	)
	if names > manyNames {
		cutNames(r, fewNames)
	}
	text, err := json.Marshal(r)
	if err != nil || len(text) <= most {
		return text, err
	}
	cutNames(r, fewNames)
	eachChain(r, func(chain *[]check.Certificate) { *chain = (*chain)[:min(1, len(*chain))] })
	return json.Marshal(r)
}

func eachChain(r *check.Report, do func(*[]check.Certificate)) {
	for i := range r.Targets {
		for j := range r.Targets[i].Addresses {
			if tls := r.Targets[i].Addresses[j].TLS; tls != nil {
				do(&tls.Certificates)
			}
		}
	}
}

func cutNames(r *check.Report, few int) {
	eachChain(r, func(chain *[]check.Certificate) {
		for i := range *chain {
			c := &(*chain)[i]
			c.DNSNames = c.DNSNames[:min(few, len(c.DNSNames))]
			c.IPAddresses = c.IPAddresses[:min(few, len(c.IPAddresses))]
		}
	})
}
