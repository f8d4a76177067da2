package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

// request holds the known fields of one line, decoded. A map keeps what is
// there apart from what is not, and names case-sensitive.
type request map[string]any

// kinds says how each known field is decoded, whatever the op.
var kinds = map[string]func(json.RawMessage) (any, error){
	"op": text, "client": text, "identity": text, "label": text,
	"group_id": hexBytes, "credential_body": hexBytes, "id": hexBytes, "secret": hexBytes, "aad": hexBytes,
	"welcome": hexBytes, "ratchet_tree": hexBytes, "group_info": hexBytes, "message": hexBytes, "data": hexBytes,
	"context": hexBytes,
	"suite":   integer, "credential_type": integer, "length": integer,
	"update": boolean, "private": boolean, "no_tree": boolean, "stage": boolean, "resync": boolean,
	"cap_creds": list(number16), "cap_exts": list(number16), "cap_props": list(number16),
	"leaf_exts": list(extension), "kp_exts": list(extension), "gc_exts": list(extension), "gi_exts": list(extension), "gce": list(extension),
	"psks": list(hexBytes),
}

// parse reads a line. The fields add and remove are lists in a commit and
// single values in a proposal.
func parse(line []byte) (request, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil || fields == nil {
		return nil, badRequest("not a JSON object")
	}
	r := make(request, len(fields))
	for name, raw := range fields {
		kind := kinds[name]
		if kind == nil {
			continue
		}
		v, err := kind(raw)
		if err != nil {
			return nil, err
		}
		r[name] = v
	}
	if _, ok := r["op"]; !ok {
		return nil, badRequest("op is missing")
	}
	add, remove := list(hexBytes), list(who)
	switch r.str("op") {
	case "commit":
	case "propose":
		add, remove = hexBytes, who
	default:
		return r, nil
	}
	for name, kind := range map[string]func(json.RawMessage) (any, error){"add": add, "remove": remove} {
		if raw, ok := fields[name]; ok {
			v, err := kind(raw)
			if err != nil {
				return nil, err
			}
			r[name] = v
		}
	}
	return r, nil
}

func (r request) has(name string) bool { _, ok := r[name]; return ok }

func (r request) str(name string) string { s, _ := r[name].(string); return s }

func (r request) bytes(name string) []byte { b, _ := r[name].([]byte); return b }

func (r request) flag(name string) bool { b, _ := r[name].(bool); return b }

func (r request) int(name string) int64 { n, _ := r[name].(int64); return n }

// need reports the first required field that is missing.
func (r request) need(names ...string) error {
	for _, name := range names {
		if !r.has(name) {
			return badRequest("field " + name + " is missing")
		}
	}
	return nil
}

func (r request) extensions(name string) []mls.Extension { return items[mls.Extension](r, name) }

func items[T any](r request, name string) []T {
	values, _ := r[name].([]any)
	out := make([]T, len(values))
	for i, v := range values {
		out[i], _ = v.(T)
	}
	return out
}

var errType = badRequest("a field has the wrong type")

func text(raw json.RawMessage) (any, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return nil, errType
	}
	return *s, nil
}

func boolean(raw json.RawMessage) (any, error) {
	var b *bool
	if err := json.Unmarshal(raw, &b); err != nil || b == nil {
		return nil, errType
	}
	return *b, nil
}

func integer(raw json.RawMessage) (any, error) {
	var n *int64
	if err := json.Unmarshal(raw, &n); err != nil || n == nil || *n < 0 {
		return nil, errType
	}
	return *n, nil
}

func number16(raw json.RawMessage) (any, error) {
	v, err := integer(raw)
	if n, _ := v.(int64); err != nil || n > math.MaxUint16 {
		return nil, errType
	}
	return uint16(v.(int64)), nil //nolint:forcetypeassert // What integer returns.
}

// hexBytes takes lower-case hex only: there is one text for every value.
func hexBytes(raw json.RawMessage) (any, error) {
	v, err := text(raw)
	s, _ := v.(string)
	if err != nil || strings.ContainsAny(s, "ABCDEF") {
		return nil, errType
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, badRequest("bad hex")
	}
	return b, nil
}

// who is a leaf index or an identity.
func who(raw json.RawMessage) (any, error) {
	if len(raw) > 0 && raw[0] == '"' {
		return text(raw)
	}
	v, err := integer(raw)
	if n, _ := v.(int64); err != nil || n > math.MaxUint32 {
		return nil, errType
	}
	return mls.LeafIndex(v.(int64)), nil //nolint:forcetypeassert // What integer returns.
}

func extension(raw json.RawMessage) (any, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, errType
	}
	t, err := number16(fields["type"])
	if err != nil {
		return nil, err
	}
	data, err := hexBytes(fields["data"])
	if err != nil {
		return nil, err
	}
	return mls.Extension{Type: mls.ExtensionType(t.(uint16)), Data: data.([]byte)}, nil //nolint:forcetypeassert // As above.
}

func list(item func(json.RawMessage) (any, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		if !bytes.HasPrefix(raw, []byte("[")) {
			return nil, errType
		}
		var raws []json.RawMessage
		if err := json.Unmarshal(raw, &raws); err != nil {
			return nil, errType
		}
		values := make([]any, len(raws))
		for i, raw := range raws {
			v, err := item(raw)
			if err != nil {
				return nil, err
			}
			values[i] = v
		}
		return values, nil
	}
}
