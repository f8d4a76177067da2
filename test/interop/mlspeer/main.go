package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
)

// maxLine bounds a request's line; longer ones are read to their end, answered
// with the code limit, and forgotten.
const maxLine = 65 << 20

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		os.Exit(1)
	}
}

// serve answers every line of in until its end.
func serve(in io.Reader, out io.Writer) error {
	p := newPeer()
	r := bufio.NewReaderSize(in, 1<<16)
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for {
		line, tooLong, err := readLine(r)
		if err != nil && len(line) == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var a answer
		if tooLong {
			a = failure(fail("limit", "line too long"))
		} else {
			a = p.handle(line)
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

// readLine reads up to a line feed or the end of input, which is an error only
// for an empty line.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			tooLong, line = true, line[:min(len(line), 1)]
		}
		if !tooLong || len(line) == 0 {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}
