package memnet_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"mxdiscover/internal/memnet"
)

func Example() {
	n := &memnet.Network{Latency: 10 * time.Millisecond}
	l, err := n.Listen("203.0.113.1:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.WriteString(c, "hello from "+c.LocalAddr().String())
			c.Close()
		}
	}()
	c, err := n.DialContext(context.Background(), "tcp", "203.0.113.1:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	text, _ := io.ReadAll(c)
	fmt.Printf("%s\n", text)
	_, err = n.DialContext(context.Background(), "tcp", "203.0.113.1:81")
	fmt.Println(err)
	// Output:
	// hello from 203.0.113.1:80
	// dial tcp 203.0.113.1:81: connect: connection refused
}
