package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// franked sends a message with a franking tag and returns its event, salt and
// application data.
func (p *party) franked(text string) (*seal.Event, [16]byte, []byte) {
	p.w.t.Helper()
	salt, data := [16]byte{1, 2, 3}, []byte(text)
	tag := seal.FrankingTag(salt, data)
	aad, err := pseudonym.AAD{{Type: pseudonym.AADFrank, Data: tag[:]}}.AppendBinary(nil)
	if err != nil {
		p.w.t.Fatal(err)
	}
	g, m, err := p.g.Send(data, member.SendOptions{AAD: aad, Padding: member.PadToBucket})
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.g = g
	res, err := p.submit(m)
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.answer = res
	es, err := p.catchUp(res.GetAccepted().GetSeq())
	if err != nil || len(es) != 1 {
		p.w.t.Fatalf("%d events, %v", len(es), err)
	}
	return es[0], salt, data
}

// TestFrank: who received a franked message can show by which pseudonym, in
// which room and when it was accepted (SPEC.md R-130).
func TestFrank(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	e, _, data := alice.franked("I said this")
	f := e.Body.(*seal.MessageEvent).Frank
	if f == nil {
		t.Fatal("no frank")
	}
	if want, err := f.AppendBinary(nil); err != nil || !bytes.Equal(alice.answer.GetFrank(), want) {
		t.Errorf("the sender is not told the frank, %v", err)
	}
	right := seal.FrankContext{SenderURI: alice.tbs.User.String(), RoomURI: pseudonym.RoomURI(hubDomain, alice.groupID()), AcceptedMS: e.AcceptedMS}
	if err := f.Verify(w.keys.Identity().Public(), right); err != nil || f.Suite != uint16(suite) {
		t.Errorf("the frank does not verify: %v, suite %d", err, f.Suite)
	}
	for _, change := range []func(*seal.FrankContext){
		func(c *seal.FrankContext) { c.SenderURI = w.id("a.example", pseudonym.User).String() },
		func(c *seal.FrankContext) { c.RoomURI += "x" },
		func(c *seal.FrankContext) { c.AcceptedMS++ },
	} {
		c := right
		change(&c)
		if f.Verify(w.keys.Identity().Public(), c) == nil {
			t.Errorf("the frank verifies for %+v", c)
		}
	}
	if _, err := alice.submit(alice.message("without")); err != nil {
		t.Fatal(err)
	}
	es, err := alice.catchUp(e.Seq + 1)
	if err != nil || es[0].Body.(*seal.MessageEvent).Frank != nil {
		t.Errorf("a frank that nobody asked for, %v", err)
	}
	short, _ := pseudonym.AAD{{Type: pseudonym.AADFrank, Data: make([]byte, 31)}}.AppendBinary(nil)
	_, m, err := alice.g.Send(data, member.SendOptions{AAD: short, Padding: member.PadToBucket})
	if err != nil {
		t.Fatal(err)
	}
	_, err = alice.submit(m)
	w.wantCode(err, mmrerr.AAD)
}

