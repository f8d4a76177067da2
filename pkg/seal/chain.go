package seal

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

const labelReceipt = "MmrReceiptTBS"

// ChainStart returns chain_0 of a room (SPEC.md R-74).
func ChainStart(groupID []byte) [32]byte {
	return primitive.Hash([]byte("mmr-r/1 chain"), groupID)
}

// ChainNext returns chain_seq from chain_{seq-1} and the core of event seq
// (SPEC.md R-74).
func ChainNext(prev [32]byte, seq uint64, core []byte) [32]byte {
	h := primitive.Hash(core)
	return primitive.Hash([]byte("mmr-r/1 event"), prev[:], binary.BigEndian.AppendUint64(nil, seq), h[:])
}

// Accepted is where the hub says an event stands. Two valid receipts for one
// seq with different chains prove that the hub forked the room (SPEC.md R-74).
type Accepted struct {
	GroupID    []byte
	Epoch      uint64
	Seq        uint64
	Chain      [32]byte
	AcceptedMS uint64 // the hub's clock, milliseconds since 1970
}

func (a Accepted) tbs() []byte {
	b := codec.AppendVector(nil, a.GroupID)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	b = append(b, a.Chain[:]...)
	return binary.BigEndian.AppendUint64(b, a.AcceptedMS)
}

// Sign returns the receipt, a signature with the hub's key.
func (a Accepted) Sign(hub primitive.Signer) ([]byte, error) {
	return hub.SignWithLabel(labelReceipt, a.tbs())
}

// Verify checks a receipt, or returns primitive.ErrVerify.
func (a Accepted) Verify(hub primitive.PublicKey, receipt []byte) error {
	return hub.VerifyWithLabel(labelReceipt, a.tbs(), receipt)
}

// Accepted returns what the event's receipt is about.
func (e *Event) Accepted() Accepted {
	return Accepted{GroupID: e.GroupID, Epoch: e.Epoch, Seq: e.Seq, Chain: e.Chain, AcceptedMS: e.AcceptedMS}
}
