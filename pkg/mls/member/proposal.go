package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// ExternalPSKProposal proposes to use a pre-shared key that all members have
// under an id, with a fresh nonce (RFC 9420 §12.1.4).
func ExternalPSKProposal(s mls.CipherSuite, id []byte) (*mls.ProposalBody, error) {
	return pskProposal(s, wire.PreSharedKeyID{Type: wire.PSKExternal, ID: id})
}

// ResumptionPSKProposal proposes to use the resumption secret of a past epoch,
// which shows that the committer was there (RFC 9420 §12.1.4, §8.6).
func ResumptionPSKProposal(s mls.CipherSuite, groupID []byte, epoch uint64) (*mls.ProposalBody, error) {
	return pskProposal(s, wire.PreSharedKeyID{
		Type: wire.PSKResumption, Usage: wire.UsageApplication, GroupID: groupID, Epoch: epoch,
	})
}

func pskProposal(id mls.CipherSuite, psk wire.PreSharedKeyID) (*mls.ProposalBody, error) {
	s, err := suiteOf(id)
	if err != nil {
		return nil, err
	}
	psk.Nonce = suite.RandomSecret(s.HashSize()).Bytes() // RFC 9420 §8.4: fresh, Nh bytes.
	return (&wire.Proposal{Type: wire.ProposalPSK, PSK: &psk}).Seal(), nil
}
