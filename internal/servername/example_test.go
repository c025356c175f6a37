package servername_test

import (
	"fmt"

	"mxdiscover/internal/servername"
)

func ExampleParse() {
	n, err := servername.Parse("Matrix.Example.ORG:8448")
	if err != nil {
		fmt.Println(err)
		return
	}
	port, ok := n.Port()
	fmt.Println("for the Host header:", n)
	fmt.Println("for DNS and TLS:", n.DNSName())
	fmt.Println("port:", port, ok)

	_, err = servername.Parse("https://matrix.example.org")
	fmt.Println(err)
	// Output:
	// for the Host header: Matrix.Example.ORG:8448
	// for DNS and TLS: matrix.example.org
	// port: 8448 true
	// invalid server name "https://matrix.example.org": a server name is not a URL: leave out the scheme and the path
}

func ExampleName_Addr() {
	n, err := servername.Parse("[2001:DB8::1]:443")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(n.IsIP(), n.Addr())
	fmt.Println(n.Host(), n.DNSName())
	// Output:
	// true 2001:db8::1
	// [2001:DB8::1] 2001:db8::1
}
