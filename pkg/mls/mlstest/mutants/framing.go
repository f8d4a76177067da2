package main

// framing breaks rules 55 to 72.
var framing = []mutant{
	{55, "a header longer than it need be", "internal/wire", "TestCodecStrict", []edit{{codecFile, "if headerSize(n) != size || n >", "if n >"}}},
	{55, "the prefix 11", "internal/wire", "TestCodecStrict", []edit{{codecFile, "if size == 8 || len(r.b) < size {", "if len(r.b) < size {"}, {codecFile, "if headerSize(n) != size || n >", "if headerSize(n) != size && size != 8 || n >"}}},
	{55, "any presence byte", "internal/wire", "TestCodecStrict", []edit{{codecFile, "\tr.Fail(ErrMalformed)\n\treturn false\n}\n\n// Length", "\treturn r.err == nil\n}\n\n// Length"}}},
	{55, "a vector that its elements do not fill", "internal/wire", "TestCodecStrict", []edit{{
		readerFile, "\tr.Join(sub.Reader)\n\treturn vs", "\treturn vs",
	}}},
	{55, "half a number at a vector's end", "internal/wire", "TestCodecStrict", []edit{{
		readerFile, "\tcase len(v)%2 != 0:\n\t\tr.malformed()\n", "",
	}}},
	{55, "any PSK type", "internal/wire", "TestCodecStrict", []edit{{
		"internal/wire/psk.go", "\tdefault:\n\t\tr.malformed()\n\t}\n\tp.Nonce", "\t}\n\tp.Nonce",
	}}},
	{55, "any PSK usage", "internal/wire", "TestCodecStrict", []edit{off("internal/wire/psk.go", "if p.Usage < UsageApplication || p.Usage > UsageBranch {")}},
	{55, "bytes after a structure", "internal/wire", "TestCodecStrict", []edit{{
		readerFile, "if err := r.Done(); err != nil {\n\t\treturn nil, parseError(err)", "if err := r.Err(); err != nil {\n\t\treturn nil, parseError(err)",
	}}},
	{55, "a byte that nobody signs", ".", "TestEveryByteCounts", []edit{{
		framingFile, "[][]byte{appendMessageHeader(nil, f), c.raw}", "[][]byte{appendMessageHeader(nil, f), c.raw[:len(c.raw)-1]}",
	}}},
	{56, "application data in a PublicMessage", ".", "TestFramingCombinations", []edit{
		off(contentFile, "if c.ContentType == wire.ContentApplication && a.Format != wire.FormatPrivateMessage {"),
	}},
	{56, "an external commit with another content", ".", "TestFramingCombinations", []edit{{
		contentFile, "\t\tif c.ContentType != wire.ContentCommit {\n\t\t\treturn wire.Refuse(wire.RuleSenderContent)", "\t\tif c.ContentType != wire.ContentCommit {\n\t\t\treturn wire.Refuse(wire.RuleSender)",
	}}},
	{56, "a new member's commit as if a proposal", ".", "TestFramingCombinations", []edit{{
		contentFile, "// RFC 9420 §6.1: a new member proposes its own Add.\n\t\tif c.ContentType != wire.ContentProposal {",
		"if c.ContentType == wire.ContentCommit {\n\t\t\treturn nil\n\t\t}\n\t\tif c.ContentType != wire.ContentProposal {",
	}}},
	{56, "a member's message without its membership tag", ".", "TestFramingCombinations", []edit{{
		messageFile, "\tif m.Content.Sender.Type == SenderMember {\n\t\tm.MembershipTag = r.opaque()", "\tif m.Content.Sender.Type == SenderMember && !r.Empty() {\n\t\tm.MembershipTag = r.opaque()",
	}}},
	{56, "a server takes any kind of message", ".", "TestFramingCombinations", []edit{{
		publicFile, "\tif m.Public == nil {\n\t\treturn nil, nil, wire.Refuse(wire.RuleWireFormat)", "\tif m.Public == nil {\n\t\treturn g, nil, nil",
	}}},
	{57, "a message of another group", ".", "TestEpochAndGroup", []edit{off(contentFile, "if !bytes.Equal(c.GroupID, s.context.GroupID) {")}},
	{57, "a message of another epoch", ".", "TestEpochAndGroup", []edit{off(contentFile, "if c.Epoch != s.context.Epoch {")}},
	{57, "a signature that does not cover the epoch's context", ".", "TestEpochAndGroup", []edit{
		{contentFile, "c.TBSParts(a.Format, s.context.Raw())...) {", "c.TBSParts(a.Format, s.context.Raw())...) && c.Commit != nil {"},
	}},
	{58, "padding that is not zero", "member", "TestPrivateMessageRules", []edit{off(wirePrivate, "if p != 0 {")}},
	{58, "a sender at a blank leaf", "member", "TestPrivateMessageRules", []edit{{unprotectFile, "if err != nil || leafOf(sd.Leaf) == nil {", "if err != nil {"}}},
	{58, "the content type is not authenticated", "member", "TestPrivateMessageRules", []edit{{
		wirePrivate, "\tb = binary.BigEndian.AppendUint64(b, m.Epoch)\n\treturn append(b, byte(m.ContentType))\n}\n\n// ContentAAD", "\treturn binary.BigEndian.AppendUint64(b, m.Epoch)\n}\n\n// ContentAAD",
	}, {
		wirePrivate, "\tb = m.ContentAAD(b)\n\tb = codec.AppendVector(b, m.EncryptedSenderData)", "\tb = codec.AppendVector(append(m.SenderDataAAD(b), byte(m.ContentType)), m.AAD)\n\tb = codec.AppendVector(b, m.EncryptedSenderData)",
	}}},
	{58, "authenticated data is not authenticated", "member", "TestPrivateMessageRules", []edit{{
		privateFile, "s.Seal(key.Key, nonce, m.ContentAAD(nil), content)", "s.Seal(key.Key, nonce, m.SenderDataAAD(nil), content)",
	}, {
		privateFile, "return s.Open(key.Key, nonce, m.ContentAAD(nil), m.Ciphertext)", "return s.Open(key.Key, nonce, m.SenderDataAAD(nil), m.Ciphertext)",
	}, {
		wirePrivate, "FramedContent{GroupID: m.GroupID, Epoch: m.Epoch, Sender: Sender{SenderMember, uint32(sender)}, AAD: m.AAD}", "FramedContent{GroupID: m.GroupID, Epoch: m.Epoch, Sender: Sender{SenderMember, uint32(sender)}}",
	}}},
	{59, "a forgery takes the key with it", "member", "TestForgeryBurnsNoKey", []edit{{
		unprotectFile, "\t\t// What was derived for a forgery goes; the tree keeps all it had.\n\t\tsecret.RetireTree(next, t)", "\t\tsecret.RetireTree(t, next)",
	}}},
	{59, "a forgery that decrypts takes the key with it", "member", "TestForgeryBurnsNoKey", []edit{{
		unprotectFile, "\t\tif err != nil {\n\t\t\tsecret.RetireTree(tree, g.cur.tree)", "\t\tif err != nil {\n\t\t\tsecret.RetireTree(g.cur.tree, tree)",
	}}},
	{59, "a message is read twice", "member", "TestReplay", []edit{{unprotectFile, "\t\te.tree = tree\n\t\tn.cur = &e\n", "\t\t_ = tree\n\t\tn.cur = &e\n"}}},
	{59, "a skipped message is read twice", "member", "TestReplay", []edit{{
		ratchetFile, "n.skipped = append(append([]MessageKey(nil), r.skipped[:i]...), r.skipped[i+1:]...)", "n.skipped = r.skipped[:len(r.skipped)+0*i]",
	}}},
	{59, "the reuse guard is zeros", "internal/secret", "TestReuseGuardIsRandomAndApplied", []edit{{
		privateFile, "\tcopy(sd.ReuseGuard[:], suite.RandomSecret(len(sd.ReuseGuard)).Bytes())\n", "",
	}}},
	{59, "the reuse guard is not applied", "internal/secret", "TestReuseGuardIsRandomAndApplied", []edit{{
		privateFile, "n.Bytes()[i] ^= sd.ReuseGuard[i]", "n.Bytes()[i] ^= 0",
	}}},
	{60, "sending beside uncommitted proposals", "member", "TestCommitBeforeSend", []edit{off(sendFile, "if len(g.cur.pub.Stored()) > 0 {")}},
	{61, "one ratchet for handshakes and data", "member", "TestOwnGeneration", []edit{
		{secretTree, "if key, changed[which], err = f(r[which]); err != nil {", "if key, changed[0], err = f(r[0]); err != nil {"},
	}},
	{61, "both ratchets start from one secret", "member", "TestOwnGeneration", []edit{{
		secretTree, "{secret: t.s.DeriveSecret(n.secret, \"application\")},", "{secret: t.s.DeriveSecret(n.secret, \"handshake\")},",
	}}},
	{61, "the own generation is not kept", "member", "TestOwnGeneration", []edit{{sendFile, "\te.tree = tree\n\tnext.cur = &e\n", "\t_ = tree\n\tnext.cur = &e\n"}}},
	{62, "the transcript lacks the wire format", ".", "TestTranscript", []edit{{
		framingFile, "return [][]byte{format, a.Content.raw, codec.AppendVector(nil, a.Auth.Signature)}", "return [][]byte{format[:0], a.Content.raw, codec.AppendVector(nil, a.Auth.Signature)}",
	}}},
	{62, "the transcript lacks the content", ".", "TestTranscript", []edit{{
		framingFile, "return [][]byte{format, a.Content.raw, codec.AppendVector(nil, a.Auth.Signature)}", "return [][]byte{format, codec.AppendVector(nil, a.Auth.Signature)}",
	}}},
	{62, "the transcript lacks the signature", ".", "TestTranscript", []edit{{
		framingFile, "return [][]byte{format, a.Content.raw, codec.AppendVector(nil, a.Auth.Signature)}", "return [][]byte{format, a.Content.raw}",
	}}},
	{62, "the interim hash lacks the confirmation tag", ".", "TestTranscript", []edit{{
		prepareFile, "wire.InterimTranscriptInput(s.tag))", "wire.InterimTranscriptInput(nil))",
	}}},
	{63, "a Welcome of another suite", "member", "TestWelcomeRules", []edit{off(joinFile, "if w.Suite != k.suite.ID() {")}},
	{63, "a GroupInfo of another suite inside", "member", "TestWelcomeRules", []edit{off(joinFile, "if info.Context.Suite != k.suite.ID() {")}},
	{63, "a joiner secret of any length", "member", "TestWelcomeRules", []edit{off(joinFile, "if len(parsed.JoinerSecret) != k.suite.HashSize() {")}},
	{63, "a group that was joined already", "member", "TestWelcomeRules", []edit{off(joinFile, "if o.Joined != nil && o.Joined(bytes.Clone(info.Context.GroupID)) {")}},
	{63, "a PSK for reinit or branch", "member", "TestWelcomeRules", []edit{
		off(joinFile, "if id.Type == wire.PSKResumption {"),
		{"member/group.go", "if id.Type != wire.PSKExternal || o.PSK == nil {", "if o.PSK == nil {"},
	}},
	{63, "a PSK nonce of any length", "member", "TestWelcomeRules", []edit{off(joinFile, "if len(id.Nonce) != s.HashSize() {")}},
	{63, "an unknown PSK is an empty one", "member", "TestWelcomeRules", []edit{{
		"member/group.go", "\t\t\treturn suite.Secret{}, wire.Refuse(rule)", "\t\t\tkey = s.ZeroSecret()",
	}}},
	{63, "the own leaf is somewhere", "member", "TestWelcomeRules", []edit{{
		joinFile, "if bytes.Equal(leaf.Raw(), k.public.Leaf.Raw()) {", "if bytes.Equal(leaf.SignatureKey, k.public.Leaf.SignatureKey) {",
	}}},
	{63, "a Welcome by the joiner itself", "member", "TestWelcomeRules", []edit{{joinFile, "if !found || e.own == info.Signer {", "if !found {"}}},
	{63, "the confirmation tag is not compared", "member", "TestWelcomeRules", []edit{
		off(joinFile, "if !s.VerifyMAC(e.secrets.Confirmation, state.Context().ConfirmedTranscriptHash, info.ConfirmationTag) {"),
	}},
	{64, "a signer at a blank leaf", ".", "TestGroupInfoRules", []edit{{
		infoFile, "\tsigner := s.tree.Leaf(g.Signer)\n\tif signer == nil {", "\tsigner := s.tree.Leaf(g.Signer)\n\tif signer == nil {\n\t\treturn nil\n\t}\n\tif signer == nil {",
	}}},
	{64, "a wrong signature", ".", "TestGroupInfoRules", []edit{
		off(infoFile, "if !s.suite.VerifyWithLabel(signer.SignatureKey, \"GroupInfoTBS\", g.TBS(), g.Signature) {"),
	}},
	{64, "another tree hash", ".", "TestGroupInfoRules", []edit{off(infoFile, "if !bytes.Equal(s.tree.Hash(), g.Context.TreeHash) {")}},
	{64, "an extension that a member lacks", ".", "TestGroupInfoRules", []edit{off(infoFile, "if !supports(c, s.context.Extensions, s.required) {")}},
	{64, "an extension twice", ".", "TestGroupInfoRules", []edit{off(infoFile, "if wire.DuplicateExtension(g.Extensions) {")}},
	{64, "a GroupInfo of another state", ".", "TestGroupInfoRules", []edit{off(infoFile, "if !bytes.Equal(g.Context.Raw(), s.context.Raw()) {")}},
	{64, "a GroupInfo with another tag", ".", "TestGroupInfoRules", []edit{off(infoFile, "if !bytes.Equal(g.ConfirmationTag, s.tag) {")}},
	{65, "nodes at any place", ".", "TestTreeRules", []edit{off(encodeFile, "if n.Leaf != nil && x%2 != 0 || n.Parent != nil && x%2 == 0 {")}},
	{65, "an even number of nodes", ".", "TestTreeRules", []edit{off(encodeFile, "if len(nodes)%2 == 0 {")}},
	{65, "a blank node at the end", ".", "TestTreeRules", []edit{off(encodeFile, "if last := nodes[len(nodes)-1]; last == (wire.Node{}) {")}},
	{65, "no nodes", ".", "TestTreeRules", []edit{{encodeFile, "return nil, wire.Refuse(wire.RuleTreeEmpty)", "return New(s, &wire.LeafNode{}, l), nil"}}},
	{65, "an invalid leaf", ".", "TestTreeRules", []edit{off(infoFile, "if err := checkLeaf(s.suite, leaf, s.context.GroupID, i); err != nil {")}},
	{65, "a parent hash by no chain", ".", "TestTreeRules", []edit{off(validateFile, "if !t.parentHashValid(n, x) {")}},
	{65, "an invalid key of a parent", ".", "TestTreeRules", []edit{off(validateFile, "if t.suite.CheckPublicKey(n.parent.EncryptionKey) != nil {")}},
	{65, "unmerged leaves in any order", ".", "TestTreeRules", []edit{{
		validateFile, "if k > 0 && n.parent.UnmergedLeaves[k-1] >= i || uint32(i)", "if _ = k; uint32(i)",
	}}},
	{65, "unmerged leaves elsewhere", ".", "TestTreeRules", []edit{{validateFile, " || !Contains(x, i) {", " {"}}},
	{65, "unmerged leaves that are merged between", ".", "TestTreeRules", []edit{{
		validateFile, "if _, ok := slices.BinarySearch(m.parent.UnmergedLeaves, i); !ok {", "if _, ok := slices.BinarySearch(m.parent.UnmergedLeaves, i); false && !ok {",
	}}},
	{65, "unmerged leaves that are blank", ".", "TestTreeRules", []edit{{validateFile, "\t\tif m.leaf == nil {\n\t\t\treturn false\n\t\t}\n", "\t\t_ = m\n"}}},
	{65, "a key twice", ".", "TestTreeRules", []edit{off(validateFile, "if !t.encryption.all(once) {")}},
	{66, "the path secret of a Welcome is not used", "member", "TestWelcomePathSecret", []edit{{joinFile, "if g.path.IsSet() {", "if g.path.IsSet() && e.own > 1<<30 {"}}},
	{66, "the path secret of a Welcome is that of a node too high", "member", "TestWelcomePathSecret", []edit{{
		"internal/secret/newpath.go", "return p.secrets[i].Clone(), true", "return p.secrets[len(p.secrets)-1+0*i].Clone(), true",
	}}},
	{67, "unknown key package extensions are refused", ".", "TestGrease", []edit{{
		leafFile, "if wire.DuplicateExtension(p.Extensions) {", "if len(p.Extensions) > 0 || wire.DuplicateExtension(p.Extensions) {",
	}}},
	{67, "unknown GroupInfo extensions are refused", ".", "TestGrease", []edit{{
		infoFile, "if wire.DuplicateExtension(g.Extensions) {", "if len(g.Extensions) > 2 || wire.DuplicateExtension(g.Extensions) {",
	}}},
	{67, "unknown capabilities are dropped", ".", "TestGrease", []edit{{
		capsFile, "Suites:      uint16s[CipherSuite](r, n),", "Suites:      slices.DeleteFunc(uint16s[CipherSuite](r, n), func(s CipherSuite) bool { return s > 7 }),",
	}}},
	{67, "unknown extensions are supported by all", ".", "TestGrease", []edit{{
		capsFile, "return t.Default() || slices.Contains(c.Extensions, t)", "return true",
	}}},
	{67, "versions are greased", "member", "TestGrease", []edit{{
		"grease.go", "Versions:    slices.Clone(c.Versions),", "Versions:    append(slices.Clone(c.Versions), ProtocolVersion(GreaseValue())),",
	}}},
	{67, "grease of any value", "member", "TestGrease", []edit{{"grease.go", "return 0x0a0a + 0x1010*n", "return 0x0a0a + 0x1011*n"}}},
	{68, "a suite that the creator does not list", "member", "TestCreateRules", []edit{
		{identityFile, "case !slices.Contains(c.Versions, wire.MLS10) || !slices.Contains(c.Suites, id.Suite):", "case false && !slices.Contains(c.Versions, wire.MLS10):"},
		off(leafFile, "if !slices.Contains(caps.Versions, wire.MLS10) || !slices.Contains(caps.Suites, s.ID()) {"),
	}},
	{68, "a group extension that the creator does not list", "member", "TestCreateRules", []edit{
		off(leafFile, "if !supports(&leaf.Capabilities, s.context.Extensions, s.required) {"),
	}},
	{68, "Rules.Credential is not asked", "member", "TestCreateRules", []edit{off(infoFile, "if err := credential(s.rules, leaf, PlaceOwn); err != nil {")}},
	{68, "group ids are constant", "member", "TestCreateRules", []edit{{createFile, "return suite.RandomSecret(32).Bytes() }", "return make([]byte, 32) }"}}},
	{68, "an empty lifetime", "member", "TestCreateRules", []edit{off(createFile, "if o.Lifetime.NotBefore >= o.Lifetime.NotAfter {")}},
	{69, "the init secret is zeros", "member", "TestKeyScheduleInputs", []edit{{receiveFile, "init := g.cur.secrets.Init\n", "init := s.ZeroSecret()\n"}, {stageFile, "init: g.cur.secrets.Init,", "init: g.cur.pub.Suite().ZeroSecret(),"}}},
	{69, "the psk_secret is zeros in spite of PSKs", "member", "TestKeyScheduleInputs", []edit{{
		"member/group.go", "return secret.PSKSecret(s, psks), nil", "return secret.PSKSecret(s, nil), nil",
	}}},
	{69, "the epoch's context is the old one", "member", "TestKeyScheduleInputs", []edit{
		{receiveFile, "secret.NewEpoch(s, member, p.NewContext.Raw())", "secret.NewEpoch(s, member, p.Old.Context().Raw())"},
		{buildFile, "secret.NewEpoch(st, member, p.NewContext.Raw())", "secret.NewEpoch(st, member, p.Old.Context().Raw())"},
	}},
	{69, "the commit_secret is zeros in spite of a path", "member", "TestKeyScheduleInputs", []edit{
		{receiveFile, "joiner := secret.Joiner(s, init, commit, p.NewContext.Raw())", "joiner := secret.Joiner(s, init, s.ZeroSecret(), p.NewContext.Raw())"},
		{buildFile, "commit = path.Commit()", "_ = path"},
	}},
	{70, "the exporter ignores its context", "member", "TestExporter", []edit{{scheduleFile, "s.Hash(context), n)", "s.Hash(), n)"}}},
	{70, "the exporter ignores its label", "member", "TestExporter", []edit{{scheduleFile, "base := s.DeriveSecret(e.Exporter, label)", "base := s.DeriveSecret(e.Exporter, \"\")"}}},
	{70, "an exported secret of any length", "member", "TestExporter", []edit{{kdfFile, "if n < 0 || n > 0xffff || n > 255*s.HashSize() {", "if n < 0 {"}}},
	{70, "an exported secret of a negative length", "member", "TestExporter", []edit{{kdfFile, "if n < 0 || n > 0xffff || n > 255*s.HashSize() {", "if n > 0xffff || n > 255*s.HashSize() {"}}},
	{71, "HPKE keys of small order", "internal/suite", "TestBadKeysAndSignatures", []edit{off(hpkeFile, "if smallOrder(s.kem, public) {")}},
	{71, "signature keys of any length", "internal/suite", "TestBadKeysAndSignatures", []edit{{
		signFile, "return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, message, sig)", "return ed25519.Verify(public, message, sig)",
	}}},
	{71, "an ECDSA signature with a byte more", "internal/suite", "TestBadKeysAndSignatures", []edit{{
		signFile, "return err == nil && ecdsa.VerifyASN1(key, e.digest(message), sig)", "return err == nil && (ecdsa.VerifyASN1(key, e.digest(message), sig) || len(sig) > 0 && ecdsa.VerifyASN1(key, e.digest(message), sig[:len(sig)-1]))",
	}}},
	{71, "any ECDSA signature", "internal/suite", "TestBadKeysAndSignatures", []edit{{
		signFile, "return err == nil && ecdsa.VerifyASN1(key, e.digest(message), sig)", "return err == nil && key != nil",
	}}},
	{72, "a key package of another suite", ".", "TestSuiteMismatch", []edit{off(leafFile, "if p.Version != wire.MLS10 || p.Suite != s.ID() {")}},
	{72, "a leaf of another suite", ".", "TestSuiteMismatch", []edit{{
		leafFile, "if !slices.Contains(caps.Versions, wire.MLS10) || !slices.Contains(caps.Suites, s.ID()) {", "if !slices.Contains(caps.Versions, wire.MLS10) {",
	}}},
	{72, "a GroupInfo of an unknown suite", ".", "TestSuiteMismatch", []edit{{
		infoFile, "s := &State{suite: suite.Get(g.Context.Suite), rules:", "s := &State{suite: suite.Get(1), rules:",
	}}},
}
