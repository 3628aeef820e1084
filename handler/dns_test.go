package handler

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A dnsServer answers for the addresses of all names.
type dnsServer struct {
	// address is where it listens.
	address string

	mu        sync.Mutex
	addresses []netip.Addr
	failing   bool
	// hold keeps answers back until it is closed, nil for none.
	hold <-chan struct{}
	// asked are the names that it was asked for.
	asked map[string]int
}

// serveDNS serves on loopback until the test ends.
func serveDNS(t *testing.T, addresses ...string) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{address: conn.LocalAddr().String(), asked: make(map[string]int)}
	s.set(addresses...)
	var answers sync.WaitGroup
	answers.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, client, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			question := append([]byte(nil), buf[:n]...)
			answers.Go(func() {
				if answer := s.answer(question); answer != nil {
					// Who asks again does so by itself.
					_, _ = conn.WriteTo(answer, client)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		answers.Wait()
	})
	return s
}

// set replaces the addresses. Without any the server fails.
func (s *dnsServer) set(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses, s.failing = nil, len(addresses) == 0
	for _, address := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(address))
	}
}

// holdUntil keeps answers back from now on.
func (s *dnsServer) holdUntil(release <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = release
}

// questions returns how often it was asked for a name.
func (s *dnsServer) questions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

// answer returns the answer to a question, nil for what is none.
func (s *dnsServer) answer(packet []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(packet)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	s.mu.Lock()
	s.asked[strings.TrimSuffix(question.Name.String(), ".")]++
	addresses, failing, hold := s.addresses, s.failing, s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	if failing {
		reply.RCode = dnsmessage.RCodeServerFailure
	}
	for _, address := range addresses {
		resource := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}}
		switch {
		case question.Type == dnsmessage.TypeA && address.Is4():
			resource.Body = &dnsmessage.AResource{A: address.As4()}
		case question.Type == dnsmessage.TypeAAAA && address.Is6():
			resource.Body = &dnsmessage.AAAAResource{AAAA: address.As16()}
		default:
			continue
		}
		reply.Answers = append(reply.Answers, resource)
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}
