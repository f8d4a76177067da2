package group

// WithRules returns the state with other rules, for a step whose judgement
// depends on more than the message. The states that the step returns keep them.
func (g *Public) WithRules(r Rules) *Public {
	n := *g.s
	n.rules = r
	return n.Public()
}
