// Command report runs the tests of every requirement and prints which passed:
// R-n, test, result. It fails if one failed, or did not run.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"

	"github.com/mmrelay/mmrelay/test/speccov"
)

const module = "github.com/mmrelay/mmrelay/"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	rows, err := speccov.Table()
	if err != nil {
		return err
	}
	byPackage := make(map[string][]string)
	for _, r := range rows {
		for _, t := range r.Tests {
			if !slices.Contains(byPackage[t.Package], t.Name) {
				byPackage[t.Package] = append(byPackage[t.Package], t.Name)
			}
		}
	}
	result := make(map[speccov.Test]string)
	for pkg, names := range byPackage {
		fmt.Fprintf(os.Stderr, "running %d tests of %s\n", len(names), pkg)
		if err := test(ctx, pkg, names, result); err != nil {
			return err
		}
	}
	bad := 0
	for _, r := range rows {
		for _, t := range r.Tests {
			res := result[t]
			if res == "" {
				res = "did not run"
			}
			if res != "pass" {
				bad++
			}
			if _, err := fmt.Fprintf(out, "%-6s  %-48s  %s\n", r.Requirement, t.Package+"."+t.Name, res); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprintf(out, "%d requirements, %d tests not passed\n", len(rows), bad); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d tests did not pass", bad)
	}
	return nil
}

// test runs tests of a package and notes how they ended.
func test(ctx context.Context, pkg string, names []string, result map[speccov.Test]string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-parallel", "6", "-timeout", "20m", "-run", "^("+strings.Join(names, "|")+")$", "./"+pkg)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Action {
		case "pass", "fail", "skip":
			result[speccov.Test{Package: strings.TrimPrefix(e.Package, module), Name: e.Test}] = e.Action
		}
	}
	_ = cmd.Wait() // failures are in the events
	return lines.Err()
}
