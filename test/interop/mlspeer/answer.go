package main

import (
	"encoding/hex"
	"iter"
	"maps"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// answer is what is written as one line.
type answer map[string]any

func (a answer) set(name string, b []byte) { a[name] = hex.EncodeToString(b) }

// with adds the fields of b.
func (a answer) with(b answer) answer {
	maps.Copy(a, b)
	return a
}

type extensionJSON struct {
	Type mls.ExtensionType `json:"type"`
	Data string            `json:"data"`
}

func extensionsJSON(es []mls.Extension) []extensionJSON {
	out := []extensionJSON{}
	for _, e := range es {
		if e.Type != mls.ExtensionRatchetTree { // It has a field of its own.
			out = append(out, extensionJSON{e.Type, hex.EncodeToString(e.Data)})
		}
	}
	return out
}

type memberJSON struct {
	Index          mls.LeafIndex      `json:"index"`
	Identity       string             `json:"identity"`
	CredentialType mls.CredentialType `json:"credential_type"`
	LeafExts       []extensionJSON    `json:"leaf_exts"`
}

// identityOf returns the text by which the protocol names a member.
func identityOf(c mls.Credential) string {
	if c.Type == mls.CredentialBasic {
		return string(c.Body)
	}
	return hex.EncodeToString(c.Body)
}

func membersJSON(members iter.Seq2[mls.LeafIndex, *mls.LeafNode]) []memberJSON {
	out := []memberJSON{}
	for i, leaf := range members {
		out = append(out, memberJSON{i, identityOf(leaf.Credential), leaf.Credential.Type, extensionsJSON(leaf.Extensions)})
	}
	return out
}

// publicState holds the fields that clients and hubs share.
func publicState(g *mls.PublicGroup) answer {
	c := g.Context()
	a := answer{
		"epoch":   g.Epoch(),
		"gc_exts": extensionsJSON(c.Extensions),
		"members": membersJSON(g.Members()),
	}
	a.set("tree_hash", c.TreeHash)
	a.set("confirmed_transcript_hash", c.ConfirmedTranscriptHash)
	return a
}

// state holds the fields of a request marked S.
func (c *client) state() (answer, error) {
	if c.group == nil {
		return nil, errNoGroup
	}
	if c.group.Status() == member.Removed {
		return answer{"status": "removed", "epoch": c.group.Epoch()}, nil
	}
	exporter, err := c.group.Export("exporter", nil, 32)
	if err != nil {
		return nil, err
	}
	_, pending := c.group.Pending()
	a := publicState(c.group.Public())
	a["status"] = "active"
	a["own_leaf"] = c.group.OwnLeaf()
	a["pending"] = pending || c.joining != nil
	a.set("exporter", exporter)
	a.set("epoch_authenticator", c.group.EpochAuthenticator())
	return a, nil
}
