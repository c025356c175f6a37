package serve_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"time"

	"mxdiscover/serve"
)

// The zero Server is ready to use. Asked about what is no server name, it asks
// nobody.
func ExampleServer() {
	server := new(serve.Server)
	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/federation-ok?server_name=https://example.org/", nil))
	fmt.Println(answer.Code, answer.Body)

	answer = httptest.NewRecorder()
	server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/check", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// 200 BAD
	// 400 {"error":{"code":"name_missing","message":"The parameter server_name is missing."}}
}

// How to end: first the Server, which lets checks end and tells those who wait
// when it cannot, then the HTTP server.
func ExampleServer_Close() {
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	stop() // at once, in this example
	server := new(serve.Server)
	web := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go web.Serve(l)
	<-interrupted.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(server.Close(ctx), web.Shutdown(ctx))
	// Output: <nil> <nil>
}
