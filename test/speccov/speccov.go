// Package speccov maps every requirement of the protocol to the tests that fail
// when it does not hold.
package speccov

import (
	"bufio"
	_ "embed" // for the table
	"fmt"
	"regexp"
	"strings"
)

//go:embed table.txt
var table string

// Test is one test function.
type Test struct {
	Package string // relative to the module
	Name    string
}

// Row is a requirement with its tests.
type Row struct {
	Requirement string // R-n
	Tests       []Test
}

var rowForm = regexp.MustCompile(`^(R-\d+)((?: [a-z0-9/]+\.Test\w+)+)$`)

// Table returns the rows of table.txt, in its order.
func Table() ([]Row, error) {
	var rows []Row
	for lines := bufio.NewScanner(strings.NewReader(table)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		m := rowForm.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("table.txt: not a row: %q", lines.Text())
		}
		r := Row{Requirement: m[1]}
		for t := range strings.FieldsSeq(m[2]) {
			dir, name, _ := strings.Cut(t, ".")
			r.Tests = append(r.Tests, Test{dir, name})
		}
		rows = append(rows, r)
	}
	return rows, nil
}
