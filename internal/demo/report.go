package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mmrelay/mmrelay/internal/spell"
)

// fact is a row of the table: what to look for, and who may have it.
type fact struct {
	name string
	find []spell.Needle
	with []spell.Needle // if not nil: only where found together with one of these
	may  []string       // parties that see it, by design
	why  string         // of a "yes"
}

// facts are what DESIGN.md section 2 says about who knows what.
func (t *truth) facts() []fact {
	alice, bob, carol := t.people[0], t.people[1], t.people[2]
	names := func(ps ...*person) []spell.Needle {
		var out []spell.Needle
		for _, p := range ps {
			out = append(out, spell.All("/u/"+p.name, "/d/"+p.name+"-phone", p.name+"-phone")...)
		}
		return out
	}
	mailboxes := func(ps ...*person) []spell.Needle {
		var out []spell.Needle
		for _, p := range ps {
			out = append(out, spell.Of(p.account.QueueID))
		}
		return out
	}
	var rooms []spell.Needle
	for _, id := range t.roomIDs {
		rooms = append(rooms, spell.Of(id))
	}
	return []fact{
		{name: "account of alice", find: names(alice), may: []string{aDomain}, why: "its own user"},
		{name: "accounts of bob, carol", find: names(bob, carol), may: []string{bDomain}, why: "its own users"},
		{name: "room ids", find: rooms, may: []string{hubDomain}, why: "it orders the rooms"},
		{name: "pseudonym of alice in the room", find: spell.All(t.own...), may: []string{hubDomain}, why: "it checks roles by it"},
		{name: "pseudonyms of bob, carol", find: spell.All(t.pooled...), may: []string{hubDomain, bDomain}, why: "roster / KeyPackage pool"},
		{name: "pseudonym together with account", find: spell.All(append(slices.Clone(t.own), t.pooled...)...), with: names(alice, bob, carol)},
		{name: "mailbox id of alice", find: mailboxes(alice), may: []string{aDomain}, why: "it keeps the mailbox"},
		{name: "mailbox ids of bob, carol", find: mailboxes(bob, carol), may: []string{bDomain}, why: "it keeps the mailboxes"},
		{name: "mailbox together with account", find: mailboxes(alice, bob, carol), with: names(alice, bob, carol)},
		{name: "token of bob's pool", find: []spell.Needle{spell.Of(t.bobToken)}, may: []string{bDomain}, why: "shown to fetch from the pool"},
		{name: "what is done in rooms (methods)", find: spell.All("hub.Submit", "hub.Update", "hub.CreateRoom"), may: []string{hubDomain}, why: "it serves them"},
		{name: "message texts", find: spell.All(t.texts...)},
	}
}

// report prints the table and reports whether a party saw what it must not, or
// did not see what the search must find (a search that finds nothing proves nothing).
func report(w io.Writer, facts []fact, parties []*party) (wrong bool) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(tw, "What each party saw")
	for _, p := range parties {
		_, _ = fmt.Fprintf(tw, "\t%s", p.name)
	}
	_, _ = fmt.Fprintln(tw)
	var complaints []string
	for _, f := range facts {
		_, _ = fmt.Fprint(tw, f.name)
		for _, p := range parties {
			n := p.count(f.find)
			if f.with != nil {
				n = p.joins(f.find, f.with)
			}
			cell := "no"
			if n > 0 {
				cell = fmt.Sprintf("yes, %s (%d)", f.why, n)
			}
			if may := slices.Contains(f.may, p.name); may != (n > 0) {
				cell = strings.ToUpper(cell) + " <-- WRONG"
				complaints = append(complaints, fmt.Sprintf("%s: %s", p.name, f.name))
			}
			_, _ = fmt.Fprintf(tw, "\t%s", cell)
		}
		_, _ = fmt.Fprintln(tw)
	}
	_, _ = fmt.Fprint(tw, "connections of clients")
	for _, p := range parties {
		_, _ = fmt.Fprintf(tw, "\t%d", len(p.clients))
		if p.name == hubDomain && len(p.clients) > 0 {
			complaints = append(complaints, "a client connected to the hub")
		}
	}
	_, _ = fmt.Fprint(tw, "\nother operators that called")
	for _, p := range parties {
		var names []string
		for n := range p.callers {
			names = append(names, n)
		}
		slices.Sort(names)
		_, _ = fmt.Fprintf(tw, "\t%s", strings.Join(names, ", "))
	}
	_, _ = fmt.Fprint(tw, "\nrecords searched")
	for _, p := range parties {
		_, _ = fmt.Fprintf(tw, "\t%d", len(p.records))
	}
	_, _ = fmt.Fprintln(tw)
	_ = tw.Flush() // as far as the terminal takes it
	for _, c := range complaints {
		_, _ = fmt.Fprintln(w, "WRONG:", c)
	}
	return len(complaints) > 0
}
