// Package tree is the ratchet tree of RFC 9420 §4 and §7: its arithmetic, its
// changes, its hashes, and the validation of a tree that somebody sent.
//
// A Tree is an immutable value. A change returns a new Tree that shares every
// node with the old one except those between the changed leaf and the root, so
// that keeping the state of past epochs costs little, and a commit costs
// O(log n): each node caches its tree hash, the length of its resolution and
// the number of members below it, and only the copied nodes are computed anew.
//
//	old root     new root
//	   |  \      /  |
//	   |   \____/   |        nodes off the changed path are
//	   |   / shared |        in both trees
//	  ...        ...
//
// Beside the nodes a Tree keeps what the uniqueness and capability rules of
// RFC 9420 §7.3 ask for: how often each encryption and signature key occurs,
// which sets of capabilities the members have, which credential types are in
// use. These are persistent maps, updated with the nodes.
//
// The package verifies no leaf signatures and asks no application rule; that
// is package group's part. Validate checks the structure: unmerged leaves, key
// uniqueness, and parent hashes.
package tree
