// Package wire holds every structure of RFC 9420 as a typed value with one
// parser and one encoder, the limits on what is parsed, and the errors with
// which the engine refuses input.
//
// A parser reads each byte once, tries one layout, and accepts only what
// re-encodes to the same bytes; errors are *Refusal. Structures that are
// signed, hashed or referenced keep the bytes they were parsed from, and Raw
// returns those: nothing is ever verified on re-encoded bytes. Values built
// from fields have no such bytes until Seal was called, which encodes once and
// from then on fixes Raw.
//
// What is unknown stays opaque: extensions are a type and bytes, in order;
// credentials of other types than basic and X.509 are a type and bytes;
// proposals of other types than those of RFC 9420 are a type and bytes if
// Limits.CustomProposals lists the type, and refused otherwise. Capability
// lists keep unknown values.
//
// The package checks syntax only: no signature, no hash, no rule that needs
// more than the structure itself. Parsed values alias one private copy of the
// input and must not be modified by anybody.
package wire
