// Package ciscomls holds tests only. They compare pkg/codec and the array tree
// of pkg/mls with cisco/go-tls-syntax and cisco/go-mls, which implement a 2020
// draft of MLS (before draft 12) and cannot speak RFC 9420. What is compared is
// what did not change since: QUIC-style length headers, integers and optionals,
// and the index calculus of trees whose leaves are a power of two, the only
// ones that the RFC has.
package ciscomls
