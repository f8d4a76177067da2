package main

// Files that many mutants edit.
const (
	applyFile     = "internal/group/apply.go"
	contentFile   = "internal/group/content.go"
	infoFile      = "internal/group/info.go"
	leafFile      = "internal/group/leafcheck.go"
	listFile      = "internal/group/list.go"
	pathFile      = "internal/group/path.go"
	prepareFile   = "internal/group/prepare.go"
	proposalsFile = "internal/group/proposals.go"
	publicFile    = "internal/group/public.go"
	stateFile     = "internal/group/state.go"

	changeFile   = "internal/tree/change.go"
	encodeFile   = "internal/tree/encode.go"
	treePathFile = "internal/tree/path.go"
	validateFile = "internal/tree/validate.go"

	keysFile     = "internal/secret/keys.go"
	privateFile  = "internal/secret/private.go"
	ratchetFile  = "internal/secret/ratchet.go"
	scheduleFile = "internal/secret/schedule.go"
	secretTree   = "internal/secret/tree.go"

	hpkeFile   = "internal/suite/hpke.go"
	kdfFile    = "internal/suite/kdf.go"
	secretFile = "internal/suite/secret.go"
	signFile   = "internal/suite/sign.go"

	framingFile = "internal/wire/framing.go"
	messageFile = "internal/wire/message.go"
	readerFile  = "internal/wire/reader.go"
	wirePrivate = "internal/wire/private.go"
	capsFile    = "internal/wire/capabilities.go"
	extFile     = "internal/wire/extension.go"

	buildFile     = "member/build.go"
	createFile    = "member/create.go"
	identityFile  = "member/identity.go"
	joinFile      = "member/join.go"
	pastFile      = "member/past.go"
	receiveFile   = "member/receive.go"
	sendFile      = "member/send.go"
	stageFile     = "member/stage.go"
	unprotectFile = "member/unprotect.go"

	codecFile = "../codec/codec.go"
)

