// Package scenario has the records of the scenario, and the checks that end a program.
package scenario

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The sizes and counts of the scenario.
const (
	Count      = 120
	GroupCount = 2000
	More       = 100
	Largest    = 1_048_516
)

var (
	sizes = [6]int{1, 10, 100, 1000, 10_000, 300_000}
	base  = time.Now().Add(-100 * time.Second).UnixMilli()
)

// TLS returns the configuration of a client on TLS, from the directory of keys and certificates; nil if there is none.
func TLS() *tls.Config {
	dir := os.Getenv("SCENARIO_TLS")
	if dir == "" {
		return nil
	}
	trusted, err := os.ReadFile(dir + "/ca.crt")
	Check(err, "the authority's certificate")
	own, err := tls.LoadX509KeyPair(dir+"/client.crt", dir+"/client.key")
	Check(err, "the client's certificate")
	roots := x509.NewCertPool()
	Ensure(roots.AppendCertsFromPEM(trusted), "%s/ca.crt has no certificate", dir)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}
}

// Check ends the program if there is an error.
func Check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// Ensure ends the program if the condition does not hold.
func Ensure(condition bool, format string, args ...any) {
	if !condition {
		Check(fmt.Errorf(format, args...), "not so")
	}
}

// Alone says whether there is one broker. If there are more, leaders move, and a group may read records again.
func Alone(bootstrap string) bool {
	return !strings.Contains(bootstrap, ",")
}

// Rest counts the records that came after the others, of those that a group has seen.
func Rest(seen map[int]bool) (count int) {
	for number := range seen {
		if number >= GroupCount {
			count++
		}
	}
	return count
}

// Until waits until the condition holds: a broker may not know yet of a change that another one has made. It ends the
// program if that takes long.
func Until(condition func() bool, what string) {
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		Ensure(time.Now().Before(deadline), "%s", what)
	}
}

// Pattern is the beginning of the value of record i.
func Pattern(i, size int) []byte {
	made := make([]byte, size)
	for j := range made {
		made[j] = byte((7*i + j) % 251)
	}
	return made
}

// Key is the key of record i, or nil.
func Key(i int) []byte {
	if i%3 == 0 {
		return nil
	}
	return fmt.Appendf(nil, "k%d", i)
}

// Value is the value of record i, or nil.
func Value(i int) []byte {
	if i%10 == 0 {
		return nil
	}
	return Pattern(i, sizes[i%len(sizes)])
}

// Time is the timestamp of record i.
func Time(i int) time.Time {
	return time.UnixMilli(base + int64(i))
}

// Same returns whether two values are equal; nil and empty values differ.
func Same(one, other []byte) bool {
	return (one == nil) == (other == nil) && bytes.Equal(one, other)
}

// Version is a module's version in this program.
func Version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, each := range info.Deps {
		if each.Path == module {
			return each.Version
		}
	}
	return "unknown"
}
