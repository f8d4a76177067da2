package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// evidence is what a report of a message needs (SPEC.md R-131): its content, the
// hub's attestation, and when it was accepted.
func evidence(data []byte, frank *seal.Frank, acceptedMS uint64) ([]byte, error) {
	f, err := frank.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint64(nil, acceptedMS)
	return codec.AppendVector(codec.AppendVector(b, f), data), nil
}

// Report shows a message to the room's hub as abuse, with Event.Evidence of the
// message and a note (SPEC.md R-131). The hub learns the message and its
// sender's pseudonym, and not who reports it.
func (c *Client) Report(ctx context.Context, roomURI string, evidence []byte, note string) error {
	d := codec.NewReader(evidence)
	acceptedMS := d.Uint64()
	frank, data := d.Vector(len(evidence)), d.Vector(len(evidence))
	if err := d.Done(); err != nil {
		return errors.New("client: not the evidence of a message")
	}
	m, err := parseContent(data)
	if err != nil {
		return errors.New("client: not the evidence of a message")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	err = c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodReportAbuse, groupID: r.st.GroupID, ear: r.earKey(), token: true, kind: seal.AuthNone,
		body: &hubv1.ReportAbuseRequest{
			ApplicationData: data, Salt: m.salt[:], Frank: frank, Sender: m.sender.String(), AcceptedMs: acceptedMS, Note: note,
		},
	}, &hubv1.ReportAbuseResponse{})
	if err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	return nil
}

// Disclosure proves to the provider of a member who that member is (SPEC.md
// its leaf's credential and link key. It unmasks the person, towards
// everybody who gets it; programs say so before they make one.
func (c *Client) Disclosure(roomURI string, leaf uint32) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return nil, err
	}
	l := r.g.Public().Leaf(mls.LeafIndex(leaf))
	key, ok := r.st.LinkKeys[leaf]
	if l == nil || !ok {
		return nil, ErrUnverified
	}
	cred, err := credentialOf(l)
	if err != nil {
		return nil, err
	}
	b, err := cred.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return codec.AppendVector(codec.AppendVector(nil, key), b), nil
}

// OpenDisclosure verifies a disclosure and returns the pseudonym and the real
// user behind it.
func OpenDisclosure(b []byte, trust *Trust) (pseudonymOf, user string, err error) {
	d := codec.NewReader(b)
	key, raw := d.Vector(primitive.SecretSize), d.Vector(len(b))
	if d.Done() != nil {
		return "", "", mmrerr.Malformed
	}
	link, err := primitive.ParseSecret(key)
	if err != nil {
		return "", "", mmrerr.Malformed
	}
	cred, err := pseudonym.ParseCredential(pseudonym.CredentialBasic, raw)
	if err != nil {
		return "", "", err
	}
	real, err := cred.Reveal(link, trust.Providers, time.Now())
	if err != nil {
		return "", "", ErrUnverified
	}
	return cred.User.String(), real.User.String(), nil
}