// TestReportAbuse: the hub recomputes everything, keeps the report for its
// operator, and nothing that leads further than to the pseudonym (SPEC.md R-131).
func TestReportAbuse(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	mallory := alice.add("b.example")
	e, salt, data := mallory.franked("something vile")
	frank, err := e.Body.(*seal.MessageEvent).Frank.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	right := func() (*hubv1.ReportAbuseRequest, call) {
		return &hubv1.ReportAbuseRequest{ApplicationData: data, Salt: salt[:], Frank: frank, Sender: mallory.tbs.User.String(), AcceptedMs: e.AcceptedMS, Note: "please look"},
			call{method: seal.MethodReportAbuse, groupID: alice.groupID(), kind: seal.AuthNone, ear: alice.ear}
	}
	if !w.h.Methods()[seal.MethodReportAbuse].Token {
		t.Error("a report costs no token")
	}
	other := w.room(sealed)
	for name, c := range map[string]struct {
		f    func(*hubv1.ReportAbuseRequest, *call)
		want mmrerr.Code
	}{
		"other words":      {func(m *hubv1.ReportAbuseRequest, _ *call) { m.ApplicationData = []byte("something nice") }, mmrerr.Signature},
		"other salt":       {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Salt = make([]byte, 16) }, mmrerr.Signature},
		"another sender":   {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Sender = alice.tbs.User.String() }, mmrerr.Signature},
		"another time":     {func(m *hubv1.ReportAbuseRequest, _ *call) { m.AcceptedMs++ }, mmrerr.Signature},
		"forged signature": {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Frank = flip(frank) }, mmrerr.Signature},
		"forged frank":     {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Frank = flipAt(frank, 3) }, mmrerr.Signature},
		"another room":     {func(_ *hubv1.ReportAbuseRequest, c *call) { c.groupID, c.ear = other.groupID(), other.ear }, mmrerr.Signature},
		"unknown room":     {func(_ *hubv1.ReportAbuseRequest, c *call) { c.groupID = member.RandomGroupID() }, mmrerr.NoRoom},
		"no key":           {func(_ *hubv1.ReportAbuseRequest, c *call) { c.ear = primitive.Secret{} }, mmrerr.NoRoom},
		"another key":      {func(_ *hubv1.ReportAbuseRequest, c *call) { c.ear = primitive.NewSecret() }, mmrerr.NoRoom},
		"a real handle":    {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Sender = "mimi://b.example/u/mallory" }, mmrerr.Malformed},
		"a client":         {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Sender = mallory.tbs.Client.String() }, mmrerr.Malformed},
		"short salt":       {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Salt = m.Salt[1:] }, mmrerr.Malformed},
		"garbage frank":    {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Frank = []byte{1} }, mmrerr.Malformed},
		"long note":        {func(m *hubv1.ReportAbuseRequest, _ *call) { m.Note = strings.Repeat("x", 4097) }, mmrerr.Malformed},
		"long content":     {func(m *hubv1.ReportAbuseRequest, _ *call) { m.ApplicationData = make([]byte, 262_145) }, mmrerr.Malformed},
		"signed":           {func(_ *hubv1.ReportAbuseRequest, c *call) { c.kind, c.signer = seal.AuthNewLeaf, alice.key(t) }, mmrerr.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			req, k := right()
			c.f(req, &k)
			before := w.dump()
			_, err := do(w, k, req, new(hubv1.ReportAbuseResponse))
			w.wantCode(err, c.want)
			w.unchanged(before)
		})
	}
	// Also after the key was replaced, with the one of then.
	old := alice.ear
	if _, err := alice.commit(commit{proposals: removal(1)}); err != nil {
		t.Fatal(err)
	}
	for _, ear := range []primitive.Secret{old, alice.ear} {
		req, k := right()
		k.ear = ear
		if _, err := do(w, k, req, new(hubv1.ReportAbuseResponse)); err != nil {
			t.Fatal(err)
		}
	}
	var got []hub.Report
	collect := func(r hub.Report) error { got = append(got, r); return nil }
	if err := w.h.Reports(context.Background(), collect); err != nil || len(got) != 1 {
		t.Fatalf("%d reports, %v", len(got), err)
	}
	if r := got[0]; r.Sender != mallory.tbs.User.String() || string(r.Content) != string(data) || r.Note != "please look" || string(r.GroupID) != string(alice.groupID()) || r.AcceptedMS != e.AcceptedMS {
		t.Errorf("the report is %+v", r)
	}
	for _, rec := range w.records("reports", "") {
		for _, secret := range []string{string(data), "please look", mallory.tbs.User.String(), string(alice.groupID())} {
			if strings.Contains(string(rec.Value), secret) {
				t.Errorf("a record says %q in clear", secret)
			}
		}
	}
	if err := w.h.DropReport(context.Background(), got[0].ID); err != nil {
		t.Fatal(err)
	}
	got = nil
	if err := w.h.Reports(context.Background(), collect); err != nil || len(got) != 0 {
		t.Errorf("%d reports after it was dropped, %v", len(got), err)
	}
}

