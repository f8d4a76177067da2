package e2e_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// furtherHubMethods is TestBadInputHub for the methods that its scenario has no
// samples of.
func (w *badWorld) furtherHubMethods(t *testing.T, g *gate, member func(string, proto.Message, ...variant) spec) {
	t.Helper()
	garbage := randomBytes(60)
	g.method(t, member(seal.MethodWrapState, &hubv1.WrapStateRequest{}))
	g.method(t, member(seal.MethodWrapRefresh, &hubv1.WrapRefreshRequest{Delta: garbage}, []variant{
		{"garbage", nil, nil, mmrerr.Malformed},
		{"nothing", func() proto.Message { return &hubv1.WrapRefreshRequest{} }, nil, mmrerr.Malformed},
	}...))
	g.method(t, member(seal.MethodPutSeals, &hubv1.PutSealsRequest{KeyId: 1, Seals: [][]byte{garbage}}, []variant{
		{"garbage", nil, nil, mmrerr.QueueMissing},
		{"none", func() proto.Message { return &hubv1.PutSealsRequest{KeyId: 1} }, nil, mmrerr.Malformed},
		{"too many", func() proto.Message { return &hubv1.PutSealsRequest{KeyId: 1, Seals: make([][]byte, 257)} }, nil, mmrerr.Malformed},
		{"key id of two bytes", func() proto.Message { return &hubv1.PutSealsRequest{KeyId: 256, Seals: [][]byte{garbage}} }, nil, mmrerr.Malformed},
	}...))
	g.method(t, member(seal.MethodReportCommit, &hubv1.ReportCommitRequest{Epoch: 1, CommitHash: garbage[:32]}, []variant{
		{"no such commit", nil, nil, mmrerr.LogTruncated},
		{"short hash", func() proto.Message { return &hubv1.ReportCommitRequest{Epoch: 1, CommitHash: garbage[:31]} }, nil, mmrerr.Malformed},
		{"of the far future", func() proto.Message { return &hubv1.ReportCommitRequest{Epoch: 1 << 63, CommitHash: garbage[:32]} }, nil, mmrerr.LogTruncated},
	}...))
	frank, err := (&seal.Frank{Suite: 1, Signature: randomBytes(64)}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	report := &hubv1.ReportAbuseRequest{
		ApplicationData: garbage, Salt: garbage[:16], Frank: frank, Sender: "mimi://a.example/u/aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", AcceptedMs: 1, Note: "x",
	}
	g.method(t, spec{
		method: seal.MethodReportAbuse, token: true, kind: seal.AuthNone, groupID: w.groupID, ear: w.alice.ear(w.room), body: report,
		refused: mmrerr.NoRoom, unknown: func(_ proto.Message, a *ask) { a.GroupID = randomBytes(32) },
		existing: []variant{
			{name: "another key", ask: func(a *ask) { a.EARKey = primitive.NewSecret() }},
			{name: "short group id", ask: func(a *ask) { a.GroupID = a.GroupID[:31] }},
		},
		cases: []variant{
			{"forged", nil, nil, mmrerr.Signature},
			{"a real handle", change(report, func(m *hubv1.ReportAbuseRequest) { m.Sender = "mimi://a.example/u/bob" }), nil, mmrerr.Malformed},
			{"short salt", change(report, func(m *hubv1.ReportAbuseRequest) { m.Salt = m.Salt[1:] }), nil, mmrerr.Malformed},
			{"garbage frank", change(report, func(m *hubv1.ReportAbuseRequest) { m.Frank = []byte{1} }), nil, mmrerr.Malformed},
			{"no text", change(report, func(m *hubv1.ReportAbuseRequest) { m.Note = string(make([]byte, 4097)) }), nil, mmrerr.Malformed},
		},
	})
}
