package main

// commits breaks rules 31 to 54.
var commits = []mutant{
	{31, "two Removes or Updates of one leaf", ".", "TestSameLeafTwice", []edit{off(listFile, "if touched[i] {")}},
	{31, "a reference twice", ".", "TestReferences", []edit{off(proposalsFile, "if used[p] {")}},
	{31, "an unknown reference", ".", "TestReferences", []edit{{
		proposalsFile, "\t\t\treturn nil, nil, wire.Refuse(wire.RuleReferenceUnknown)", "\t\t\tcontinue",
	}}},
	{31, "the same proposal message twice", ".", "TestReferences", []edit{off(proposalsFile, "if s.find(p.Ref) != nil {")}},
	{32, "a Remove of a blank leaf", ".", "TestRemoveBlank", []edit{off(proposalsFile, "if s.tree.Leaf(p.Remove) == nil {")}},
	{33, "two Adds of one client", ".", "TestAddSameClient", []edit{off(listFile, "if s.rules.SameClient(b, a) {")}},
	{33, "an Add of a present client", ".", "TestAddSameClient", []edit{off(listFile, "if s.rules.SameClient(leaf, f) {")}},
	{33, "an Add of a client that the list removes is refused", ".", "TestAddSameClient", []edit{off(listFile, "if removed[i] {")}},
	{34, "two GroupContextExtensions", ".", "TestProposalListShape", []edit{off(listFile, "if extensions++; extensions > 1 {")}},
	{34, "a PSK id twice", ".", "TestProposalListShape", []edit{off(listFile, "if q.Equal(*p.PSK) {")}},
	{34, "a ReInit beside others", ".", "TestProposalListShape", []edit{off(listFile, "if len(list) > 1 {")}},
	{34, "an ExternalInit from a member", ".", "TestProposalListShape", []edit{
		{listFile, "\t\tcase wire.ProposalExternalInit:\n\t\t\treturn wire.Refuse(wire.RuleExternalInit)\n", ""},
		{proposalsFile, "\t\treturn wire.Refuse(wire.RuleExternalInit)\n", ""},
	}},
	{34, "a re-initialized group goes on", ".", "TestProposalListShape", []edit{off(contentFile, "if s.closed {")}},
	{35, "a GroupContext extension twice", ".", "TestNewExtensionsSupported", []edit{off(stateFile, "if wire.DuplicateExtension(es) {")}},
	{35, "an extension that a member lacks", ".", "TestNewExtensionsSupported", []edit{{
		pathFile, "\t\treturn supports(c, p.Extensions, next.required)", "\t\treturn supports(c, nil, next.required)",
	}}},
	{35, "a required capability that a member lacks", ".", "TestNewExtensionsSupported", []edit{{
		pathFile, "\t\treturn supports(c, p.Extensions, next.required)", "\t\treturn supports(c, p.Extensions, nil)",
	}}},
	{35, "removed members count, added ones do not", ".", "TestNewExtensionsSupported", []edit{{
		pathFile, "if p.newExtensions && !p.NewTree.EveryCapabilities(", "if p.newExtensions && !p.Old.tree.EveryCapabilities(",
	}}},
	{35, "extensions in force do not bind new leaves", ".", "TestNewExtensionsSupported", []edit{
		off(leafFile, "if !supports(&leaf.Capabilities, s.context.Extensions, s.required) {"),
	}},
	{36, "a custom proposal that a member lacks", ".", "TestCustomProposalSupport", []edit{
		off(listFile, "if !removed[i] && !leaf.Capabilities.SupportsProposal(p.Type) {"),
	}},
	{36, "who is removed must support a custom proposal", ".", "TestCustomProposalSupport", []edit{{
		listFile, "if !removed[i] && !leaf.Capabilities.SupportsProposal(p.Type) {", "if _ = i; !leaf.Capabilities.SupportsProposal(p.Type) {",
	}}},
	{36, "a custom proposal that nobody registered", ".", "TestCustomProposalSupport", []edit{
		off("internal/wire/proposal.go", "if r.Err() == nil && !r.l.custom(p.Type) {"),
	}},
	{37, "a PSK nonce of any length", ".", "TestPSKProposals", []edit{off(proposalsFile, "if len(id.Nonce) != s.suite.HashSize() {")}},
	{37, "a PSK for reinit or branch", ".", "TestPSKProposals", []edit{
		off(proposalsFile, "if id.Type == wire.PSKResumption && id.Usage != wire.UsageApplication {"),
	}},
	{37, "any number of PSKs", ".", "TestPSKProposals", []edit{off(listFile, "if psks = append(psks, p.PSK); len(psks) > s.limits.PSKs {")}},
	{37, "an unknown PSK is an empty one", "member", "TestPSKs", []edit{{
		"member/group.go", "\t\t\treturn suite.Secret{}, wire.Refuse(rule)", "\t\t\tkey = s.ZeroSecret()",
	}}},
	{37, "PSKs in no order", "internal/secret", "TestVectorPSKSecret", []edit{{
		"internal/secret/psk.go", "label := binary.BigEndian.AppendUint16(append([]byte(nil), psk.ID...), uint16(i))", "label := binary.BigEndian.AppendUint16(append([]byte(nil), psk.ID...), uint16(0*i))",
	}}},
	{37, "the first PSK alone", "member", "TestPSKs", []edit{{
		"internal/secret/psk.go", "for i, psk := range psks {", "for i, psk := range psks[:min(1, len(psks))] {",
	}}},
	{38, "a ReInit to a lower version", ".", "TestReInitVersion", []edit{off(proposalsFile, "if p.ReInit.Version < wire.MLS10 {")}},
	{39, "an external sender beyond the list", ".", "TestExternalProposals", []edit{{
		contentFile, "\t\tif int64(c.Sender.Index) < int64(len(s.senders)) {\n\t\t\treturn s.senders[c.Sender.Index].SignatureKey, nil",
		"\t\tif len(s.senders) > 0 {\n\t\t\treturn s.senders[int(c.Sender.Index)%len(s.senders)].SignatureKey, nil",
	}}},
	{39, "an external sender proposes anything", ".", "TestExternalProposals", []edit{{
		contentFile, "\t\tdefault:\n\t\t\treturn wire.Refuse(wire.RuleExternalProposalType)", "\t\tdefault:",
	}}},
	{39, "an external sender commits", ".", "TestExternalProposals", []edit{{
		contentFile, "// RFC 9420 §12.1.8: external senders propose, and only these types.\n\t\tif c.ContentType != wire.ContentProposal {",
		"if c.ContentType == wire.ContentCommit {\n\t\t\treturn nil\n\t\t}\n\t\tif c.ContentType != wire.ContentProposal {",
	}}},
	{39, "a new member proposes anything", ".", "TestExternalProposals", []edit{off(contentFile, "if c.Proposal.Type != wire.ProposalAdd {")}},
	{39, "a new external sender's credential is not asked for", ".", "TestExternalProposals", []edit{
		off(proposalsFile, "if err := s.rules.Credential(e.Credential, e.SignatureKey, at); err != nil {"),
	}},
	{40, "Adds before Removes", ".", "TestApplyOrder", []edit{{
		applyFile, "\tfor _, i := range p.Removed {\n\t\tp.Tree = p.Tree.Remove(i)\n\t}\n", "\tdefer func() {\n\t\tfor _, i := range p.Removed {\n\t\t\tp.Tree = p.Tree.Remove(i)\n\t\t}\n\t}()\n",
	}}},
	{40, "Adds in reverse order", ".", "TestApplyOrder", []edit{{
		applyFile, "for _, kp := range p.Packages {", "for n := range p.Packages {\n\t\tkp := p.Packages[len(p.Packages)-1-n]",
	}}},
	{40, "Adds beside the last leaf", ".", "TestApplyOrder", []edit{{
		changeFile, "if n.left.members < 1<<(x.Level()-1) {", "if n.right.members == 1<<(x.Level()-1) {",
	}}},
	{41, "no path though a proposal requires one", ".", "TestPathRequired", []edit{{
		pathFile, "\t\tif p.PathRequired {\n", "\t\tif false {\n",
	}}},
	{41, "no path for an empty list", ".", "TestPathRequired", []edit{{applyFile, "p.PathRequired = len(p.Proposals) == 0", "p.PathRequired = false"}}},
	{41, "no path for a Remove", ".", "TestPathRequired", []edit{{
		"internal/wire/proposal.go", "return p.Type != ProposalAdd &&", "return p.Type != ProposalRemove && p.Type != ProposalAdd &&",
	}}},
	{41, "no path for an Update", ".", "TestPathRequired", []edit{{
		"internal/wire/proposal.go", "return p.Type != ProposalAdd &&", "return p.Type != ProposalUpdate && p.Type != ProposalAdd &&",
	}}},
	{41, "no path for GroupContextExtensions", ".", "TestPathRequired", []edit{{
		"internal/wire/proposal.go", "return p.Type != ProposalAdd &&", "return p.Type != ProposalGroupContextExtensions && p.Type != ProposalAdd &&",
	}}},
	{42, "a key package of another suite or version", ".", "TestKeyPackageRules", []edit{off(leafFile, "if p.Version != wire.MLS10 || p.Suite != s.ID() {")}},
	{42, "a key package's leaf of any source", ".", "TestKeyPackageRules", []edit{off(leafFile, "if p.Leaf.Source != wire.SourceKeyPackage {")}},
	{42, "an invalid init key", ".", "TestKeyPackageRules", []edit{{
		leafFile, "if s.CheckPublicKey(p.InitKey) != nil || bytes.Equal(", "if bytes.Equal(",
	}}},
	{42, "an init key that is the leaf's", ".", "TestKeyPackageRules", []edit{{
		leafFile, "if s.CheckPublicKey(p.InitKey) != nil || bytes.Equal(p.InitKey, p.Leaf.EncryptionKey) {", "if s.CheckPublicKey(p.InitKey) != nil {",
	}}},
	{42, "a key package with a wrong signature", ".", "TestKeyPackageRules", []edit{
		off(leafFile, "if !s.VerifyWithLabel(p.Leaf.SignatureKey, \"KeyPackageTBS\", p.TBS(), p.Signature) {"),
	}},
	{42, "a key package extension twice", ".", "TestKeyPackageRules", []edit{off(leafFile, "if wire.DuplicateExtension(p.Extensions) {")}},
	{42, "a lifetime that is over", ".", "TestKeyPackageRules", []edit{{leafFile, "if t < v.NotBefore || t > v.NotAfter {", "if t < v.NotBefore {"}}},
	{42, "a lifetime that has not begun", ".", "TestKeyPackageRules", []edit{{leafFile, "if t < v.NotBefore || t > v.NotAfter {", "if t > v.NotAfter {"}}},
	{42, "a lifetime of any length", ".", "TestKeyPackageRules", []edit{
		off(leafFile, "if l.MaxLifetime >= 0 && v.NotAfter-v.NotBefore > uint64(l.MaxLifetime) {"),
	}},
	{42, "the last second of a lifetime is not in it", ".", "TestKeyPackageRules", []edit{{
		leafFile, "if t < v.NotBefore || t > v.NotAfter {", "if t < v.NotBefore || t >= v.NotAfter {",
	}}},
	{42, "key packages by value are not checked", ".", "TestKeyPackageRules", []edit{
		off(prepareFile, "if err := plan.checkPackages(now); err != nil {"),
	}},
	{43, "a leaf with a wrong signature", ".", "TestLeafRules", []edit{
		off(leafFile, "if !s.VerifyWithLabel(leaf.SignatureKey, \"LeafNodeTBS\", leaf.TBS(groupID, i), leaf.Signature) {"),
	}},
	{43, "a leaf signed for any group", ".", "TestLeafRules", []edit{{
		"internal/wire/leaf.go", "\tb = codec.AppendVector(b, groupID)\n\treturn binary", "\t_ = groupID\n\treturn binary",
	}}},
	{43, "a leaf signed for any place", ".", "TestLeafRules", []edit{{
		"internal/wire/leaf.go", "\treturn binary.BigEndian.AppendUint32(b, uint32(leaf))", "\t_ = binary.BigEndian\n\treturn b",
	}}},
	{43, "a leaf extension that is not listed", ".", "TestLeafRules", []edit{off(leafFile, "if !caps.SupportsExtension(e.Type) {")}},
	{43, "a leaf extension twice", ".", "TestLeafRules", []edit{off(leafFile, "if wire.DuplicateExtension(leaf.Extensions) {")}},
	{43, "a leaf that does not list its version", ".", "TestLeafRules", []edit{{
		leafFile, "if !slices.Contains(caps.Versions, wire.MLS10) || !slices.Contains(caps.Suites, s.ID()) {", "if !slices.Contains(caps.Suites, s.ID()) {",
	}}},
	{43, "a leaf that does not list its suite", ".", "TestLeafRules", []edit{{
		leafFile, "if !slices.Contains(caps.Versions, wire.MLS10) || !slices.Contains(caps.Suites, s.ID()) {", "if !slices.Contains(caps.Versions, wire.MLS10) {",
	}}},
	{43, "a leaf that does not list its credential type", ".", "TestLeafRules", []edit{
		off(leafFile, "if !caps.SupportsCredential(leaf.Credential.Type) {"),
	}},
	{43, "a leaf with an invalid encryption key", ".", "TestLeafRules", []edit{{
		leafFile, "|| s.CheckPublicKey(leaf.EncryptionKey) != nil {", "{",
	}}},
	{44, "a leaf that does not support the others' credential types", ".", "TestCredentialTypesBothWays", []edit{
		off(leafFile, "if !t.SupportsCredentials(leaf) {"),
	}},
	{44, "a leaf whose credential type others do not support", ".", "TestCredentialTypesBothWays", []edit{
		off(leafFile, "if !t.EveryCapabilities(func(caps *wire.Capabilities) bool { return caps.SupportsCredential(c) }) {"),
	}},
	{44, "a joiner does not look at credential types", ".", "TestCredentialTypesBothWays", []edit{
		off(infoFile, "if !c.SupportsCredential(t) {"),
	}},
	{45, "an encryption key twice", ".", "TestUniqueKeys", []edit{off(leafFile, "if t.EncryptionKeys(leaf.EncryptionKey) != 1 {")}},
	{45, "a signature key twice", ".", "TestUniqueKeys", []edit{off(leafFile, "if t.SignatureKeys(leaf.SignatureKey) != 1 {")}},
	{45, "an encryption key twice in a tree that was sent", ".", "TestUniqueKeys", []edit{off(validateFile, "if !t.encryption.all(once) {")}},
	{45, "a signature key twice in a tree that was sent", ".", "TestUniqueKeys", []edit{off(validateFile, "if !t.signature.all(once) {")}},
	{45, "parents' keys are not counted", ".", "TestUniqueKeys", []edit{{
		"internal/tree/tree.go", "\tt.encryption = count(t.encryption, p.EncryptionKey, delta)", "\t_ = count(t.encryption, p.EncryptionKey, delta)",
	}}},
	{46, "an Update's leaf of any source", ".", "TestReplacedLeaf", []edit{off(leafFile, "if leaf.Source != wire.SourceUpdate {")}},
	{46, "a path's leaf of any source", ".", "TestReplacedLeaf", []edit{off(pathFile, "if leaf.Source != wire.SourceCommit {")}},
	{46, "a new leaf with the old encryption key", ".", "TestReplacedLeaf", []edit{
		off(leafFile, "if bytes.Equal(old.EncryptionKey, next.EncryptionKey) {"),
	}},
	{46, "Rules.Successor is not asked", ".", "TestReplacedLeaf", []edit{off(leafFile, "if err := s.rules.Successor(old, next); err != nil {")}},
	{47, "a path with too few or too many nodes", ".", "TestPathShape", []edit{{
		pathFile, "\tif len(p.Steps) != len(p.Path.Nodes) {", "\tif len(p.Steps) < len(p.Path.Nodes) {\n\t\tp.Path.Nodes = p.Path.Nodes[:len(p.Steps)]\n\t}\n\tif false {",
	}}},
	{47, "a path with any number of ciphertexts", ".", "TestPathShape", []edit{
		off(pathFile, "if len(n.Secrets) != p.Tree.ResolutionSize(p.Steps[k].Copath, p.Added) {"),
	}},
	{47, "ciphertexts for the leaves added now", ".", "TestPathShape", []edit{{
		pathFile, "p.Tree.ResolutionSize(p.Steps[k].Copath, p.Added) {", "p.Tree.ResolutionSize(p.Steps[k].Copath, nil) {",
	}}},
	{48, "a path key twice in the path", ".", "TestPathKeysFresh", []edit{{pathFile, "if fresh[string(key)] || p.Tree", "if p.Tree"}}},
	{48, "a path key of a node in the tree", ".", "TestPathKeysFresh", []edit{{pathFile, "p.Tree.EncryptionKeys(key) != 0 || ", ""}}},
	{48, "an invalid path key", ".", "TestPathKeysFresh", []edit{{pathFile, " || p.Old.suite.CheckPublicKey(key) != nil {", " {"}}},
	{48, "a leaf key of a node in the tree", ".", "TestPathKeysFresh", []edit{off(pathFile, "if p.Tree.EncryptionKeys(p.Path.Leaf.EncryptionKey) != 0 {")}},
	{48, "a path key that is the leaf's", ".", "TestPathKeysFresh", []edit{{
		pathFile, "fresh := map[string]bool{string(p.Path.Leaf.EncryptionKey): true}", "fresh := map[string]bool{}",
	}}},
	{49, "any parent hash in the path's leaf", ".", "TestPathParentHash", []edit{off(pathFile, "if !bytes.Equal(leafHash, p.Path.Leaf.ParentHash) {")}},
	{50, "derived keys are not compared", "member", "TestPathKeysMatch", []edit{{keysFile, "if err != nil || !bytes.Equal(public, publics[i]) {", "if err != nil || len(publics) <= i {"}}},
	{50, "only the lowest derived key is compared", "member", "TestPathKeysMatch", []edit{{
		keysFile, "if err != nil || !bytes.Equal(public, publics[i]) {", "if err != nil || i == 0 && !bytes.Equal(public, publics[i]) {",
	}}},
	{51, "the confirmation tag is not compared", "member", "TestTags", []edit{
		off(receiveFile, "if !s.VerifyMAC(e.secrets.Confirmation, p.NewContext.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {"),
	}},
	{51, "the membership tag is not compared", "member", "TestTags", []edit{{
		unprotectFile, "if m.Content.Sender.Type == wire.SenderMember &&", "if false && m.Content.Sender.Type == wire.SenderMember &&",
	}}},
	{51, "the confirmation tag is over the old transcript", "member", "TestTags", []edit{
		{receiveFile, "p.NewContext.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {", "p.Old.Context().ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {"},
		{buildFile, "st.MAC(e.secrets.Confirmation, p.NewContext.ConfirmedTranscriptHash)", "st.MAC(e.secrets.Confirmation, p.Old.Context().ConfirmedTranscriptHash)"},
	}},
	{51, "a tag is compared as far as it goes", "member", "TestTags", []edit{{
		kdfFile, "return subtle.ConstantTimeCompare(s.MAC(key, parts...), tag) == 1", "return subtle.ConstantTimeCompare(s.MAC(key, parts...)[:min(len(tag), s.HashSize())], tag) == 1",
	}}},
	{52, "a wrong signature", ".", "TestCommitSignature", []edit{
		off(contentFile, "if !s.suite.VerifyParts(key, \"FramedContentTBS\", a.Auth.Signature, c.TBSParts(a.Format, s.context.Raw())...) {"),
	}},
	{52, "the new leaf's key signs the commit", ".", "TestCommitSignature", []edit{{
		contentFile, "\t\t\treturn leaf.SignatureKey, nil", "\t\t\tif c.Commit != nil && c.Commit.Path != nil {\n\t\t\t\tleaf = c.Commit.Path.Leaf\n\t\t\t}\n\t\t\treturn leaf.SignatureKey, nil",
	}}},
	{52, "a sender of any leaf", ".", "TestCommitSignature", []edit{{
		contentFile, "s.tree.Leaf(wire.LeafIndex(c.Sender.Index)); leaf != nil {", "s.tree.Leaf(0); leaf != nil {",
	}}},
	{53, "a leaf of any source", ".", "TestExternalCommitRules", []edit{off(pathFile, "if leaf.Source != wire.SourceCommit {")}},
	{53, "a leaf with a wrong signature", ".", "TestExternalCommitRules", []edit{
		off(pathFile, "if err := checkLeaf(s.suite, leaf, s.context.GroupID, p.Committer); err != nil {"),
	}},
	{53, "the joiner is not at the leftmost blank leaf", ".", "TestExternalCommitRules", []edit{{
		changeFile, "if n.left.members < 1<<(x.Level()-1) {", "if n.right.members == 1<<(x.Level()-1) {",
	}}},
	{53, "a member sends an ExternalInit", ".", "TestExternalCommitRules", []edit{
		{listFile, "\t\tcase wire.ProposalExternalInit:\n\t\t\treturn wire.Refuse(wire.RuleExternalInit)\n", ""},
		{proposalsFile, "\t\treturn wire.Refuse(wire.RuleExternalInit)\n", ""},
	}},
	{53, "a reference in an external commit", ".", "TestExternalCommitProposals", []edit{off(proposalsFile, "if sender.Type == wire.SenderNewMemberCommit {")}},
	{53, "an external commit without a path", ".", "TestPathRequired", []edit{off(contentFile, "if c.Commit.Path == nil {")}},
	{53, "the init secret is the group's own", "member", "TestFalseExternalPub", []edit{off(receiveFile, "if p.External {")}},
	{54, "the leaves of a commit are not held against the group", ".", "TestTreeValidAfterCommit", []edit{
		off(prepareFile, "if err := p.checkLeaves(); err != nil {"),
	}},
	{54, "a removed leaf's parents stay", ".", "TestTreeValidAfterCommit", []edit{{
		changeFile, "\t\t\tt.setLeaf(n, leaf)\n\t\t} else {\n\t\t\tt.setParent(n, nil)\n\t\t}", "\t\t\tt.setLeaf(n, leaf)\n\t\t} else if n.parent != nil && x.Level() > 1 {\n\t\t\tt.setParent(n, nil)\n\t\t}",
	}}},
	{54, "an added leaf is not unmerged above", ".", "TestTreeValidAfterCommit", []edit{{
		changeFile, "\t\tcase n.parent != nil:\n\t\t\tp := *n.parent", "\t\tcase n.parent != nil && x.Level() == 1:\n\t\t\tp := *n.parent",
	}}},
}
