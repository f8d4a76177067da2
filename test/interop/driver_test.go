// Package interop_test drives programs that speak the MLS peer protocol and
// knows nothing of any implementation: everything it can tell is in answers.
package interop_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// mlspeer is the built program; the tests of a run share it.
var mlspeer string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mlspeer")
	if err != nil {
		panic(err)
	}
	mlspeer = filepath.Join(dir, "mlspeer")
	build := exec.Command("go", "build", "-o", mlspeer, "./mlspeer")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// object is a request or an answer.
type object map[string]any

func (o object) str(name string) string { s, _ := o[name].(string); return s }

func (o object) num(name string) int { f, _ := o[name].(float64); return int(f) }

// process is one running peer.
type process struct {
	tb       testing.TB
	name     string
	in       io.WriteCloser
	out      *bufio.Reader
	patience time.Duration
	features []string
}

// start runs a peer and asks who it is. The test waits for its clean exit.
func start(tb testing.TB, command ...string) *process {
	tb.Helper()
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // Peers that tests name.
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	// A busy machine is slower than the two seconds of the protocol.
	p := &process{tb: tb, in: in, out: bufio.NewReaderSize(out, 1<<20), patience: 30 * time.Second}
	tb.Cleanup(func() {
		_ = in.Close()
		ended := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			tb.Errorf("%s: exit at the end of input: %v", p.name, err)
		}
		ended.Stop()
	})
	hello := p.ok(object{"op": "hello"})
	p.name = hello.str("name")
	for _, f := range hello["features"].([]any) { //nolint:forcetypeassert // Fails the test.
		p.features = append(p.features, f.(string)) //nolint:forcetypeassert // Fails the test.
	}
	return p
}

// line sends bytes as they are and reads one answer.
func (p *process) line(b []byte) object {
	p.tb.Helper()
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		if _, err := p.in.Write(append(b, '\n')); err != nil {
			done <- result{err: err}
			return
		}
		line, err := p.out.ReadBytes('\n')
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			p.tb.Fatalf("%s: %v", p.name, r.err)
		}
		var a object
		if err := json.Unmarshal(r.line, &a); err != nil {
			p.tb.Fatalf("%s: not an answer: %v", p.name, err)
		}
		if _, ok := a["ok"].(bool); !ok {
			p.tb.Fatalf("%s: an answer without ok", p.name)
		}
		return a
	case <-time.After(p.patience):
		p.tb.Fatalf("%s: no answer", p.name)
		return nil
	}
}

func (p *process) call(r object) object {
	p.tb.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		p.tb.Fatal(err)
	}
	return p.line(b)
}

func (p *process) ok(r object) object {
	p.tb.Helper()
	a := p.call(r)
	if a["ok"] != true {
		p.tb.Fatalf("%s: %v: %v (%v, %v)", p.name, r["op"], a["error"], a["code"], a["rule"])
	}
	return a
}

func (p *process) refused(r object, code string) object {
	p.tb.Helper()
	a := p.call(r)
	if a["ok"] != false || a["code"] != code {
		p.tb.Fatalf("%s: %v: code %v (%v), want %s", p.name, r["op"], a["code"], a["error"], code)
	}
	return a
}

// client is a client of a process.
type client struct {
	p     *process
	name  string
	suite int
	leaf  object // leaf fields of every request that takes them
}

func (c *client) request(op string, fields ...object) object {
	r := object{"op": op, "client": c.name}
	if op == "key_package" || op == "create" || op == "external_join" {
		r["suite"] = c.suite
		maps.Copy(r, c.leaf)
	}
	for _, f := range fields {
		maps.Copy(r, f)
	}
	return r
}

func (c *client) ok(op string, fields ...object) object {
	c.p.tb.Helper()
	return c.p.ok(c.request(op, fields...))
}

func (c *client) refused(code, op string, fields ...object) object {
	c.p.tb.Helper()
	return c.p.refused(c.request(op, fields...), code)
}

// unchanged checks that f leaves no trace in the client's state.
func (c *client) unchanged(f func()) {
	c.p.tb.Helper()
	before := fmt.Sprint(c.p.call(c.request("info")))
	f()
	if after := fmt.Sprint(c.p.call(c.request("info"))); after != before {
		c.p.tb.Fatalf("%s: a refused request changed the state", c.p.name)
	}
}

// agree checks that all clients report the same epoch and members.
func agree(tb testing.TB, clients ...*client) {
	tb.Helper()
	var first object
	for _, c := range clients {
		s := c.ok("info")
		if first == nil {
			first = s
			continue
		}
		for _, field := range []string{"status", "epoch", "exporter", "tree_hash", "confirmed_transcript_hash", "epoch_authenticator"} {
			if s[field] != nil && first[field] != nil && s[field] != first[field] {
				tb.Fatalf("%s and %s differ in %s", clients[0].name, c.name, field)
			}
		}
		if a, b := identities(first), identities(s); !slices.Equal(a, b) {
			tb.Fatalf("%s and %s differ in members: %v and %v", clients[0].name, c.name, a, b)
		}
	}
}

func identities(s object) []string {
	var ids []string
	members, _ := s["members"].([]any)
	for _, m := range members {
		ids = append(ids, m.(map[string]any)["identity"].(string)) //nolint:forcetypeassert // Fails the test.
	}
	slices.Sort(ids)
	return ids
}
