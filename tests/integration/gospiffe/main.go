// SPDX-License-Identifier: Apache-2.0

// A workload on go-spiffe, the reference client. Prints one line for each thing that happened:
//
//	gospiffe watch N      "svid <id> <serial> <not after, Unix>" for each of N different SVIDs
//	gospiffe serve ID     an mTLS server on a free port: "listening <address>", then "served <client id>"
//	gospiffe call ID ADDR an mTLS client that accepts ID only: "answer <text>"
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

type watcher struct {
	seen chan *workloadapi.X509Context
}

func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) { w.seen <- c }
func (w watcher) OnX509ContextWatchError(err error)               { fmt.Println("watch error", err) }

func watch(ctx context.Context, want int) {
	w := watcher{make(chan *workloadapi.X509Context, 100)}
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

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	switch os.Args[1] {
	case "watch":
		want, err := strconv.Atoi(os.Args[2])
		check(err)
		watch(ctx, want)
	case "serve":
		serve(ctx, spiffeid.RequireFromString(os.Args[2]))
	case "call":
		call(ctx, spiffeid.RequireFromString(os.Args[2]), os.Args[3])
	}
}