// TestReportsBounded: reporters cannot fill the store.
func TestReportsBounded(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: kv.Key{Group: "reports", Name: "d" + time.Now().UTC().Format(time.DateOnly)}, Value: []byte{0, 0, 0, 0, 4, 0, 0, 0}}}); err != nil {
		t.Fatal(err)
	}
	e, salt, data := alice.franked("x")
	frank, _ := e.Body.(*seal.MessageEvent).Frank.AppendBinary(nil)
	_, err := do(w, call{method: seal.MethodReportAbuse, groupID: alice.groupID(), kind: seal.AuthNone, ear: alice.ear},
		&hubv1.ReportAbuseRequest{ApplicationData: data, Salt: salt[:], Frank: frank, Sender: alice.tbs.User.String(), AcceptedMs: e.AcceptedMS}, new(hubv1.ReportAbuseResponse))
	w.wantCode(err, mmrerr.RateLimited)
}

// TestMute: the operator silences a pseudonym in one room, over the admin
// listener; rooms change under it as before.
func TestMute(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	admin := w.h.Admin()
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRecorder()
		admin.ServeHTTP(r, httptest.NewRequest(method, path, strings.NewReader(body)))
		return r
	}
	mute := func(room string, user pseudonym.ID, muted bool) int {
		return ask("POST", "/hub/mute", fmt.Sprintf(`{"room":%q,"pseudonym":%q,"muted":%v}`, room, user, muted)).Code
	}
	uri := pseudonym.RoomURI(hubDomain, alice.groupID())
	for _, c := range []struct {
		code int
		want int
	}{
		{mute(uri, bob.tbs.User, true), 204},
		{mute(uri, bob.tbs.User, true), 204},
		{mute(pseudonym.RoomURI(hubDomain, member.RandomGroupID()), bob.tbs.User, true), 404},
		{mute(pseudonym.RoomURI("other.example", alice.groupID()), bob.tbs.User, true), 400},
		{mute(uri, bob.tbs.Client, true), 400},
		{mute("x", bob.tbs.User, true), 400},
		{ask("POST", "/hub/mute", "{").Code, 400},
		{ask("GET", "/hub/mute", "").Code, 405},
	} {
		if c.code != c.want {
			t.Errorf("status %d, want %d", c.code, c.want)
		}
	}
	_, err := bob.submit(bob.message("muted"))
	w.wantCode(err, mmrerr.Role)
	s, err := alice.commit(commit{})
	if err != nil {
		t.Fatal(err)
	}
	bob.follow(s)
	_, err = bob.submit(bob.message("still muted"))
	w.wantCode(err, mmrerr.Role)
	if _, err := bob.commit(commit{}); err != nil {
		t.Errorf("a muted member may still commit: %v", err)
	}
	if code := mute(uri, bob.tbs.User, false); code != 204 {
		t.Errorf("status %d", code)
	}
	if _, err := bob.submit(bob.message("again")); err != nil {
		t.Error(err)
	}
	// The list of reports.
	e, salt, data := bob.franked("something")
	frank, _ := e.Body.(*seal.MessageEvent).Frank.AppendBinary(nil)
	if _, err = do(w, call{method: seal.MethodReportAbuse, groupID: alice.groupID(), kind: seal.AuthNone, ear: alice.ear},
		&hubv1.ReportAbuseRequest{ApplicationData: data, Salt: salt[:], Frank: frank, Sender: bob.tbs.User.String(), AcceptedMs: e.AcceptedMS}, new(hubv1.ReportAbuseResponse)); err != nil {
		t.Fatal(err)
	}
	var line struct {
		ID, Room, Pseudonym string
		Content             []byte
	}
	if err := json.Unmarshal(ask("GET", "/hub/reports", "").Body.Bytes(), &line); err != nil || line.Room != uri || line.Pseudonym != bob.tbs.User.String() || string(line.Content) != string(data) {
		t.Errorf("listed %+v, %v", line, err)
	}
	if code := ask("DELETE", "/hub/reports/"+line.ID, "").Code; code != 204 {
		t.Errorf("status %d", code)
	}
	if b := ask("GET", "/hub/reports", "").Body.String(); b != "" {
		t.Errorf("after the deletion: %s", b)
	}
}
