// Package srv asks the DNS for SRV, A and AAAA records, and puts SRV records in the order in which
// their targets are to be tried.
//
// It owns two rules of the specification: what "an SRV record is found" means in the steps of S2S,
// "Resolving server names", and the order of RFC 2782. It keeps no answer; each one says in
// [Answer.TTL] how long its caller may.
//
// Three things that are easy to mix up are told apart here:
//
//   - There are records ([Found]), or there are none ([Absent]). Both are answers.
//   - The owner of the name says that there is no such service: a sole target "." ([Unavailable],
//     RFC 2782). That too is an answer, and not the same as none.
//   - Nobody knows: no server answered, or none could. That is an [*Error], and never quietly
//     becomes "there are none".
//
// Every name is asked as it stands, fully qualified: the search list of resolv.conf is for people
// who type names, and would let a stranger's zone answer for a server name. Addresses are looked for
// in the hosts file first, then in the DNS.
//
// What comes from the network is hostile. A reply counts only if its id, its question and its flags
// fit (RFC 5452, 9.1), a truncated one is never used (RFC 2181, 9), of a good one only the records
// that belong to the question are, and every number has a limit.
package srv