// lessons breaks rules 1 to 30.
var lessons = []mutant{
	{1, "the epoch_secret of epoch 0 is zeros", "member", "TestEpochZeroSecretIsRandom", []edit{{
		scheduleFile, "epoch := suite.RandomSecret(s.HashSize())", "epoch := s.ZeroSecret()",
	}}},
	{1, "epoch 0 comes from zero init and commit secrets", "member", "TestPublicObserverLearnsNothing", []edit{{
		createFile, "secrets := secret.RandomEpoch(s)",
		"zero := state.Context().Raw()\n\tsecrets := secret.NewEpoch(s, secret.Member(s, secret.Joiner(s, s.ZeroSecret(), s.ZeroSecret(), zero), s.ZeroSecret()), zero)",
	}}},
	{2, "the confirmation tag is not compared", "member", "TestRefusedCommitLeavesNoTrace", []edit{
		off(receiveFile, "if !s.VerifyMAC(e.secrets.Confirmation, p.NewContext.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {"),
	}},
	{2, "a wrong confirmation tag costs the init secret", "member", "TestRefusedCommitLeavesNoTrace", []edit{{
		receiveFile, "\t\te.wipe()\n\t\treturn nil, wire.Refuse(wire.RuleConfirmationTag)",
		"\t\te.wipe()\n\t\tg.cur.secrets.Init.Wipe()\n\t\treturn nil, wire.Refuse(wire.RuleConfirmationTag)",
	}}},
	{2, "a wrong confirmation tag costs the replaced private keys", "member", "TestRefusedCommitLeavesNoTrace", []edit{{
		receiveFile, "\t\te.wipe()\n\t\treturn nil, wire.Refuse(wire.RuleConfirmationTag)",
		"\t\te.wipe()\n\t\tg.cur.keys.Secrets(suite.Secret.Wipe)\n\t\treturn nil, wire.Refuse(wire.RuleConfirmationTag)",
	}}},
	{3, "secrets print themselves", "member", "TestNoSecretInText", []edit{{
		secretFile, "func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }",
		"func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, fmt.Sprintf(\"%x\", s.Bytes())) }",
	}}},
	{3, "a refusal prints a secret", "member", "TestNoSecretInText", []edit{{
		receiveFile, "\t\te.wipe()\n\t\treturn nil, wire.Refuse(wire.RuleConfirmationTag)",
		"\t\treturn nil, wire.Refuse(wire.Rule(g.cur.secrets.Init.Bytes()))",
	}}},
	{3, "a Secret is behind one pointer only", "member", "TestNoSecretInText", []edit{{
		"member/keypackage.go", "\tleaf   suite.Secret\n\tsigner Signer\n}", "\tleaf   suite.Secret\n\tsigner Signer\n\tplain  *[]byte\n}",
	}, {
		"member/keypackage.go", "\treturn k, nil\n}\n\n// ImportKeyPackage", "\tplain := k.leaf.Bytes()\n\tk.plain = &plain\n\treturn k, nil\n}\n\n// ImportKeyPackage",
	}}},
	{4, "a lost race leaves the staged commit", "member", "TestLostRaceKeepsPathKeys", []edit{{
		pastFile, "n.cur, n.pending = e, nil", "n.cur = e",
	}}},
	{4, "staging puts the new keys in place of the old ones", "member", "TestLostRaceKeepsPathKeys", []edit{{
		stageFile, "\tn.pending = staged\n\treturn n, staged, nil",
		"\tn.pending = staged\n\te := *n.cur\n\te.keys = staged.next.keys\n\tn.cur = &e\n\treturn n, staged, nil",
	}}},
	{4, "discarding wipes the init secret", "member", "TestDiscardIsNoOp", []edit{{
		stageFile, "\tn := g.next()\n\tn.pending = nil", "\tn := g.next()\n\tn.cur.secrets.Init.Wipe()\n\tn.pending = nil",
	}}},
	{4, "discarding drops stored proposals", "member", "TestDiscardIsNoOp", []edit{{
		stageFile, "\tn := g.next()\n\tn.pending = nil",
		"\tn := g.next()\n\te := *n.cur\n\te.pub = e.pub.Without(func(*mls.Proposal) bool { return true })\n\tn.cur = &e\n\tn.pending = nil",
	}}},
	{5, "a new leaf of a member loses its extensions", "member", "TestLeafContentSurvives", []edit{{
		identityFile, "\t\tExtensions:   old.Extensions,\n", "",
	}}},
	{5, "a new leaf of a member gets the default capabilities", "member", "TestLeafContentSurvives", []edit{{
		identityFile, "\t\tCapabilities: old.Capabilities,\n", "\t\tCapabilities: DefaultCapabilities(1),\n",
	}}},
	{5, "a first leaf loses its extensions", "member", "TestLeafContentSurvives", []edit{{
		identityFile, "\t\tExtensions:   id.Extensions,\n", "",
	}}},
	{5, "the tree keeps the old leaf of an Update", ".", "TestLeafContentSurvives", []edit{{
		applyFile, "q.Update.Clone())", "(&wire.LeafNode{EncryptionKey: q.Update.EncryptionKey, SignatureKey: q.Update.SignatureKey, Credential: q.Update.Credential, Capabilities: q.Update.Capabilities, Source: q.Update.Source}).Seal())",
	}}},
	{6, "other proposals in an external commit", ".", "TestExternalCommitProposals", []edit{{
		listFile, "\t\tdefault:\n\t\t\treturn wire.Refuse(wire.RuleExternalProposals)\n", "\t\tdefault:\n",
	}}},
	{6, "two ExternalInits", ".", "TestExternalCommitProposals", []edit{off(listFile, "if inits != 1 {")}},
	{6, "two Removes in an external commit", ".", "TestExternalCommitProposals", []edit{off(listFile, "if removes > 1 {")}},
	{6, "an external Remove of anybody", ".", "TestExternalRemoveOnlySelf", []edit{
		off(pathFile, "if err := s.checkSuccessor(s.tree.Leaf(p.Removed[0]), leaf, PlaceCommit); err != nil {"),
	}},
	{6, "an external joiner twice in the group", ".", "TestExternalRemoveOnlySelf", []edit{{
		pathFile, "\treturn s.checkAbsent([]*wire.LeafNode{leaf}, removed)", "\treturn nil",
	}}},
	{7, "a committer removes itself, seen by the server", ".", "TestCommitterRemovesItself", []edit{off(listFile, "if p.Remove == committer {")}},
	{7, "a committer removes itself, seen by members", "member", "TestCommitterRemovesItself", []edit{off(listFile, "if p.Remove == committer {")}},
	{7, "a removed leaf stays", ".", "TestNoGhostMember", []edit{{changeFile, "t = t.Update(i, nil)", "t = t.Update(i, t.Leaf(i))"}}},
	{7, "a removed leaf stays, seen by members", "member", "TestNoGhostMember", []edit{{changeFile, "t = t.Update(i, nil)", "t = t.Update(i, t.Leaf(i))"}}},
	{8, "a built-in list judges extensions", ".", "TestPrivateGroupContextExtension", []edit{{
		capsFile, "return t.Default() || slices.Contains(c.Extensions, t)", "return t.Default()",
	}}},
	{8, "unknown extensions are always supported", ".", "TestPrivateGroupContextExtension", []edit{{
		capsFile, "return t.Default() || slices.Contains(c.Extensions, t)", "return true",
	}}},
	{9, "more elements than the limit", "internal/wire", "TestLengthBombs", []edit{off(readerFile, "if len(vs) == limit {")}},
	{9, "memory for what a header announces", "internal/wire", "TestLengthBombs", []edit{{
		codecFile, "\tif headerSize(n) != size ||", "\t_ = make([]byte, n)\n\tif headerSize(n) != size ||",
	}}},
	{10, "a staged commit is not saved", "member", "TestReloadPendingCommit", []edit{
		{"member/state.go", "if p := g.pending; p != nil {\n\t\tb = section(b, publicPending", "if p := g.pending; false {\n\t\tb = section(b, publicPending"},
		{"member/state.go", "if p := g.pending; p != nil {\n\t\tb = section(b, privatePending", "if p := g.pending; false {\n\t\tb = section(b, privatePending"},
	}},
	{10, "the Welcome of a staged commit is not saved", "member", "TestReloadPendingCommit", []edit{{
		"member/state.go", "return codec.AppendVector(b, p.welcome)", "return codec.AppendVector(b, []byte(nil))",
	}}},
	{11, "late messages are judged by today's tree", "member", "TestLateMessageOfRemovedMember", []edit{{
		unprotectFile, "return g.pastLeaf(at, i) }", "return g.cur.pub.Tree().Leaf(i) }",
	}}},
	{11, "changed leaves of past epochs are looked up in the newest only", "member", "TestLateMessageOfRemovedMember", []edit{{
		pastFile, "\tfor ; n >= 0; n-- {\n\t\tif leaf, changed := g.past[n].leaves[i]; changed {",
		"\tif n >= 0 {\n\t\tif leaf, changed := g.past[0].leaves[i]; changed {",
	}}},
	{12, "the own removal is a commit like any other", "member", "TestOwnRemoval", []edit{off(receiveFile, "if g.removedBy(p.Plan) {")}},
	{12, "a removed member keeps its epoch", "member", "TestOwnRemoval", []edit{{
		receiveFile, "*n = Group{opts: g.opts, last: g.cur.pub,", "*n = Group{opts: g.opts, last: g.cur.pub, cur: g.cur,",
	}}},
	{12, "a removed member's secrets stay in memory", "member", "TestRetireWipesMemory", []edit{{
		"member/retire.go", "\t\tif !kept[s] {\n\t\t\ts.Wipe()", "\t\tif !kept[s] && next != nil && next.cur != nil {\n\t\t\ts.Wipe()",
	}}},
	{13, "an Update by value", ".", "TestUpdateByValue", []edit{{listFile, "case p.Ref == nil: //", "case false: //"}}},
	{13, "an Update of somebody else's leaf", ".", "TestUpdateByValue", []edit{
		off(leafFile, "if err := checkLeaf(s.suite, leaf, s.context.GroupID, i); err != nil {"),
	}},
	{13, "a committer's own Update", ".", "TestUpdateByValue", []edit{{listFile, "case wire.LeafIndex(p.Sender.Index) == committer:", "case false:"}}},
	{13, "an Update by value, seen by members", "member", "TestUpdateByValue", []edit{{listFile, "case p.Ref == nil: //", "case false: //"}}},
	{13, "proposals outlive their epoch", ".", "TestStaleUpdate", []edit{{
		prepareFile, "tree: plan.Tree, closed: plan.ReInit != nil}", "tree: plan.Tree, closed: plan.ReInit != nil, stored: s.stored}",
	}}},
	{13, "proposals outlive their epoch, seen by members", "member", "TestStaleUpdate", []edit{{
		prepareFile, "tree: plan.Tree, closed: plan.ReInit != nil}", "tree: plan.Tree, closed: plan.ReInit != nil, stored: s.stored}",
	}}},
	{14, "no tree is an empty tree", "member", "TestWelcomeWithoutTree", []edit{{infoFile, "case treeBytes == nil:", "case false:"}}},
	{14, "a separate tree is not compared with the GroupContext", "member", "TestWelcomeWithSeparateTree", []edit{
		off(infoFile, "if !bytes.Equal(s.tree.Hash(), g.Context.TreeHash) {"),
	}},
	{14, "two different trees", "member", "TestWelcomeWithSeparateTree", []edit{{
		infoFile, "case ok && treeBytes != nil && !bytes.Equal(inside, treeBytes):", "case false:",
	}}},
	{15, "every element copies those before it", "internal/wire", "TestParseIsLinear", []edit{{
		readerFile, "vs = append(vs, element(sub))", "vs = append(append([]T(nil), vs...), element(sub))",
	}}},
	{15, "every element is read from its own copy of the rest", "internal/wire", "TestParseIsLinear", []edit{{
		readerFile, "vs = append(vs, element(sub))", "_ = append([]byte(nil), sub.Rest()...)\n\t\tvs = append(vs, element(sub))",
	}}},
	{16, "a stranger's Add is used before its type is known", ".", "TestStrangersProposal", []edit{
		off(leafFile, "if s.CheckPublicKey(p.InitKey) != nil || bytes.Equal(p.InitKey, p.Leaf.EncryptionKey) {"),
	}},
	{16, "a key of any length is taken for a point", ".", "TestStrangersProposal", []edit{{
		hpkeFile, "\tif _, err := s.kem.Scheme().UnmarshalBinaryPublicKey(public); err != nil {\n\t\treturn ErrKey\n\t}\n\tif smallOrder", "\t_ = public[31]\n\tif smallOrder",
	}}},
	{17, "one generation too far", "internal/secret", "TestGenerationJump", []edit{{ratchetFile, "if generation-r.next > l.Jump {", "if generation-r.next > l.Jump+1 {"}}},
	{17, "one generation too far, seen by members", "member", "TestGenerationJump", []edit{{ratchetFile, "if generation-r.next > l.Jump {", "if generation-r.next > l.Jump+1 {"}}},
	{17, "a thousand derivations before the refusal", "member", "TestGenerationJump", []edit{{
		ratchetFile, "\tif generation-r.next > l.Jump {\n", "\tif generation-r.next > l.Jump {\n\t\tfor n, i := r, 0; i < 1000; i++ {\n\t\t\tn = n.advance(s)\n\t\t}\n",
	}}},
	{18, "the ratchet does not turn", "member", "TestStolenStateReadsNothingOld", []edit{{
		ratchetFile, "n.secret = s.DeriveTreeSecret(r.secret, \"secret\", r.next, s.HashSize())", "n.secret = r.secret",
	}}},
	{18, "a leaf's node secret is saved beside its ratchets", "member", "TestStolenStateReadsNothingOld", []edit{
		{secretTree, "return &node{ratchets: changed}, nil", "return &node{secret: n.secret}, nil"},
	}},
	{18, "a parent's secret stays when both children exist", "member", "TestStolenStateReadsNothingOld", []edit{
		{"internal/secret/state.go", "\tcase n.left != nil:\n\t\tb = append(b, nodeParent)", "\tcase n.left != nil && !n.secret.IsSet():\n\t\tb = append(b, nodeParent)"},
		{secretTree, "return &node{left: left, right: right}, nil", "return &node{secret: n.secret.Clone(), left: left, right: right}, nil"},
	}},
	{18, "past epochs stay for ever", "member", "TestStolenStateReadsNothingOld", []edit{{
		pastFile, "window(prepend(old.retirement(e.pub), g.past), l.PastEpochs)", "prepend(old.retirement(e.pub), g.past)",
	}}},
	{18, "used keys stay in memory", "internal/secret", "TestUsedKeysAreGone", []edit{{
		secretTree, "\t\tif !kept[s] {\n\t\t\ts.Wipe()", "\t\tif kept[s] {\n\t\t\t_ = s",
	}}},
	{18, "used keys stay in memory, seen by members", "member", "TestRetireWipesMemory", []edit{{
		secretTree, "\t\tif !kept[s] {\n\t\t\ts.Wipe()", "\t\tif kept[s] {\n\t\t\t_ = s",
	}}},
	{18, "secrets of the old epoch stay in memory", "member", "TestRetireWipesMemory", []edit{{
		"member/retire.go", "\t\tif !kept[s] {\n\t\t\ts.Wipe()", "\t\tif kept[s] {\n\t\t\t_ = s",
	}}},
	{18, "what the next state holds is cleared too", "member", "TestRetireWipesMemory", []edit{{
		"member/retire.go", "\t\tif !kept[s] {\n\t\t\ts.Wipe()", "\t\tif true {\n\t\t\ts.Wipe()",
	}}},
	{19, "resumption secrets stay for ever", "member", "TestStateDoesNotGrow", []edit{{
		pastFile, "window(prepend(r, g.resumption), l.ResumptionSecrets)", "prepend(r, g.resumption)",
	}}},
	{19, "past epochs stay for ever", "member", "TestStateDoesNotGrow", []edit{{
		pastFile, "window(prepend(old.retirement(e.pub), g.past), l.PastEpochs)", "prepend(old.retirement(e.pub), g.past)",
	}}},
	{20, "the creator's confirmation tag is empty", "member", "TestGroupInfoByCreatorAndJoiner", []edit{{
		createFile, "tag := s.MAC(secrets.Confirmation, state.Context().ConfirmedTranscriptHash)", "tag := []byte{}",
	}}},
	{20, "an external joiner's state has no confirmation tag", "member", "TestGroupInfoByCreatorAndJoiner", []edit{{
		buildFile, "e.pub = p.Finish(a.Auth.ConfirmationTag)", "e.pub = p.Finish(nil)",
	}}},
	{20, "the external_pub is of another secret", "member", "TestGroupInfoByCreatorAndJoiner", []edit{{
		"member/groupinfo.go", "public, private, err := e.secrets.ExternalKey(e.pub.Suite())", "public, private, err := e.pub.Suite().GenerateKeyPair()",
	}}},
	{21, "required_capabilities has two vectors", ".", "TestRequiredCapabilitiesWire", []edit{{
		extFile, "\t\t\tCredentials: uint16s[CredentialType](r, l.Capabilities),\n", "",
	}}},
	{21, "required_capabilities is written with two vectors", ".", "TestRequiredCapabilitiesWire", []edit{{
		extFile, "return Extension{ExtensionRequiredCapabilities, appendUint16s(b, c.Credentials)}", "return Extension{ExtensionRequiredCapabilities, b}",
	}}},
	{22, "parsed messages alias the input", ".", "TestNoAliasing", []edit{{
		readerFile, "r := &reader{codec.NewReader(bytes.Clone(b)), l}", "_ = bytes.Clone(b)\n\tr := &reader{codec.NewReader(b), l}",
	}}},
	{22, "a leaf is handed out as it is", ".", "TestNoAliasing", []edit{{
		publicFile, "return g.s.tree.Leaf(i).Clone() }", "return g.s.tree.Leaf(i) }",
	}}},
	{22, "a saved state is loaded in place", ".", "TestNoAliasing", []edit{{
		"internal/group/binary.go", "r := codec.NewReader(bytes.Clone(b))", "r := codec.NewReader(b)",
	}}},
	{22, "an event's leaf is the tree's", ".", "TestNoAliasing", []edit{
		{prepareFile, "v.PathLeaf = v.PathLeaf.Clone()", "_ = v.PathLeaf.Clone()"},
		{pathFile, "p.Tree.Merge(p.Committer, p.Path.Leaf.Clone(), p.Steps, nodes)", "p.Tree.Merge(p.Committer, p.Path.Leaf, p.Steps, nodes)"},
	}},
	{22, "a proposal that is stored is the caller's", "member", "TestNoAliasing", []edit{{
		sendFile, "p, err := wire.ParseProposal(p.Raw(), pub.Limits())", "p, err := p, error(nil)",
	}}},
	{22, "the epoch authenticator is handed out as it is", "member", "TestNoAliasing", []edit{{
		"member/group.go", "return append([]byte(nil), g.cur.secrets.Authenticator.Bytes()...)", "return g.cur.secrets.Authenticator.Bytes()",
	}}},
	{23, "bytes after a message", ".", "TestNoSecondParse", []edit{{
		readerFile, "if err := r.Done(); err != nil {\n\t\treturn nil, parseError(err)", "if err := r.Err(); err != nil {\n\t\treturn nil, parseError(err)",
	}}},
	{23, "any protocol version", ".", "TestNoSecondParse", []edit{off(messageFile, "if ProtocolVersion(r.Uint16()) != MLS10 {")}},
	{24, "the rules log", ".", "TestNoLogging", []edit{{
		"internal/group/fits.go", "import (\n\t\"slices\"\n", "import (\n\t\"log\"\n\t\"slices\"\n",
	}, {
		"internal/group/fits.go", "func (s *State) Fits(", "func init() { log.SetFlags(0) }\n\nfunc (s *State) Fits(",
	}}},
	{25, "a custom credential loses its body", ".", "TestCustomCredential", []edit{{
		"internal/wire/credential.go", "c.Body = r.Vector(r.l.Credential)", "r.Vector(r.l.Credential)",
	}}},
	{26, "authenticated data is not signed", ".", "TestAuthenticatedData", []edit{{
		framingFile, "parts := [][]byte{appendMessageHeader(nil, f), c.raw}", "d := *c\n\td.AAD = nil\n\tparts := [][]byte{appendMessageHeader(nil, f), d.Seal().raw}",
	}}},
	{26, "an event lacks its authenticated data", ".", "TestAuthenticatedData", []edit{{
		publicFile, "Sender: c.Sender, AAD: bytes.Clone(c.AAD)}", "Sender: c.Sender}",
	}}},
	{26, "an external commit lacks its authenticated data", "member", "TestAuthenticatedData", []edit{{
		"member/external.go", "commitOptions: &CommitOptions{AAD: o.AAD},", "commitOptions: &CommitOptions{},",
	}}},
	{26, "a proposal lacks its authenticated data", "member", "TestAuthenticatedData", []edit{{
		sendFile, "\t\tAAD:    bytes.Clone(aad),\n", "",
	}}},
	{27, "the caller's GroupInfo extensions are dropped", "member", "TestGroupInfoExtensions", []edit{{
		"member/groupinfo.go", "\tes = append(es, o.Extensions...)\n", "",
	}}},
	{27, "GroupInfo extensions get into the GroupContext", ".", "TestGroupInfoExtensions", []edit{{
		publicFile, "data, ok = g.s.context.Extension(t)\n", "if data, ok = g.s.context.Extension(t); !ok && g.s.info != nil {\n\t\tdata, ok = g.s.info.Extension(t)\n\t}\n",
	}}},
	{27, "an extension of the engine's own twice", "member", "TestGroupInfoExtensions", []edit{
		off("member/groupinfo.go", "if wire.DuplicateExtension(es) {"),
	}},
	{28, "external_pub is written as a bare key", ".", "TestExternalPubWire", []edit{{
		extFile, "return Extension{ExtensionExternalPub, codec.AppendVector(nil, key)}", "return Extension{ExtensionExternalPub, key}",
	}}},
	{28, "external_pub is read as a bare key", ".", "TestExternalPubWire", []edit{{
		extFile, "\t\tv := r.opaque()\n\t\treturn &v", "\t\tv := r.Bytes(len(r.Rest()))\n\t\treturn &v",
	}}},
	{29, "path secrets under the old extensions", ".", "TestProvisionalContext", []edit{{applyFile, "\t\tExtensions:              p.Extensions,", "\t\tExtensions:              old.Extensions,"}}},
	{29, "path secrets under the old epoch", ".", "TestProvisionalContext", []edit{{
		prepareFile, "p.PathContext = plan.Context(p.NewTree)", "p.PathContext = plan.Context(p.NewTree)\n\tp.PathContext.Epoch--\n\tp.PathContext.Seal()",
	}}},
	{29, "path secrets under the tree before the path", ".", "TestProvisionalContext", []edit{{
		prepareFile, "p.PathContext = plan.Context(p.NewTree)", "p.PathContext = plan.Context(plan.Tree)",
	}}},
	{29, "path secrets under the new transcript", "member", "TestProvisionalContext", []edit{{
		prepareFile, "\tp.NewContext = plan.context(p.NewTree, transcript)\n", "\tp.NewContext = plan.context(p.NewTree, transcript)\n\tp.PathContext = p.NewContext\n",
	}}},
	{30, "unmerged leaves are compared with blank nodes too", ".", "TestUnmergedLeavesBetween", []edit{{
		validateFile, "\t\t\tif m.parent == nil {\n\t\t\t\tcontinue\n\t\t\t}\n", "\t\t\tif m.parent == nil {\n\t\t\t\tif !y.IsLeaf() {\n\t\t\t\t\treturn false\n\t\t\t\t}\n\t\t\t\tcontinue\n\t\t\t}\n",
	}}},
	{30, "unmerged leaves are compared with nodes above", ".", "TestUnmergedLeavesBetween", []edit{{
		validateFile, "\tif !n.unmergedValid(x) {",
		"\tif x != t.Root() && t.root.parent != nil {\n\t\tfor _, i := range n.parent.UnmergedLeaves {\n\t\t\tif !slices.Contains(t.root.parent.UnmergedLeaves, i) {\n\t\t\t\treturn wire.Refuse(wire.RuleTreeUnmerged)\n\t\t\t}\n\t\t}\n\t}\n\tif !n.unmergedValid(x) {",
	}}},
}
