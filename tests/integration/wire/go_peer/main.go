// SPDX-License-Identifier: Apache-2.0

// grpc-go on the other side of the transport, for peer_test.py:
//
//	go_peer client unix:///PATH                  go_peer serve ADDRESS CERT KEY [tls12|reject]
//	go_peer client HOST:PORT CERT KEY [tls12]
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *(v.(*[]byte)), nil }
func (raw) Unmarshal(d []byte, v any) error    { *(v.(*[]byte)) = append([]byte(nil), d...); return nil }
func (raw) Name() string                       { return "raw" }

func must(ok bool, what string, rest ...any) {
	if !ok {
		fmt.Println("FAILED", what, rest)
		os.Exit(1)
	}
}

func client(target string, creds credentials.TransportCredentials) {
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(1<<24)))
	must(err == nil, "dial", err)
	ctx := context.Background()
	for _, n := range []int{0, 1, 70000, 3000000} {
		in, out := make([]byte, n), []byte{}
		err = cc.Invoke(ctx, "/test.Echo/Unary", &in, &out)
		must(err == nil && len(out) == n, "unary", n, err)
	}
	in, out := make([]byte, 5000000), []byte{}
	err = cc.Invoke(ctx, "/test.Echo/Unary", &in, &out)
	fmt.Println(err)
	in = []byte("x")
	for _, m := range []string{"/test.Echo/Fail", "/test.Echo/No", "/no.Such/X"} {
		err = cc.Invoke(ctx, m, &in, &out)
		fmt.Println(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	err = cc.Invoke(short, "/test.Echo/Hang", &in, &out)
	cancel()
	must(status.Code(err) == codes.DeadlineExceeded, "deadline", err)
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Bidi")
	must(err == nil, "stream", err)
	for i := 0; i < 1000; i++ {
		msg := []byte(fmt.Sprint("m", i))
		must(st.SendMsg(&msg) == nil, "send")
		must(st.RecvMsg(&out) == nil && string(out) == string(msg), "recv")
	}
	st.CloseSend()
	must(errors.Is(st.RecvMsg(&out), io.EOF), "eof")
	for i := 0; i < 3000; i++ {
		must(cc.Invoke(ctx, "/test.Echo/Unary", &in, &out) == nil, "loop")
	}
	cc.Close()
}

func serve(lis net.Listener, opts ...grpc.ServerOption) {
	opts = append(opts, grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		m, _ := grpc.MethodFromServerStream(s)
		for {
			in := []byte{}
			if err := s.RecvMsg(&in); err != nil {
				if err == io.EOF {
					return nil
				}
				return err
			}
			if m == "/test.Echo/Fail" {
				return status.Error(codes.PermissionDenied, "nö")
			}
			s.SendMsg(&in)
		}
	}))
	grpc.NewServer(opts...).Serve(lis)
}

func config(args []string) *tls.Config {
	cert, err := tls.LoadX509KeyPair(args[0], args[1])
	must(err == nil, "key pair", err)
	conf := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
		SessionTicketsDisabled: true}
	if len(args) > 2 && args[2] == "tls12" {
		conf.MaxVersion = tls.VersionTLS12
	}
	if len(args) > 2 && args[2] == "reject" {
		conf.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return errors.New("no") }
	}
	return conf
}

func main() {
	if os.Args[1] == "serve" {
		lis, err := net.Listen("tcp", os.Args[2])
		must(err == nil, "listen", err)
		fmt.Println("ready", lis.Addr().(*net.TCPAddr).Port)
		serve(lis, grpc.Creds(credentials.NewTLS(config(os.Args[3:]))))
	} else if len(os.Args) > 3 {
		client(os.Args[2], credentials.NewTLS(config(os.Args[3:])))
	} else {
		client(os.Args[2], insecure.NewCredentials())
	}
}
