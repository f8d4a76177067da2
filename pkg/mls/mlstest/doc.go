// Package mlstest is support for tests of the MLS engine and of what is built
// on it. It must not be linked into a program.
//
// Vectors loads the official RFC 9420 test vectors and Count makes sure that a
// test ran as many of them as there are. A missing file is skipped loudly, and
// a failure when CI is set.
package mlstest
