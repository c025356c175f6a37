// Package interop proves that mxdiscover does what it is for among programs that were not written for it, with a
// real homeserver.
//
// For servers, [mxdiscover/resolver.Transport] is the transport of such programs:
//
//   - the federation client of gomatrixserverlib and that of mautrix-go send signed requests to
//     Dendrite, which is reached by delegation, by SRV records and as an IP address;
//   - two Dendrites federate with each other, one of them or both sending through a Transport:
//     users join rooms and write to each other, fetch files, and get what was written while their server
//     was down;
//   - on the wire, and to the program, everything is as with the transport of each library, but for redirects to
//     https, which are not for a Transport.
//
// For clients, the command itself runs:
//
//   - "mxdiscover portal" stands before two Dendrites, of which one is killed while people log in, with
//     "mxdiscover login" and with mautrix-go, whose token is then tried where the login sent them;
//   - "mxdiscover client" discovers a Dendrite by documents that nginx serves, in the ways in which people
//     configure it, good and bad: at any ports, and at 443 and 80 in a network namespace.
//
// For operators, "mxdiscover check" looks at a Dendrite by itself, behind nginx and behind Caddy, as the documentation
// of homeservers says and with the mistakes that people make; what it says is to be changed is then changed, in
// the configuration, in the document and in DNS, and it looks again. And its canonical JSON and signatures are
// compared with those of gomatrixserverlib.
//
// Run it in this folder:
//
//	go test ./...
//
// The first run builds Dendrite, which takes about three minutes; later ones take some seconds. The programs
// stay in Go's build cache, and the patched source in a folder mxdiscover-interop of the user's cache;
// nothing is written here. Linux is needed: elsewhere Go does not read SSL_CERT_FILE, by which Dendrite comes to trust the
// certificates of the tests, and there is no /proc. Where nginx or Caddy is not installed (Debian: nginx, caddy), its tests are
// skipped; neither needs root or a running service.
//
// # How the parts find each other
//
// A world (mxdiscover/internal/world) serves DNS and the well-known documents. The names in it lead to
// 127.0.0.1 and the ports where Dendrites listen, as A records, SRV records and documents say; a Transport is
// told of the world's DNS servers, of its authority, and that loopback may be dialled. Only
// the web servers of the world, which have addresses for documentation, are mapped by ConnectTo.
//
// Dendrite knows no setting for the transport of its federation client. So the tests copy its source out of
// the module cache, add one line to it, and build that. A Dendrite without this asks the DNS of the
// system, which knows no world: whoever it has to reach is named by address and port.
package interop
