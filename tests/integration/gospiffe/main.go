// SPDX-License-Identifier: Apache-2.0

// A workload on go-spiffe, the reference client. Prints one line for each thing that happened:
//
//	gospiffe watch N      "svid <id> <serial> <not after, Unix>" for each of N different SVIDs
//	gospiffe serve ID     an mTLS server on a free port: "listening <address>", then "served <client id>"
//	gospiffe call ID ADDR an mTLS client that accepts ID only: "answer <text>"
//	gospiffe peer ID      an mTLS server until it is stopped: "listening <address>"
//	gospiffe rotate ID ADDR N  mTLS handshakes without end until the own SVID came from N different authorities:
//	                      "handshakes <n> failed <n>"
//	gospiffe calls ADDR S calls of a server's API on one client for S seconds or longer, until there were
//	                      fifty on three connections, a stream open all the while:
//	                      "calls <n> failed <n> connections <n>", "stream <status>"
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

type watcher struct {
	ctx  context.Context
	seen chan *workloadapi.X509Context
}

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.seen <- c }
func (w watcher) OnX509ContextWatchError(err error) {
	if w.ctx.Err() == nil { // the end of our own watch is no error of the agent's
		fmt.Println("watch error", err)
	}
}

func watch(ctx context.Context, want int) {
	w := watcher{ctx, make(chan *workloadapi.X509Context, 100)}
	go func() { _ = workloadapi.WatchX509Context(ctx, w) }()
	known := map[string]bool{}
	for len(known) < want {
		leaf := (<-w.seen).DefaultSVID().Certificates[0]
		if serial := leaf.SerialNumber.String(); !known[serial] {
			known[serial] = true
			fmt.Println("svid", leaf.URIs[0], serial, leaf.NotAfter.Unix())
		}
	}
}

func serve(ctx context.Context, client spiffeid.ID) {
	listener, err := spiffetls.Listen(ctx, "tcp", "127.0.0.1:0", tlsconfig.AuthorizeID(client))
	check(err)
	fmt.Println("listening", listener.Addr())
	conn, err := listener.Accept()
	check(err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(err)
	id, err := spiffetls.PeerIDFromConn(conn)
	check(err)
	_, err = conn.Write([]byte("heard " + line))
	check(err)
	check(conn.(net.Conn).Close())
	fmt.Println("served", id)
}

func call(ctx context.Context, server spiffeid.ID, address string) {
	conn, err := spiffetls.Dial(ctx, "tcp", address, tlsconfig.AuthorizeID(server))
	check(err)
	_, err = conn.Write([]byte("hello\n"))
	check(err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(err)
	fmt.Print("answer ", line)
}

func peer(ctx context.Context, client spiffeid.ID) {
	listener, err := spiffetls.Listen(ctx, "tcp", "127.0.0.1:0", tlsconfig.AuthorizeID(client))
	check(err)
	fmt.Println("listening", listener.Addr())
	for {
		conn, err := listener.Accept()
		check(err)
		go func() {
			defer conn.Close()
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err == nil {
				_, _ = conn.Write([]byte(line))
			}
		}()
	}
}

func handshake(ctx context.Context, source *workloadapi.X509Source, server spiffeid.ID, address string) error {
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server))
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = conn.Write([]byte("hello\n")); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).ReadString('\n') // with TLS 1.3 only this shows that the server took our SVID
	return err
}

func rotate(ctx context.Context, server spiffeid.ID, address string, want int) {
	source, err := workloadapi.NewX509Source(ctx)
	check(err)
	authorities, done, failed := map[string]bool{}, 0, 0
	for len(authorities) < want {
		svid, err := source.GetX509SVID()
		check(err)
		authorities[string(svid.Certificates[0].AuthorityKeyId)] = true
		if err := handshake(ctx, source, server, address); err != nil {
			fmt.Println("handshake error", err)
			failed++
		}
		done++
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Println("handshakes", done, "failed", failed)
}

type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *(v.(*[]byte)), nil }
func (raw) Unmarshal(d []byte, v any) error { *(v.(*[]byte)) = append([]byte(nil), d...); return nil }
func (raw) Name() string                    { return "raw" }

func calls(ctx context.Context, address string, seconds int) {
	connections := 0
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		connections++
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	secure := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // who the server is, is not the question here
	client, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(dial), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	check(err)
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := client.NewStream(ctx, both, "/spire.api.server.agent.v1.Agent/AttestAgent")
	check(err)
	done, failed := 0, 0
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) || done <= 50 || connections < 3; done++ {
		in, out := []byte{}, []byte{}
		if err := client.Invoke(ctx, "/spire.api.server.bundle.v1.Bundle/GetBundle", &in, &out); err != nil {
			fmt.Println("call error", err)
			failed++
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println("calls", done, "failed", failed, "connections", connections)
	empty := []byte{}
	check(stream.SendMsg(&empty))
	fmt.Println("stream", status.Code(stream.RecvMsg(&empty)))
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	switch os.Args[1] {
	case "watch":
		watch(ctx, number(os.Args[2]))
	case "serve":
		serve(ctx, spiffeid.RequireFromString(os.Args[2]))
	case "call":
		call(ctx, spiffeid.RequireFromString(os.Args[2]), os.Args[3])
	case "peer":
		peer(ctx, spiffeid.RequireFromString(os.Args[2]))
	case "rotate":
		rotate(ctx, spiffeid.RequireFromString(os.Args[2]), os.Args[3], number(os.Args[4]))
	case "calls":
		calls(ctx, os.Args[2], number(os.Args[3]))
	}
}
